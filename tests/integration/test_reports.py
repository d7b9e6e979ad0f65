"""What steps say while they run, and how far they are: live, bounded, and never in their way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.reports import Report, report
from support.plans import submit
from support.programs import Program, StartProgram, until
from support.server import Server

KEYS = Keys("default")

COMMANDS = """
[[action]]
name = "talks"
argv = ["/bin/sh", "{script}", "{gate}"]
params.script = { type = "string" }
params.gate = { type = "string" }

[[action]]
name = "babbles"
argv = ["/bin/sh", "-c", "yes 'a long line of nothing much' | head -c 5000000"]
"""

TALK = """
echo one
printf tw >&2
echo o >&2
printf 'no end'
until [ -e "$1" ]; do sleep 0.05; done
"""


@pytest.fixture
def extra() -> str:
    return COMMANDS


def said(line: Line, plan: str) -> list[tuple[int, int, str, Any]]:
    """Step, attempt, kind and payload of each entry."""
    answer = line.call("XREAD", "STREAMS", KEYS.said(plan), "0")
    entries = [msgspec.json.decode(fields[1]) for _, fields in answer[0][1]] if answer else []
    return [(step, attempt, kind, payload) for step, attempt, _, kind, payload in entries]


def test_while_it_runs_over_a_takeover(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path, line: Line
) -> None:
    """An orchestrator is not needed for it; the last words are there when the step has ended."""
    name = submit(client, "tells", gate=str(place / "gate"), lines=3)
    until("it has begun", lambda: len(said(line, name)) == 2)
    assert said(line, name) == [(0, 1, "say", "begun"), (0, 1, "progress", [0.5, "half way"])]
    assert msgspec.json.decode(line.call("HGET", KEYS.progress(name), 0))[:2] == [0.5, "half way"]
    orchestrator.kill()
    (place / "gate").touch()
    until("it has ended", lambda: line.call("HLEN", KEYS.outputs(name)) == 1)
    assert said(line, name)[2:] == [
        (0, 1, "say", "line 0"),
        (0, 1, "say", "line 1"),
        (0, 1, "say", "line 2"),
        (0, 1, "progress", [1.0, "done"]),
    ]
    start_program("orchestrator", node="node-b").ready()
    assert client.wait(name, 30) is PlanState.SUCCEEDED


def test_lines_of_a_command(orchestrator: Program, worker: Program, client: Client, place: Path, line: Line) -> None:
    """Line by line, in order; what has no end comes with its end."""
    (place / "talk").write_text(TALK)
    name = submit(client, "talks", script=str(place / "talk"), gate=str(place / "gate"))
    until("it has talked", lambda: len(said(line, name)) == 2)
    assert sorted(said(line, name)) == [(0, 1, "err", "two"), (0, 1, "out", "one")]
    (place / "gate").touch()
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert said(line, name)[2:] == [(0, 1, "out", "no end")]
    assert client.output(name) == {"exit": 0, "stdout": "one\nno end", "stderr": "two\n"}


def test_babble_is_bounded(orchestrator: Program, worker: Program, client: Client, line: Line) -> None:
    """A command that writes 5 MB leaves at most 1 MiB of it, in whole lines, and says what is missing."""
    name = submit(client, "babbles")
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    texts = [payload for _, _, kind, payload in said(line, name) if kind == "out"]
    assert 0 < sum(map(len, texts)) <= 1024 * 1024 + 100
    assert max(map(len, texts)) <= 16 * 1024 + 100
    left_out = [payload for _, _, kind, payload in said(line, name) if "left out" in str(payload)]
    assert left_out


def test_nothing_is_in_the_way_while_redis_is_away(
    orchestrator: Program, worker: Program, client: Client, place: Path, line: Line, server: Server
) -> None:
    """The step goes on and says what it likes; all of it is told when Redis is back.

    What was on its way when Redis died may be told twice.
    """
    name = submit(client, "tells", gate=str(place / "gate"), lines=50)
    until("it has begun", lambda: len(said(line, name)) == 2)
    server.kill()
    (place / "gate").touch()
    until("the worker has noticed", lambda: "Redis unreachable" in worker.log.read_text())
    server.start()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    again = server.line()
    lines = [payload for _, _, kind, payload in said(again, name) if kind == "say"]
    assert list(dict.fromkeys(lines)) == ["begun", *(f"line {number}" for number in range(50))]


def test_full_redis_takes_the_result_without_the_words(
    orchestrator: Program, worker: Program, client: Client, place: Path, line: Line
) -> None:
    name = submit(client, "tells", gate=str(place / "gate"), lines=5)
    until("it has begun", lambda: len(said(line, name)) == 2)
    line.batch([("CONFIG", "SET", "maxmemory-policy", "noeviction"), ("CONFIG", "SET", "maxmemory", "100kb")])
    (place / "gate").touch()
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.output(name) == "told"
    assert len(said(line, name)) == 2


def test_only_of_what_is_owned(line: Line) -> None:
    line.call("HSET", KEYS.own("w1"), "p/0/2", "entry")
    mine = Report("p/0/2", b'[0.5,"",1]', [b'[0,2,1,"say","a"]', b'[0,2,1,"say","b"]'])
    stale = Report("p/0/1", b'[0.9,"",1]', [b'[0,1,1,"say","c"]'])
    assert report(line, KEYS, "w1", [stale, mine]) == [False, True]
    assert report(line, KEYS, "w2", [mine]) == [False]
    assert [payload for _, _, _, payload in said(line, "p")] == ["a", "b"]
    assert line.call("HGETALL", KEYS.progress("p")) == [b"0", b'[0.5,"",1]']


def test_kept_up_to_ten_thousand_a_plan(line: Line) -> None:
    line.call("HSET", KEYS.own("w1"), "p/0/1", "entry")
    for _ in range(30):
        report(line, KEYS, "w1", [Report("p/0/1", b"", [b"x"] * 500)])
    assert 10_000 <= line.call("XLEN", KEYS.said("p")) <= 11_000
    assert line.call("EXISTS", KEYS.progress("p")) == 0
