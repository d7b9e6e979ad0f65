"""What a child started ends with it: also what left its process group, and what an agent that was killed left."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.linux import tree
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from support.nodes import Node, StartNode
from support.others import pids
from support.programs import lives, until

#: A command whose own child ignores SIGTERM, and one whose child leaves the session. A stop waits for neither.
STAY = """
stop_timeout = "500ms"
[[action]]
name = "stay"
argv = ["/bin/sh", "-c", "trap '' TERM; sleep 1000 & echo $! >> {path}; wait; sleep 1000"]
params.path = { type = "string" }

[[action]]
name = "leave"
argv = ["/bin/sh", "-c", "setsid sh -c 'sleep 1000 & echo $! >> {path}; wait' & sleep 1000"]
params.path = { type = "string" }
"""


def submit(node: Node, action: str, path: Path) -> str:
    settings = load(node.config).settings
    with Client(settings, load_actions(settings).actions) as client:
        plan = client.plan(action)
        plan.add(action, path=str(path))
        return client.submit(plan)


@pytest.mark.parametrize("action", ["stay", "leave"])
def test_nothing_of_a_killed_worker_runs_beside_its_successor(start_node: StartNode, place: Path, action: str) -> None:
    """The step runs again only when nothing of its first attempt is left."""
    node = start_node("node-a", extra=STAY)
    node.until_whole()
    submit(node, action, place / "pids")
    until("it runs", lambda: pids(place / "pids"))
    (first,) = pids(place / "pids")
    assert lives(first)
    node.kill_child("worker")
    until("it runs again", lambda: len(pids(place / "pids")) == 2)
    assert not lives(first)
    second = pids(place / "pids")[1]
    assert lives(second)
    assert node.stop() == 0
    assert not lives(second)


def test_what_a_killed_agent_left_is_ended_by_the_next(start_node: StartNode, place: Path) -> None:
    """The kernel ends the children and their commands; what those had started waits for the agent's successor."""
    node = start_node("node-a", extra=STAY)
    node.until_whole()
    submit(node, "stay", place / "pids")
    until("it runs", lambda: pids(place / "pids"))
    (first,) = pids(place / "pids")
    node.kill()
    until("no child lives", lambda: node.processes() == [], timeout=5.0)
    node.start()
    until("it runs again", lambda: len(pids(place / "pids")) == 2)
    assert not lives(first)
    assert node.stop() == 0
    assert not any(map(lives, pids(place / "pids")))


def test_stop_ends_what_ignores_it(start_node: StartNode, place: Path) -> None:
    node = start_node("node-a", extra=STAY)
    node.until_whole()
    submit(node, "leave", place / "pids")
    until("it runs", lambda: pids(place / "pids"))
    assert node.stop() == 0
    assert not any(map(lives, pids(place / "pids")))


def test_a_time_out_ends_what_left_the_commands_group(start_node: StartNode, place: Path) -> None:
    """Before the next attempt starts, and while the worker lives on."""
    node = start_node(
        "node-a",
        extra=STAY.replace(
            'name = "leave"', 'name = "leave"\ntimeout = "700ms"\nretry = { attempts = 2, backoff = "1ms" }'
        ),
    )
    node.until_whole()
    worker = node.child("worker")["pid"]
    submit(node, "leave", place / "pids")
    until("the second attempt runs", lambda: len(pids(place / "pids")) == 2)
    first, second = pids(place / "pids")
    assert not lives(first)
    until("the second has ended too", lambda: not lives(second))
    assert node.child("worker")["pid"] == worker


def test_marks_are_exact() -> None:
    """Neither a longer name, nor a value that begins alike, nor the mark in an argument is one."""
    env = {"PATH": "/usr/bin:/bin", tree.MARK: "f00d", "X_" + tree.MARK: "beef"}
    with subprocess.Popen(["sleep", "1000"], env=env) as process:
        try:
            until("it is seen", lambda: tree.marked({"f00d"}))
            assert tree.marked({"f00d", "beef"}) == {process.pid: "f00d"}
            assert tree.marked({"f00"}) == tree.marked({"beef"}) == tree.marked(set()) == {}
            born = tree.birth(process.pid)
            assert born
        finally:
            tree.kill(process.pid)
            until("it is a zombie", lambda: not tree.birth(process.pid))
    assert tree.marked({"f00d"}) == {}
    tree.kill(process.pid)  # has ended: nothing happens
    assert tree.birth(1)
    assert tree.birth(1) != born


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_orchestrator_that_dies_frees_the_lease_at_once(
    start_node: StartNode, client: Client, number: signal.Signals
) -> None:
    """By death notice, through the worker: long before the lease (a minute here) would run out."""
    node = start_node("node-a", lease='ttl = "60s", renew = "10s"')
    node.until_whole()
    node.kill_child("orchestrator", number)
    node.until_status("active (epoch 2)", timeout=10.0)
    assert re.search(rf"orchestrator crashed once at \d\d:\d\d, last: killed by {number.name}", node.status)
    node.until_logged("death_delivered")
    plan = client.plan("after")
    plan.add("echo", value=1)
    assert client.wait(client.submit(plan), 10) is PlanState.SUCCEEDED


def test_last_words_come_with_the_end(start_node: StartNode, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that says why and exits in the same moment."""
    node = start_node("node-a")
    node.until_whole()
    node.stop()
    (place / "says_why.py").write_text(
        "import glob, os, socket\n"
        "[path] = glob.glob(os.environ['CH_RUN'] + '/worker.*.notify')\n"
        "with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:\n"
        "    out.sendto(b'X_CHARGEHAND_ERROR=no licence was found', path)\n"
        "os._exit(3)\n"
    )
    text = node.config.read_text().replace('"site_actions"', '"says_why"').replace("path = [", f'path = ["{place}", ')
    node.config.write_text(text)
    monkeypatch.setenv("CH_RUN", str(node.runtime_dir))
    node.start()
    node.until("its last words", lambda node: 'last: exit 3 "no licence was found"' in node.status)
