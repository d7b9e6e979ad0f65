"""Redis has no memory left: new plans are refused with the reason, all else goes on until what is there is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chargehand.client import Client, SubmitRefused
from chargehand.plan.life import PlanState
from chargehand.store import lease
from chargehand.store.connection import Full
from chargehand.store.keys import Keys
from support.faults import chains, counted_once, lines_of, nothing_left
from support.programs import Program, until
from support.server import Server

KEYS = Keys("default")
Start = Callable[..., Program]


def fill_up(server: Server) -> None:
    """As an operator's limit makes it."""
    line = server.line()
    line.call("CONFIG", "SET", "maxmemory", "100kb")
    with pytest.raises(Full):
        line.call("SET", "more", "x")
    line.close()


def make_room(server: Server) -> None:
    server.line().call("CONFIG", "SET", "maxmemory", "0")


def refused(client: Client) -> str:
    plan = client.plan("one more")
    plan.add("nothing")
    with pytest.raises(SubmitRefused) as caught:
        client.submit(plan, key="one more")
    return str(caught.value)


def test_submissions_are_refused_and_all_else_drains(
    start_program: Start, client: Client, server: Server, place: Path
) -> None:
    """For longer than a silent worker is believed alive, and than a lease."""
    orchestrator = start_program("orchestrator")
    orchestrator.role("active")
    workers = [start_program("worker", node=node).ready() for node in ("node-a", "node-b")]
    plans = chains(client, place / "lines", 4, 7, seconds=2.0)
    until("they run", lambda: len(lines_of(place / "lines")) == 4)
    fill_up(server)
    assert refused(client) == (
        f"127.0.0.1:{server.port}: out of memory (maxmemory reached): it takes new plans again when there is room"
    )
    orchestrator.until(
        "says so",
        lambda fields: (
            fields.get("X_CHARGEHAND_DEGRADED") == "Redis is full: new plans are refused, what is there goes on"
        ),
    )
    for plan in plans:
        assert client.wait(plan, 60) is PlanState.SUCCEEDED
    line = server.line()
    counted_once(line, KEYS, plans)
    nothing_left(line, KEYS)
    assert set(lines_of(place / "lines").values()) == {1}, "no worker was taken for dead"
    for program in (orchestrator, *workers):
        assert "X_CHARGEHAND_REDIS" not in program.fields, "nobody waited for it"
        assert "reaped" not in program.log.read_text()
    make_room(server)
    orchestrator.until("is well again", lambda fields: fields.get("X_CHARGEHAND_DEGRADED") == "")
    again = client.plan("one more")
    again.add("nothing")
    assert client.wait(client.submit(again, key="one more"), 30) is PlanState.SUCCEEDED


@pytest.mark.parametrize("reported", [True, False], ids=["death-reported", "by-expiry"])
def test_a_takeover_while_it_is_full(
    start_program: Start, client: Client, server: Server, place: Path, reported: bool
) -> None:
    first = start_program("orchestrator", node="node-a")
    first.role("active")
    second = start_program("orchestrator", node="node-b")
    second.role("passive")
    worker = start_program("worker", node="node-a").ready()
    plans = chains(client, place / "lines", 2, 5, seconds=0.5)
    until("they run", lambda: len(lines_of(place / "lines")) == 2)
    fill_up(server)
    first.kill()
    worker.kill()
    if reported:
        for one in (first, worker):
            lease.report_death(server.line(), KEYS, one.incarnation)
    second.role("active")
    start_program("worker", node="node-b").ready()
    for plan in plans:
        assert client.wait(plan, 60) is PlanState.SUCCEEDED
    counted_once(server.line(), KEYS, plans)


def test_started_when_it_is_full_already(start_program: Start, client: Client, server: Server, place: Path) -> None:
    plans = chains(client, place / "lines", 1, 3)
    fill_up(server)
    start_program("orchestrator").role("active")
    start_program("worker").ready()
    assert client.wait(plans[0], 30) is PlanState.SUCCEEDED
    assert refused(client)


def test_an_eviction_policy_that_takes_the_lease_is_told(start_program: Start, server: Server) -> None:
    line = server.line()
    line.batch([("CONFIG", "SET", "maxmemory", "1gb"), ("CONFIG", "SET", "maxmemory-policy", "volatile-lru")])
    orchestrator = start_program("orchestrator")
    orchestrator.role("active")
    assert orchestrator.fields["X_CHARGEHAND_DEGRADED"] == (
        "Redis evicts keys (maxmemory-policy volatile-lru), the lease first: set noeviction"
    )


def test_a_server_without_config_and_info_will_do(start_program: Start, client: Client, server: Server) -> None:
    """As some that are rented are."""
    server.line().call("ACL", "SETUSER", "default", "-config", "-info", "-debug")
    orchestrator = start_program("orchestrator")
    orchestrator.role("active")
    start_program("worker").ready()
    plan = client.plan("some")
    plan.add("nothing")
    assert client.wait(client.submit(plan), 30) is PlanState.SUCCEEDED
    assert not orchestrator.fields.get("X_CHARGEHAND_DEGRADED")
