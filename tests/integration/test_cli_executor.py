"""The command line against a running node, as a person or a script uses it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support import commands
from support.commands import Chargehand, Done
from support.nodes import StartNode
from support.programs import until, write_config
from support.server import Server, free_port


@pytest.fixture
def chargehand(start_node: StartNode) -> Chargehand:
    node = start_node("node-a")
    node.until_whole()
    return partial(commands.chargehand, config=node.config)


def parsed(done: Done) -> Any:
    return json.loads(done.stdout)


def test_submit_show_list_status(chargehand: Chargehand) -> None:
    done = chargehand("submit", "fan_out", "width=5", "--wait")
    assert done.returncode == 0, done.stderr
    first, output = done.stdout.splitlines()
    plan = first.split()[0]
    assert " succeeded after " in first
    assert output == "10"

    shown = chargehand("plan", "show", plan, "--output").stdout
    assert "action     fan_out" in shown
    assert "steps      6 (6 succeeded)" in shown
    view = parsed(chargehand("plan", "show", plan, "--json"))
    assert [step["state"] for step in view["steps"]] == ["succeeded"] * 6
    assert view["steps"][5]["result"]["output"] == 10

    assert plan in chargehand("plan", "list").stdout
    assert [one["plan"] for one in parsed(chargehand("plan", "list", "--json"))] == [plan]
    assert chargehand("plan", "list", "--state", "paused").stdout == "no plans that are paused\n"

    done = chargehand("status")
    assert done.returncode == 0
    assert "held by node-a, epoch 1, since " in done.stdout
    assert "0/5" in done.stdout
    census = parsed(chargehand("status", "--json"))
    assert census["executor"]["holder"] == "node-a"
    kinds = {one["member"]["child"]: one["member"]["role"] for one in census["executor"]["members"]}
    assert kinds == {"orchestrator": "active", "worker": "working"}
    assert census["agent"]["state"] == "active"


def test_failure_is_told_and_resumed(chargehand: Chargehand, place: Path) -> None:
    done = chargehand("submit", "fails_until", f"path={place}/flag", "--wait")
    assert done.returncode == 1
    plan = done.stdout.split()[0]
    assert " paused after " in done.stdout
    assert f"FileNotFoundError: {place}/flag is not there yet" in done.stdout
    (place / "flag").touch()
    assert chargehand("plan", "resume", plan).returncode == 0
    until("it succeeds", lambda: parsed(chargehand("plan", "show", plan, "--json"))["state"] == "succeeded")
    again = chargehand("plan", "resume", plan)
    assert again.returncode == 1
    assert again.stderr == f"chargehand: plan {plan} is succeeded: only a paused plan can be resumed\n"


def test_node_and_key(chargehand: Chargehand) -> None:
    assert chargehand("submit", "where", "--node", "node-a", "--wait").stdout.splitlines()[1] == '"node-a"'
    first = chargehand("submit", "where", "--key", "once").stdout
    assert chargehand("submit", "where", "--key", "once").stdout == first
    assert parsed(chargehand("submit", "where", "--key", "once", "--json"))["plan"] == first.strip()


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("submit", "nope"), 1, "there is no action 'nope' (known: "),
        (("submit", "nap"), 1, "action 'nap' needs the parameter 'seconds'"),
        (("submit", "nap", "seconds"), 2, "'seconds' is not NAME=VALUE"),
        (("submit", "nap", "seconds=long"), 1, "action 'nap', parameter 'seconds': Expected `float`, got `str`"),
        (("submit", "add", "numbers=[1,"), 2, "numbers: '[1,' begins like JSON and is none"),
        (("submit", "nap", "seconds=1", "hours=2"), 1, "action 'nap' has no parameter 'hours' (it takes: seconds)"),
        (("submit", "chain", "length=3", "--node", "node-a"), 1, "plans its steps itself: --node is for"),
        (("submit",), 2, "Missing argument 'ACTION'"),
        (("plan", "show", "nope"), 1, "there is no plan 'nope'"),
        (("plan", "resume", "nope"), 1, "there is no plan 'nope'"),
        (("plan", "list", "--state", "odd"), 2, "'odd' is not one of"),
        (("plan", "list", "--most", "many"), 2, "'many' is not a valid integer"),
        (("stauts",), 2, 'did you mean "status"?'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_everything_typed_wrongly_gives_a_clear_line(
    place: Path, server: Server, words: tuple[str, ...], code: int, line: str
) -> None:
    done = commands.chargehand(*words, config=write_config(place, server.url, node="node-a"))
    assert done.returncode == code
    assert line in done.stderr
    assert done.stdout == ""


def test_redis_unreachable(place: Path) -> None:
    port = free_port()
    run = partial(commands.chargehand, config=write_config(place, f"redis://127.0.0.1:{port}/0", node="node-a"))
    done = run("plan", "list")
    assert (done.returncode, done.stderr) == (
        1,
        f"chargehand: Redis unreachable: 127.0.0.1:{port}: Connection refused\n",
    )
    done = run("status")
    assert done.returncode == 2
    assert f"Redis unreachable: 127.0.0.1:{port}: Connection refused" in done.stdout
    assert "no agent runs on this node" in done.stdout


def test_nobody_is_active(place: Path, server: Server) -> None:
    done = commands.chargehand("status", config=write_config(place, server.url, node="node-a"))
    assert done.returncode == 1
    assert "free: no orchestrator is active" in done.stdout
