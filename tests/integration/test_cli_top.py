"""`chargehand top` and `status` in a real terminal: at its width, without colour, while Redis is away."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.registry import load_actions
from support import commands
from support.nodes import Node, StartNode
from support.plans import submit
from support.programs import StartProgram, freeze, thaw, until, write_config
from support.server import Server, free_port
from support.terminal import Terminal

GROUPS = """
[[worker]]
name = "worker"
queues = ["default"]
[[worker]]
name = "remote-execution"
queues = ["remote_execution_on_many_hosts", "another_queue_with_a_long_name", "default"]
threads = 3
"""

COUNTED = {"fails_until": 3, "nothing": 1}
LEASE = 'ttl = "30s", renew = "1s"'  # the first one stays active, however slow the machine is

#: The colour of what is written. (Bold and dim are no colours.)
COLOUR = re.compile(rb"\x1b\[[0-9;]*(3[0-7]|38;|9[0-7])[0-9;]*m")

Open = Callable[..., Terminal]


@pytest.fixture
def config(place: Path, server: Server) -> Path:
    return write_config(place, server.url, node="node-a")


@pytest.fixture
def terminal(config: Path) -> Iterator[Open]:
    opened: list[Terminal] = []

    def start(*words: str | Path, **more: object) -> Terminal:
        opened.append(Terminal("--config", config, *words, **more))  # type: ignore[arg-type]
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def executor(start_program: StartProgram, client: Client) -> None:
    """Two nodes, three workers, work that went well and work that did not."""
    start_program("orchestrator", node="first.example.com", lease=LEASE).role("active")
    start_program("orchestrator", node="second.example.com", lease=LEASE).role("passive")
    start_program("worker", "--group", "worker", node="first.example.com", extra=GROUPS).ready()
    start_program("worker", "--group", "remote-execution", node="first.example.com", extra=GROUPS).ready()
    start_program("worker", "--group", "worker", node="second.example.com", extra=GROUPS).ready()
    for number in range(3):
        client.wait(submit(client, "fails_until", path=f"/nowhere/{number}"), 60)
    client.wait(submit(client, "nothing"), 60)
    submit(client, "urgent", path="/dev/null", text="x")
    until("it is counted", lambda: {one.name: one.done + one.failed for one in client.stats().actions} == COUNTED)
    until("the queue is known", lambda: "urgent" in client.census().queues)


def frozen(server: Server) -> None:
    freeze(server.pid)


def thawed(server: Server) -> None:
    thaw(server.pid)


@pytest.mark.usefixtures("executor")
def test_live_with_keys_and_sizes(terminal: Open, client: Client) -> None:
    top = terminal("top")
    top.until("whole", lambda text: "fails_until" in text and "CAUSE" in text)
    lines = top.lines
    assert lines[0].startswith("chargehand top  executor default  ")
    assert lines[0].endswith("q leaves")
    assert lines[1].startswith("lease    held by first.example.com, epoch 1, since ")
    assert "1 passive: second" in top.text
    assert "1 step waits in queue urgent, which no worker serves" in top.text
    assert re.search(
        r"^\d\d:\d\d:\d\d +3  fails_until  FileNotFoundError: PATH is not there yet$", top.text, re.MULTILINE
    )
    assert re.search(r"^nothing +1 +0 ", top.text, re.MULTILINE)
    assert COLOUR.search(top.said)
    top.resize(80, 16)
    top.until("small", lambda text: re.search(r"^… \d+ more$", text, re.MULTILINE))
    top.resize(40, 5)
    top.until("tiny", lambda text: "NODE" not in text and "epoch 1" in text)
    top.resize(160, 50)
    top.until("wide", lambda text: "remote_execution_on_many_hosts,another_queue_with_a_long_name" in text)
    client.wait(submit(client, "nothing"), 60)
    top.until("it goes on", lambda text: re.search(r"^nothing +2 +0 ", text, re.MULTILINE))
    top.press("x")
    top.press("q")
    assert top.end() == 0
    assert top.as_before
    assert b"Traceback" not in top.said


@pytest.mark.usefixtures("executor")
def test_redis_goes_away_and_comes_back(terminal: Open, server: Server) -> None:
    top = terminal("top")
    top.until("whole", lambda text: "fails_until" in text)
    frozen(server)
    try:
        top.until("it says so", lambda text: "does not answer since " in text)
        assert "was known before" in " ".join(top.text.split())
        assert "fails_until" in top.text
    finally:
        thawed(server)
    top.until("it is back", lambda text: "does not answer" not in text and "fails_until" in text)
    frozen(server)
    try:
        top.until("away again", lambda text: "does not answer since " in text)
        top.press("q")
        assert top.end() == 0, "a key is heard all the same"
    finally:
        thawed(server)
    assert top.as_before


def test_redis_was_never_there(place: Path, terminal: Open) -> None:
    port = free_port()
    config = write_config(place, f"redis://127.0.0.1:{port}/0", node="node-x")
    top = terminal("top", "--config", config)
    top.until("it says so", lambda text: "Connection refused" in " ".join(text.split()))
    top.press("\x03")
    assert top.end() == 0
    done = commands.chargehand("top", "--once", config=config)
    assert done.returncode == 2
    assert f"Redis unreachable: 127.0.0.1:{port}: Connection refused" in done.stdout


@pytest.mark.usefixtures("executor")
def test_without_colour_without_terminal(terminal: Open, config: Path) -> None:
    plain = terminal("top", variables={"NO_COLOR": "1"})
    plain.until("whole", lambda text: "fails_until" in text)
    plain.press("q")
    assert plain.end() == 0
    assert not COLOUR.search(plain.said)

    latin = terminal("top", lines=16, variables={"PYTHONIOENCODING": "latin-1"})
    latin.until("whole", lambda text: re.search(r"^\? \d+ more$", text, re.MULTILINE))
    latin.press("q")
    assert latin.end() == 0

    dumb = terminal("top", lines=60, variables={"TERM": "dumb"})
    assert dumb.end() == 0, "once, and it ends"
    assert "lease    held by first.example.com" in dumb.text
    assert b"\x1b" not in dumb.said

    once = terminal("top", "--once", lines=60)
    assert once.end() == 0
    assert "fails_until" in once.text
    assert b"\x1b[?1049h" not in once.said, "below what was there"

    piped = commands.chargehand("top", config=config)
    assert piped.returncode == 0
    assert "remote_execution_on_many_hosts,another_queue_with_a_long_name" in piped.stdout, "all of it"
    assert "\x1b" not in piped.stdout
    told = json.loads(commands.chargehand("top", "--json", config=config).stdout)
    assert told["executor"]["holder"] == "first.example.com"
    assert [one["name"] for one in told["stats"]["actions"]] == ["fails_until", "nothing"]
    assert told["troubles"][0]["count"] == 3


@pytest.mark.usefixtures("executor")
def test_status_fits(terminal: Open) -> None:
    """Each row of a table is a line; what is cut or left out is the least important."""
    for columns in (60, 80, 160):
        fits(terminal, columns)


def fits(terminal: Open, columns: int) -> None:
    shown = terminal("status", columns=columns, lines=60)
    assert shown.end() == 0
    whole = [line for line in shown.lines if line]
    assert "executor default" in whole[0]
    text = " ".join(shown.text.split())
    assert "lease held by first.example.com, epoch 1, since " in text
    assert "1 passive: second" in text
    assert "degraded 1 step waits in queue urgent, which no worker serves" in text
    rows = whole[next(at for at, line in enumerate(whole) if line.startswith("NODE")) :]
    assert [line.split()[:2] for line in rows[1:5]] == [
        ["first", "orchestrator"],
        ["remote-execution", "working"],
        ["worker", "working"],
        ["second", "orchestrator"],
    ]
    assert rows[5].split()[:2] == ["worker", "working"]
    assert rows[6].startswith("QUEUE"), "nothing has wrapped"
    assert all(row.split()[-1] for row in rows[7:10])
    assert ("SINCE" in rows[0]) is (columns >= 80)


def test_status_names_who_is_silent_and_where_nothing_runs(
    start_program: StartProgram, terminal: Open, server: Server
) -> None:
    done = terminal("status", lines=60)
    assert done.end() == 1
    assert "free: no orchestrator is active" in done.text
    worker = start_program("worker", node="node-w").ready()
    worker.kill()
    line = server.line()
    until("its heart is silent", lambda: _silent(server), timeout=60)
    line.close()
    shown = terminal("status", lines=60)
    shown.end()
    assert re.search(r"^node-w +worker +silent ", shown.text, re.MULTILINE)
    assert "degraded node-w worker: not heard for " in shown.text


def _silent(server: Server) -> bool:
    config = server.directory.parent / "node-a.toml"
    told = json.loads(commands.chargehand("status", "--json", config=config).stdout)
    return any(one["silent"] for one in told["executor"]["members"])


def test_a_whole_node_in_a_terminal(start_node: StartNode, terminal: Open) -> None:
    node: Node = start_node("node-a")
    node.until_whole()
    settings = load(node.config).settings
    with Client(settings, load_actions(settings).actions) as client:
        client.wait(submit(client, "nothing"), 60)
    shown = terminal("status", lines=60)
    assert shown.end() == 0
    assert "nobody waits for it: when this one falls, no other takes over" in shown.text
    assert "agent    node-a: active (epoch 1)" in shown.text
    assert all(len(line) <= 80 for line in shown.lines)
