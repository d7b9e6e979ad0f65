"""One orchestrator is active, whatever befalls it: two of them, with the test as the agent of both."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store import lease
from chargehand.store.keys import Keys
from support.faults import chains, counted_once, lines_of, nothing_left
from support.programs import Program, StartProgram, until, write_config
from support.server import Server

KEYS = Keys("default")
PLANS, LENGTH = 6, 30
LONG_TTL = 'ttl = "60s", renew = "5s"'


@pytest.fixture
def pair(start_program: StartProgram) -> tuple[Program, Program]:
    """The active orchestrator, the passive one; and a worker."""
    first = start_program("orchestrator", node="node-a")
    first.role("active")
    second = start_program("orchestrator", node="node-b")
    second.role("passive")
    start_program("worker", node="node-b").ready()
    return first, second


@pytest.fixture
def work(client: Client, place: Path) -> Callable[[], list[str]]:
    """Submit plans that take a few seconds, and return when they are under way."""

    def start() -> list[str]:
        plans = chains(client, place / "lines", PLANS, LENGTH, seconds=0.1)
        until("they are under way", lambda: len(lines_of(place / "lines")) > PLANS)
        return plans

    return start


def all_end(client: Client, server: Server, place: Path, plans: list[str]) -> None:
    for plan in plans:
        assert client.wait(plan, 40) is PlanState.SUCCEEDED
    line = server.line()
    nothing_left(line, KEYS)
    counted_once(line, KEYS, plans)
    # No worker died: no attempt was lost, whoever was active.
    assert lines_of(place / "lines") == {f"{plan}/{step}": 1 for plan in range(PLANS) for step in range(LENGTH)}


def token(server: Server) -> str:
    found = server.line().call("GET", KEYS.lease)
    return found.decode() if found else ""


def test_passive_says_who_holds_the_lock(pair: tuple[Program, Program], server: Server) -> None:
    first, second = pair
    assert token(server) == f"1:{first.incarnation}"
    assert first.fields["STATUS"].startswith("active (epoch 1)")
    assert second.fields["STATUS"] == "passive (waiting on lock, held by node-a, epoch 1)"
    assert second.fields["X_CHARGEHAND_HOLDER"] == "node-a"
    for one in pair:
        one.ready()
        one.until("pings", lambda fields: fields.get("WATCHDOG") == "1")


@pytest.mark.parametrize("notice", [True, False], ids=["death-reported", "by-expiry"])
def test_killed(
    pair: tuple[Program, Program],
    work: Callable[[], list[str]],
    client: Client,
    server: Server,
    place: Path,
    notice: bool,
) -> None:
    first, second = pair
    plans = work()
    first.kill()
    if notice:
        assert lease.report_death(server.line(), KEYS, first.incarnation), "it held the lease"
    second.role("active")
    assert token(server) == f"2:{second.incarnation}"
    all_end(client, server, place, plans)


@pytest.mark.parametrize("how", ["death-reported", "stopped"])
def test_a_freed_lease_is_taken_without_waiting_for_its_end(place: Path, server: Server, how: str) -> None:
    """With a ttl of a minute, only the message that it is free can make the other active now."""
    programs = []
    try:
        for node in ("node-a", "node-b"):
            config = write_config(place, server.url, node=node, lease=LONG_TTL)
            programs.append(Program(place, config, "orchestrator"))
            programs[-1].role("passive" if len(programs) == 2 else "active")
        first, second = programs
        if how == "stopped":
            assert first.stop() == 0
        else:
            first.kill()
            assert lease.report_death(server.line(), KEYS, first.incarnation)
        second.role("active", timeout=20)
        assert token(server) == f"2:{second.incarnation}"
    finally:
        for program in programs:
            program.stop()


def test_stopped(
    pair: tuple[Program, Program], work: Callable[[], list[str]], client: Client, server: Server, place: Path
) -> None:
    first, second = pair
    plans = work()
    assert first.stop() == 0
    assert "lease released: epoch 1" in first.log.read_text()
    second.role("active")
    line = server.line()
    assert line.call("HEXISTS", KEYS.members, first.incarnation) == 0, "it has left"
    all_end(client, server, place, plans)


def test_frozen_longer_than_the_lease(
    pair: tuple[Program, Program], work: Callable[[], list[str]], client: Client, server: Server, place: Path
) -> None:
    first, second = pair
    plans = work()
    first.freeze()
    second.role("active")
    line = server.line()
    before = int(line.call("HGET", KEYS.head, "seq"))
    until("the new one decides", lambda: int(line.call("HGET", KEYS.head, "seq")) > before)
    first.thaw()
    first.role("passive")
    assert first.running, "it steps down in place"
    assert "deposed: epoch 1" in first.log.read_text()
    assert token(server) == f"2:{second.incarnation}"
    all_end(client, server, place, plans)
    assert "deposed" not in second.log.read_text()
    # And it serves again when its turn comes.
    assert second.stop() == 0
    first.role("active")
    assert token(server) == f"3:{first.incarnation}"
    more = chains(client, place / "more", 1, 3)
    assert client.wait(more[0], 20) is PlanState.SUCCEEDED


def test_lease_passed_back_and_forth(
    pair: tuple[Program, Program], work: Callable[[], list[str]], client: Client, server: Server, place: Path
) -> None:
    """Each freezes in turn, and is thawed as soon as the other has the lease: two that think they are active."""
    plans = work()
    active, passive = pair
    for epoch in range(2, 5):
        active.freeze()
        passive.role("active")
        active.thaw()
        active.role("passive")
        active, passive = passive, active
        assert token(server).startswith(f"{epoch}:")
    all_end(client, server, place, plans)


def test_redis_cut_off_while_the_active_one_leaves(
    pair: tuple[Program, Program], work: Callable[[], list[str]], client: Client, server: Server, place: Path
) -> None:
    first, second = pair
    plans = work()
    server.kill()
    second.until("knows that Redis is away", lambda fields: fields.get("X_CHARGEHAND_REDIS"))
    first.kill()
    server.start()
    second.role("active")
    assert token(server) == f"2:{second.incarnation}"
    all_end(client, server, place, plans)


def test_stop_while_redis_is_away_ends_it(pair: tuple[Program, Program], server: Server) -> None:
    first, second = pair
    server.stop()
    first.until("knows that Redis is away", lambda fields: fields.get("X_CHARGEHAND_REDIS"))
    assert first.stop() == 0
    assert "lease not released" in first.log.read_text()
    server.start()
    second.role("active")


def test_lease_outlives_a_short_outage(pair: tuple[Program, Program], server: Server) -> None:
    """With its connection cut and its lease intact, the active one goes on under the same epoch."""
    first, second = pair
    line = server.line()
    assert line.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") >= 2
    before = int(line.call("PTTL", KEYS.lease))
    until("it is renewed", lambda: int(line.call("PTTL", KEYS.lease)) > before)
    deadline = time.monotonic() + 3
    until("a ttl has passed", lambda: time.monotonic() > deadline)
    assert token(server) == f"1:{first.incarnation}"
    second.role("passive")


def test_executors_with_separate_names_are_separate(start_program: StartProgram, server: Server, place: Path) -> None:
    programs = {}
    for name in ("one", "two"):
        extra = f'[executor]\nname = "{name}"'
        programs[name] = start_program("orchestrator", node=f"node-{name}", extra=extra)
        start_program("worker", node=f"node-{name}", extra=extra).ready()
    for name, program in programs.items():
        program.role("active")
        assert server.line().call("GET", Keys(name).lease) == f"1:{program.incarnation}".encode()
    plans = {}
    for name in ("one", "two"):
        config = write_config(place, server.url, node=f"client-{name}", extra=f'[executor]\nname = "{name}"')
        settings = load(config).settings
        with Client(settings, load_actions(settings).actions) as client:
            plan = client.plan("where")
            plan.add("where")
            plans[name] = client.submit(plan, key="the same key")
            assert client.wait(plans[name], 20) is PlanState.SUCCEEDED
            assert client.output(plans[name]) == f"node-{name}"
            assert len(client.list()) == 1
    assert plans["one"] != plans["two"]


def test_executors_in_separate_databases_are_separate(start_program: StartProgram, server: Server) -> None:
    """The same executor name in another database is another executor, though they share the server's channels."""
    first = start_program("orchestrator", node="node-a")
    second = start_program("orchestrator", node="node-b", url=server.url.removesuffix("/0") + "/1")
    for program in (first, second):
        program.role("active")
    first.stop()
    assert second.running
    assert "passive" not in second.log.read_text()
