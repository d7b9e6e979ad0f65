"""Redis' data goes back in time while the leader lives and its lease is intact: it reads again, and every plan ends.

A restart from an older copy cuts every connection. Data can also go back under a connection that lives on (a
replica that was promoted, a proxy in between): then only the commit number tells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from support.faults import chains, counted_once, lines_of, nothing_left
from support.programs import Program, StartProgram, until
from support.server import Server

KEYS = Keys("default")
PLANS, LENGTH = 8, 40

_DUMP = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = {key, redis.call('PTTL', key), redis.call('DUMP', key)}
end
return found
"""


def copy(line: Line) -> Any:
    """All data as it is at this moment."""
    return line.call("EVAL", _DUMP, 0)


def put_back(line: Line, data: Any) -> None:
    """Make all data what it was, at one stroke, under the connections that there are."""
    restored = [("RESTORE", key, max(0, ttl), value) for key, ttl, value in data]
    line.batch([("MULTI",), ("FLUSHALL",), *restored, ("EXEC",)])


@pytest.fixture
def programs(start_program: StartProgram) -> list[Program]:
    orchestrator = start_program("orchestrator", lease='ttl = "20s", renew = "1s"')
    orchestrator.role("active")
    workers = [start_program("worker", node=node).ready() for node in ("node-a", "node-b")]
    return [orchestrator, *workers]


def at_least(lines: Path, steps: int) -> None:
    until(f"{steps} steps have started", lambda: lines_of(lines).total() >= steps)


def all_end(client: Client, line: Line, programs: list[Program], plans: list[str], *, timeout: float = 30.0) -> None:
    for plan in plans:
        assert client.wait(plan, timeout) is PlanState.SUCCEEDED
    nothing_left(line, KEYS)
    counted_once(line, KEYS, plans)
    for program in programs:
        assert program.running
    assert line.call("GET", KEYS.lease) == f"1:{programs[0].incarnation}".encode(), "the lease was intact: it was kept"


def test_restarts_from_older_copies(programs: list[Program], client: Client, server: Server, place: Path) -> None:
    lines = place / "lines"
    plans = chains(client, lines, PLANS, LENGTH, seconds=0.02)
    lost: list[str] = []
    for turn in range(3):
        at_least(lines, 20 + 60 * turn)
        server.snapshot(place / f"copy-{turn}")
        lost += chains(client, place / "lost", 1, 3)
        at_least(lines, 60 + 60 * turn)
        server.kill()
        server.restore(place / f"copy-{turn}")
        server.start()
    line = server.line()
    all_end(client, line, programs, plans)
    assert set(lines_of(lines)) == {f"{plan}/{step}" for plan in range(PLANS) for step in range(LENGTH)}
    for plan in lost:
        assert client.read(plan) is None, "a plan submitted after the copy is not there"
    more = chains(client, place / "more", 2, 3)
    all_end(client, line, programs, [*plans, *more])


def test_under_living_connections(programs: list[Program], client: Client, server: Server, place: Path) -> None:
    lines = place / "lines"
    line = server.line()
    plans = chains(client, lines, PLANS, LENGTH, seconds=0.02)
    for turn in range(3):
        at_least(lines, 20 + 60 * turn)
        data = copy(line)
        at_least(lines, 60 + 60 * turn)
        put_back(line, data)
    all_end(client, line, programs, plans)
    log = programs[0].log.read_text()
    assert log.count("it went back in time") == 3, log
    assert set(lines_of(lines)) == {f"{plan}/{step}" for plan in range(PLANS) for step in range(LENGTH)}


def test_to_before_an_event_was_read(programs: list[Program], client: Client, server: Server, place: Path) -> None:
    """Nothing happens after it: what stands in the inbox again must be read all the same."""
    orchestrator = programs[0]
    line = server.line()
    orchestrator.freeze()
    plans = chains(client, place / "lines", 1, 3)
    data = copy(line)
    assert line.call("XLEN", KEYS.inbox) == 1
    orchestrator.thaw()
    all_end(client, line, programs, plans)
    put_back(line, data)
    all_end(client, line, programs, plans, timeout=8)


def test_to_before_a_step_was_finished(programs: list[Program], client: Client, server: Server, place: Path) -> None:
    """It is owned by its worker again, which has long forgotten it."""
    line = server.line()
    plan = client.plan("one")
    plan.add("note", path=str(place / "lines"), text="once", seconds=0.3)
    name = client.submit(plan)
    at_least(place / "lines", 1)
    data = copy(line)
    all_end(client, line, programs, [name])
    put_back(line, data)
    all_end(client, line, programs, [name])
    assert lines_of(place / "lines") == {"once": 2}
