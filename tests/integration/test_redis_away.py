"""Redis goes away and comes back: with its data, without it, and with the data of a second ago."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.keys import Keys
from support.nodes import StartNode
from support.plans import view_of
from support.programs import Program, StartProgram, until, written
from support.server import Server

KEYS = Keys("default")


@pytest.fixture
def executor(start_program: StartProgram) -> list[Program]:
    """One active orchestrator, one passive, two workers."""
    programs = [start_program("orchestrator", node="node-a").ready()]
    programs.append(start_program("orchestrator", node="node-b").ready())
    programs += [start_program("worker", node=node).ready() for node in ("node-a", "node-b")]
    return programs


def chains(client: Client, path: Path, count: int = 20, length: int = 10) -> list[str]:
    plans = []
    for number in range(count):
        plan = client.plan("chain")
        with plan.sequence():
            for step in range(length):
                plan.add("note", path=str(path), text=f"{number}.{step}", seconds=0.02)
        plans.append(client.submit(plan))
    return plans


def all_succeed(client: Client, plans: list[str]) -> None:
    for plan in plans:
        assert client.wait(plan, 60) is PlanState.SUCCEEDED
        view = view_of(client, plan)
        assert all(step.result is not None and step.result.attempt == step.attempt for step in view.steps)


def away(server: Server, seconds: float) -> None:
    """This much time must pass: it is what the test is about."""
    server.stop()
    time.sleep(seconds)


def test_away_for_ten_seconds_data_kept(executor: list[Program], client: Client, server: Server, place: Path) -> None:
    plans = chains(client, place / "lines")
    until("they run", lambda: written(place / "lines"))
    away(server, 10)
    for program in executor:
        program.role("waiting")
        said = program.fields["X_CHARGEHAND_REDIS"]
        assert re.fullmatch(rf"127\.0\.0\.1:{server.port} since \d\d:\d\d, Connection refused", said)
    server.start()
    all_succeed(client, plans)
    assert all(program.running for program in executor)
    for program in executor:
        program.until("reached again", lambda fields: fields["X_CHARGEHAND_REDIS"] == "")
        assert "reaping" not in program.log.read_text(), "nobody is declared dead for an outage of Redis"
    lines = (place / "lines").read_text().split()
    assert len(lines) == len(set(lines)) == 200, "every step ran once"


def test_away_with_all_data_lost(executor: list[Program], client: Client, server: Server, place: Path) -> None:
    lost = chains(client, place / "lines")
    until("they run", lambda: written(place / "lines"))
    server.kill()
    server.wipe()
    server.start()
    plans = chains(client, place / "afterwards", count=5)
    all_succeed(client, plans)
    assert all(program.running for program in executor)
    for plan in lost[:3]:
        assert client.wait(plan, 60) is PlanState.SUCCEEDED, "a client that waits submits a lost plan again"
    assert int(server.line().call("GET", KEYS.fence).partition(b":")[0]) >= 2, "the epoch only grows"


def test_no_step_is_started_twice_while_redis_is_away(
    executor: list[Program], client: Client, server: Server, place: Path
) -> None:
    """Steps run through an outage of 12 s: longer than every heartbeat."""
    plan = client.plan("long")
    for step in range(10):
        plan.add("held", path=str(place / "lines"), text=str(step), gate=str(place / "gate"))
    name = client.submit(plan)
    until("all ten run", lambda: len(written(place / "lines")) == 10)
    away(server, 12)
    server.start()
    (place / "gate").touch()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    assert sorted((place / "lines").read_text().split()) == sorted(str(step) for step in range(10))
    assert all(program.running for program in executor)


def test_active_leaves_while_redis_is_away(
    executor: list[Program], client: Client, server: Server, place: Path
) -> None:
    first, second = executor[:2]
    server.stop()
    first.role("waiting")
    first.kill()
    server.start()
    second.role("active")
    all_succeed(client, chains(client, place / "lines", count=3))


def test_data_rolled_back_under_a_living_leader(
    start_program: StartProgram, client: Client, server: Server, place: Path
) -> None:
    """The server comes back with the data of a moment ago; the lease in it is still the leader's own."""
    orchestrator = start_program("orchestrator", lease='ttl = "30s", renew = "1s"').ready()
    workers = [start_program("worker", node=node).ready() for node in ("node-a", "node-b")]
    plans = chains(client, place / "lines", count=30, length=20)
    until("they run", lambda: len(written(place / "lines")) > 50)
    server.snapshot(place / "earlier")
    before = len((place / "lines").read_text().split())
    until("much has happened since", lambda: len(written(place / "lines")) > before + 60)
    server.kill()
    server.restore(place / "earlier")
    server.start()
    all_succeed(client, plans)
    assert orchestrator.running
    assert all(worker.running for worker in workers)
    assert "active: epoch 2" not in orchestrator.log.read_text(), "the lease was intact: it was kept"
    line = server.line()
    until("the inbox is read", lambda: line.call("XLEN", KEYS.inbox) == 0)
    until("nothing is owned", lambda: line.call("KEYS", KEYS.own("*")) == [])


def test_status_says_since_when_and_why(start_node: StartNode, server: Server) -> None:
    node = start_node("node-a")
    node.until_whole()
    server.stop()
    node.until_status("waiting (Redis")
    assert re.fullmatch(
        rf"waiting \(Redis 127\.0\.0\.1:{server.port} since \d\d:\d\d, Connection refused\); workers 1/1", node.status
    )
    server.start()
    node.until_status("active (epoch")
    assert node.agent.poll() is None


def test_exclusive_step_ends_when_its_worker_is_cut_off(
    executor: list[Program], client: Client, server: Server, place: Path
) -> None:
    """Before 8 s of silence could have it started elsewhere."""
    plan = client.plan("exclusive")
    plan.add("never_twice", path=str(place / "lines"))
    name = client.submit(plan)
    until("it runs", lambda: written(place / "lines"))
    server.stop()
    until("it was ended", lambda: "ended" in (place / "lines").read_text(), timeout=8.0)
    server.start()
    assert client.wait(name, 30) is PlanState.PAUSED
    view = view_of(client, name)
    assert view.steps[0].error is not None
    assert view.steps[0].error.message == "cut off from Redis: it must not run twice at once"
    assert (place / "lines").read_text().split() == ["started", "ended"]
