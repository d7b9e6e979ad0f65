"""What is counted stands in Redis: totals, minutes, rates; it outlives its orchestrator; failures by cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.executors import Executors
from chargehand.plan.life import PlanState
from chargehand.plan.routing import Load
from chargehand.store.census import HEARD_MS
from chargehand.store.connection import Line
from chargehand.store.counting import (
    KEPT_MINUTES,
    MINUTE_MS,
    ActionTotal,
    Flow,
    MinuteRecord,
    Page,
    read_minutes,
    write_page,
)
from chargehand.store.keys import Keys
from chargehand.store.lease import report_death
from chargehand.store.stats import ActionStats, Minute, QueueStats, Stats
from support.orchestrators import Orchestrators
from support.plans import submit
from support.programs import Program, StartProgram, until, write_config
from support.server import Server

KEYS = Keys("default")


def action(stats: Stats, name: str) -> ActionStats:
    """As it is counted; all zero when nothing is."""
    return next((one for one in stats.actions if one.name == name), ActionStats(name, 0, 0, 0))


def queue(stats: Stats, name: str) -> QueueStats | None:
    return next((one for one in stats.queues if one.name == name), None)


def total(stats: Stats, of: Callable[[Minute], int]) -> int:
    return sum(of(minute) for minute in stats.minutes)


@pytest.mark.usefixtures("running")
def test_what_was_done_is_counted(client: Client, place: Path) -> None:
    plans = []
    for _ in range(3):
        plan = client.plan("some")
        with plan.sequence():
            plan.add("nothing")
            plan.add("nothing")
        plans.append(client.submit(plan))
    plans.append(submit(client, "third_time", path=str(place / "tries")))
    for name in plans:
        assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.wait(submit(client, "fatal", path=str(place / "none")), 30) is PlanState.FAILED
    until("all is counted", lambda: total(client.stats(), lambda one: one.plans + one.bad) == 5)

    stats = client.stats()
    assert action(stats, "nothing") == ActionStats("nothing", 6, 0, 0, 6, 0)
    assert action(stats, "third_time") == ActionStats("third_time", 1, 2, 0, 1, 2)
    assert action(stats, "fatal") == ActionStats("fatal", 0, 1, 0, 0, 1)
    assert [one.name for one in stats.actions] == ["nothing", "third_time", "fatal"], "the busiest first"
    assert len(stats.minutes) == 60
    assert [one.ms for one in stats.minutes] == [
        stats.now_ms - stats.now_ms % MINUTE_MS - back * MINUTE_MS for back in range(59, -1, -1)
    ]
    assert total(stats, lambda one: one.steps) == 7
    assert total(stats, lambda one: one.failed) == 3
    assert total(stats, lambda one: one.submitted) == 5
    assert total(stats, lambda one: one.bad) == 1
    assert max(one.median_ms for one in stats.minutes) > 0
    assert all(one.median_ms <= one.p95_ms for one in stats.minutes)
    found = queue(stats, "default")
    assert found is not None
    assert (found.waiting, found.workers, found.threads, found.running) == (0, 1, 5, 0)
    assert found.in_rate > 0
    assert found.out_rate == found.in_rate


def test_counts_outlive_their_orchestrator(orchestrators: Orchestrators, worker: Program, client: Client) -> None:
    for _ in range(4):
        client.wait(submit(client, "nothing"), 30)
    until("they are written", lambda: action(client.stats(), "nothing").done == 4)
    orchestrators.kill_active()
    for _ in range(3):
        client.wait(submit(client, "nothing"), 30)
    until("the next one goes on", lambda: action(client.stats(), "nothing").done == 7)
    assert total(client.stats(), lambda one: one.steps) == 7
    assert total(client.stats(), lambda one: one.plans) == 7


def test_a_lost_attempt(orchestrator: Program, start_program: StartProgram, client: Client, line: Line) -> None:
    worker = start_program("worker", node="node-w").ready()
    name = submit(client, "nap", seconds=600)
    until("it runs", lambda: line.call("HLEN", KEYS.own(worker.incarnation)))
    worker.kill()
    report_death(line, KEYS, worker.incarnation)
    until("it is counted", lambda: action(client.stats(), "nap").lost == 1)
    assert total(client.stats(), lambda one: one.lost) == 1
    client.halt(name)


def test_a_queue_that_nobody_serves_is_seen(running: Program, client: Client) -> None:
    submit(client, "urgent", path="/dev/null", text="x")
    until("it is known", lambda: (found := queue(client.stats(), "urgent")) is not None and found.waiting == 1)
    found = queue(client.stats(), "urgent")
    assert found is not None
    assert found.workers == 0
    assert client.census().queues["urgent"] == 1


def test_a_successor_keeps_the_queues_that_nobody_serves(
    orchestrators: Orchestrators, worker: Program, client: Client
) -> None:
    submit(client, "urgent", path="/dev/null", text="x")
    until("it is known", lambda: "urgent" in client.census().queues)
    orchestrators.kill_active()
    seen = client.stats().minutes[-1]
    submit(client, "nothing")
    until("the successor counts", lambda: client.stats().minutes[-1] != seen)
    assert client.census().queues["urgent"] == 1


def test_rates_of_nobody_are_nothing(orchestrator: Program, client: Client, line: Line) -> None:
    submit(client, "nothing")
    until("a rate", lambda: (found := queue(client.stats(), "default")) is not None and found.in_rate > 0)
    orchestrator.stop()
    line.call("HSET", KEYS.load, "at", client.census().now_ms - HEARD_MS)
    found = queue(client.stats(), "default")
    assert found is not None
    assert (found.waiting, found.in_rate) == (1, 0.0)


def test_old_minutes_go(orchestrator: Program, start_program: StartProgram, client: Client, line: Line) -> None:
    until("a minute", lambda: line.call("HLEN", KEYS.minutes) > 0)
    orchestrator.stop()
    now = client.census().now_ms
    this = now - now % MINUTE_MS
    oldest, kept = this - KEPT_MINUTES * MINUTE_MS, this - (KEPT_MINUTES - 2) * MINUTE_MS
    line.call("DEL", KEYS.minutes)
    line.call("HSET", KEYS.minutes, oldest, "[1]", kept, "[2]")
    start_program("orchestrator", node="node-b").role("active")
    until("the oldest is gone", lambda: not line.call("HEXISTS", KEYS.minutes, oldest))
    assert line.call("HEXISTS", KEYS.minutes, kept)


def test_what_is_to_go_goes_and_only_the_holder_says_so(orchestrator: Program, client: Client, line: Line) -> None:
    until("it writes", lambda: line.call("HGET", KEYS.load, "at"))
    orchestrator.stop()
    line.call("HSET", KEYS.actions, "a", "[1]", "b", "[2]")
    line.call("HSET", KEYS.minutes, 0, "[1]", 60_000, "[2]")
    token = line.call("GET", KEYS.fence).decode()
    page = Page(120_000, MinuteRecord(3), {"b": ActionTotal(5, 1), "c": ActionTotal(1)}, Flow(), ["a"], [0])
    load = Load(0, 0, 0)
    write_page(line, KEYS, "0:another", load, page)
    assert line.call("HEXISTS", KEYS.actions, "a")
    write_page(line, KEYS, token, load, page)
    assert {one.name: (one.done, one.failed) for one in client.stats().actions} == {"b": (5, 1), "c": (1, 0)}
    assert not line.call("HEXISTS", KEYS.minutes, 0)
    assert read_minutes(line, KEYS, [60_000, 120_000, 180_000]) == [MinuteRecord(2), MinuteRecord(3), MinuteRecord()]


def test_what_cannot_be_read_begins_anew(start_program: StartProgram, client: Client, line: Line) -> None:
    line.call("HSET", KEYS.actions, "nothing", "nonsense")
    line.call("HSET", KEYS.load, "flow", "nonsense", "at", "1")
    assert client.stats().actions == []
    start_program("orchestrator").role("active")
    start_program("worker", node="node-w").ready()
    client.wait(submit(client, "nothing"), 30)
    until("it is counted", lambda: action(client.stats(), "nothing").done == 1)


def test_failures_by_cause(running: Program, client: Client, place: Path) -> None:
    first = [submit(client, "fails_until", path=f"{place}/a{n}") for n in range(3)]
    many = client.plan("many")
    for n in range(4):
        many.add("fatal", path=f"{place}/b{n}")
    second = client.submit(many)
    for name in (*first, second):
        client.wait(name, 30)
    troubles = client.troubles()
    by_kind = {one.action: one for one in troubles}
    assert by_kind["fails_until"].cause == "FileNotFoundError: PATH is not there yet"
    assert by_kind["fails_until"].count == 3
    assert sorted(by_kind["fails_until"].plans) == sorted(first)
    assert by_kind["fails_until"].nodes == ["node-w"]
    assert "is not there yet" in by_kind["fails_until"].example
    assert by_kind["fatal"].plans == [second]
    assert 1 <= by_kind["fatal"].count <= 4
    assert troubles == sorted(troubles, key=lambda one: -one.last_ms)
    assert len(client.troubles(most=1)) == 1

    (place / "a0").touch()
    client.resume(first[0])
    assert client.wait(first[0], 30) is PlanState.SUCCEEDED
    assert next(one.count for one in client.troubles() if one.action == "fails_until") == 2, "what went well is none"


def test_of_several_executors_ones_own_or_a_named_one(running: Program, place: Path, server: Server) -> None:
    extra = f'[[executors]]\nname = "other"\nurl = "{server.url}"\n'
    with Executors(load(write_config(place, server.url, node="several", extra=extra)).settings) as executors:
        assert executors.census().executor == "default"
        assert executors.census("other").executor == "other"
        assert executors.stats("other").actions == []
        assert executors.troubles(executor="other") == []
