"""What happens at its time: delayed plans, recurring ones, retries. The active orchestrator dies before, or just then.

Counts and order are asserted, and that nothing runs before its time; how late it ran is a figure below the results.
For recurring plans no test waits for the next minute: their record is put back in time, as if it had been set earlier.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.plan.repeat import Repeat
from chargehand.plan.timers import repeat_timer
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.recurring import RecurringView
from support.counting import Log, nothing_held
from support.figures import Figures
from support.orchestrators import Orchestrators
from support.plans import is_in, view_of
from support.programs import until
from support.recurring import put_back

KEYS = Keys("default")
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def extra() -> str:
    """One thread: what begins first is first."""
    return '[[worker]]\nname = "worker"\nthreads = 1\n'


def passed(ms: int) -> None:
    """Wait until it is later than that."""
    until("its time has passed", lambda: time.time() * 1000 > ms)


# -- delayed --------------------------------------------------------------------------------------


def accepted(client: Client, *plans: str) -> None:
    for plan in plans:
        until("it is accepted", partial(_is_accepted, client, plan))


def _is_accepted(client: Client, plan: str) -> bool:
    return not is_in(client, plan, "submitted")


def test_start_at(orchestrators: Orchestrators, client: Client, log: Log, line: Line, figures: Figures) -> None:
    """Five at different times, in the order of their times and not of submission; a death before the first."""
    plans = []
    for number in (3, 1, 4, 2, 0):
        plan = client.plan("later", start_at=3.0 + number / 5)
        plan.add("stays", path=log.path, text=str(number))
        plans.append(client.submit(plan))
    accepted(client, *plans)
    orchestrators.kill_active()
    assert [client.wait(name, 60) for name in plans] == [PlanState.SUCCEEDED] * 5
    assert log.started == list("01234")
    due = {client.output(name): view_of(client, name).start_at_ms / 1000 for name in plans}
    for note in log.notes:
        if note.starts:
            assert note.at >= due[note.text], "before its time"
            figures.took("delayed plan: late", note.at - due[note.text])
    log.once_each("01234")
    nothing_held(line, KEYS)


def test_start_at_a_time_at_which_nobody_is_active(
    orchestrators: Orchestrators, client: Client, log: Log, line: Line, figures: Figures
) -> None:
    """The successor starts it at once, and once."""
    plan = client.plan("later", start_at=datetime.now(UTC) + timedelta(seconds=3))
    plan.add("stays", path=log.path, text="a")
    name = client.submit(plan)
    accepted(client, name)
    with orchestrators.nobody_active():
        passed(view_of(client, name).start_at_ms)
        there = time.time()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    figures.took("delayed plan whose time fell into a takeover: after the death was known", log.notes[0].at - there)
    orchestrators.kill_active()
    log.once_each("a")
    nothing_held(line, KEYS)


def test_delayed_planning(orchestrators: Orchestrators, client: Client, log: Log, place: Path, line: Line) -> None:
    """It is planned when it starts, on a worker, with what it finds then; a death before and one while it runs."""
    before = client.plan("before", locks=["door"])
    before.add("stays", path=log.path, text="before", gate=str(place / "door"))
    client.submit(before)
    log.until_started(1)
    plan = client.plan("later", start_at=1.0, locks=["door"])
    plan.add("plans_what_it_finds", path=log.path, directory=str(place / "found"), gate=str(place / "gate"))
    name = client.submit(plan)
    accepted(client, name)
    orchestrators.kill_active()
    assert [step.action for step in view_of(client, name).steps] == ["plans_what_it_finds:plan"]
    (place / "found").mkdir()
    for found in "xyz":
        (place / "found" / found).touch()
    (place / "door").touch()
    log.until_started(2)
    orchestrators.kill_active()
    (place / "gate").touch()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    log.once_each(["before", "x", "y", "z"])
    nothing_held(line, KEYS)


@pytest.mark.parametrize("active", [True, False], ids=["somebody_active", "nobody_active"])
def test_start_before(
    orchestrators: Orchestrators, client: Client, log: Log, place: Path, line: Line, active: bool
) -> None:
    """One that has to wait for a lock until its time is over fails, and never runs; one that began in time goes on."""

    def held(text: str, **options: Any) -> str:
        plan = client.plan(text, locks=["door"], **options)
        plan.add("stays", path=log.path, text=text, gate=str(place / "gate"))
        return client.submit(plan)

    first = held("in-time", start_before="1h")
    second = held("too-late", start_before=2.0)
    log.until_started(1)
    accepted(client, second)
    over = view_of(client, second).start_before_ms
    if active:
        orchestrators.kill_active()
        passed(over)
    else:
        with orchestrators.nobody_active():
            passed(over)
    assert client.wait(second, 30) is PlanState.FAILED
    error = view_of(client, second).error
    assert error is not None
    assert error.kind == "not started"
    (place / "gate").touch()
    assert client.wait(first, 30) is PlanState.SUCCEEDED
    log.once_each(["in-time"])
    nothing_held(line, KEYS)


def test_cancelled_before_its_time(orchestrators: Orchestrators, client: Client, log: Log, line: Line) -> None:
    """Asked for while nobody is active and its time passes: it does not run."""
    plan = client.plan("later", start_at=3.0)
    plan.add("stays", path=log.path, text="never")
    name = client.submit(plan)
    accepted(client, name)
    with orchestrators.nobody_active():
        client.cancel(name)
        passed(view_of(client, name).start_at_ms)
    assert client.wait(name, 30) is PlanState.CANCELLED
    assert log.started == []
    nothing_held(line, KEYS)


# -- recurring ------------------------------------------------------------------------------------


def recur(client: Client, log: Log, name: str, cron: str, **options: Any) -> None:
    plan = client.plan("again", labels=[name])
    plan.add("stays", path=log.path, text=name)
    client.set_recurring(name, plan, cron=cron, **options)
    until("it is set", lambda: client.recurring(name))


def hourly(minutes_ago: int = 5) -> tuple[str, list[int]]:
    """A line that was due some minutes ago and each hour before; those times, ms since 1970, the latest first."""
    latest = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    return f"{latest.minute} * * * *", [int((latest - n * HOUR).timestamp() * 1000) for n in range(10)]


def read(client: Client, name: str) -> RecurringView:
    found = client.recurring(name)
    assert found is not None
    return found


def runs_of(client: Client, name: str) -> list[str]:
    """Its plans, the oldest first."""
    return sorted(view.plan for view in client.search(labels=[name]))


def dealt_with(client: Client, name: str, ms: int) -> None:
    until("the time is dealt with", lambda: read(client, name).last_ms >= ms)


def ended(client: Client, names: list[str]) -> None:
    assert [client.wait(name, 60) for name in names] == [PlanState.SUCCEEDED] * len(names)


def test_recurring_due_during_the_takeover(
    orchestrators: Orchestrators, client: Client, log: Log, line: Line, figures: Figures
) -> None:
    """The successor runs it, once; the one after that knows that it has run."""
    cron, (latest, *_) = hourly(minutes_ago=0)
    recur(client, log, "tick", cron)
    with orchestrators.nobody_active():
        put_back(line, KEYS, "tick", timedelta(minutes=2))
        there = time.time()
    log.until_started(1)
    figures.took("recurring plan whose time fell into a takeover: after the death was known", log.notes[0].at - there)
    ended(client, [f"rtick-{latest}"])
    orchestrators.kill_active()
    view = read(client, "tick")
    assert (view.runs, view.last_ms, view.next_ms) == (1, latest, latest + 3_600_000)
    assert view.last_plan == f"rtick-{latest}"
    assert runs_of(client, "tick") == [f"rtick-{latest}"]
    assert view_of(client, view.last_plan).by == "recurring tick"
    log.once_each(["tick"])
    line.call("ZREM", KEYS.timers, repeat_timer("tick"))
    nothing_held(line, KEYS)


@pytest.mark.parametrize(("missed", "runs"), [("skip", 0), ("once", 1), ("all", 4)])
def test_recurring_missed(
    orchestrators: Orchestrators, client: Client, log: Log, line: Line, missed: str, runs: int
) -> None:
    """Nobody was active for more than three hours; then somebody is, and dies at once, and the next one knows."""
    cron, times = hourly()
    recur(client, log, "hourly", cron, missed=missed)
    with orchestrators.nobody_active():
        put_back(line, KEYS, "hourly", 3 * HOUR + timedelta(minutes=10))
    orchestrators.kill_active()
    dealt_with(client, "hourly", times[0])
    view = read(client, "hourly")
    assert (view.runs, view.last_ms, view.next_ms) == (runs, times[0], times[0] + 3_600_000)
    until("they are there", lambda: len(runs_of(client, "hourly")) == runs)
    names = runs_of(client, "hourly")
    assert names == [f"rhourly-{ms}" for ms in times[:runs][::-1]]
    ended(client, names)
    log.once_each(["hourly"] * runs)


def test_recurring_up_to_its_most(orchestrators: Orchestrators, client: Client, log: Log, line: Line) -> None:
    """Three in all, of which two were missed in one outage and three would have been in the next."""
    cron, times = hourly()
    recur(client, log, "few", cron, missed="all", most=3)
    with orchestrators.nobody_active():
        put_back(line, KEYS, "few", HOUR + timedelta(minutes=10))
    dealt_with(client, "few", times[0])
    assert read(client, "few").runs == 2
    with orchestrators.nobody_active():
        record = msgspec.json.decode(line.call("HGET", KEYS.recurring, "few"), type=Repeat)
        earlier = msgspec.structs.replace(record, last_ms=times[5], next_ms=times[4])
        line.call("HSET", KEYS.recurring, "few", msgspec.json.encode(earlier))
        line.call("ZADD", KEYS.timers, times[4], repeat_timer("few"))
    until("it has ended", lambda: read(client, "few").next_ms == 0)
    orchestrators.kill_active()
    assert read(client, "few").runs == 3
    names = [f"rfew-{ms}" for ms in (times[4], times[1], times[0])]
    until("they are there", lambda: len(runs_of(client, "few")) == 3)
    assert runs_of(client, "few") == names
    ended(client, names)
    log.once_each(["few"] * 3)
    nothing_held(line, KEYS)


def test_recurring_paused_and_resumed(orchestrators: Orchestrators, client: Client, log: Log, line: Line) -> None:
    """What was due in a pause does not run, whatever `missed` says; resumed while nobody is active."""
    cron, times = hourly()
    recur(client, log, "paused", cron, missed="all")
    client.pause_recurring("paused")
    until("it is paused", lambda: read(client, "paused").paused)
    with orchestrators.nobody_active():
        put_back(line, KEYS, "paused", 3 * HOUR)
        client.resume_recurring("paused")
    until("it goes on", lambda: not read(client, "paused").paused)
    orchestrators.kill_active()
    nothing_starts(client, log, "paused")
    assert read(client, "paused").next_ms == times[0] + 3_600_000
    assert [timer.decode() for timer in line.call("ZRANGE", KEYS.timers, 0, -1)] == [repeat_timer("paused")]


def nothing_starts(client: Client, log: Log, name: str) -> None:
    """What would have been started by now stood before this plan, which has ended."""
    plan = client.plan("other")
    plan.add("nothing")
    ended(client, [client.submit(plan)])
    assert runs_of(client, name) == []
    assert log.started == []


def test_recurring_paused_and_removed_while_nobody_is_active(
    orchestrators: Orchestrators, client: Client, log: Log, line: Line
) -> None:
    """What was asked for before somebody starts what was due counts, whenever that was due."""
    cron, _ = hourly()
    for name in ("removed", "stopped"):
        recur(client, log, name, cron, missed="all")
    with orchestrators.nobody_active():
        client.remove_recurring("removed")
        client.pause_recurring("stopped")
        for name in ("removed", "stopped"):
            put_back(line, KEYS, name, 3 * HOUR)
    until("one is removed", lambda: client.recurring("removed") is None)
    until("one is paused", lambda: read(client, "stopped").paused)
    orchestrators.kill_active()
    nothing_starts(client, log, "removed")
    nothing_starts(client, log, "stopped")
    nothing_held(line, KEYS)


def test_recurring_singleton(orchestrators: Orchestrators, client: Client, log: Log, place: Path, line: Line) -> None:
    """Runs that are longer than their distance wait for each other, over a death."""
    cron, _ = hourly()
    plan = client.plan("again", labels=["slow"])
    plan.add("single", path=log.path, text="slow", gate=str(place / "gate"))
    client.set_recurring("slow", plan, cron=cron, missed="all")
    until("it is set", lambda: client.recurring("slow"))
    with orchestrators.nobody_active():
        put_back(line, KEYS, "slow", 2 * HOUR + timedelta(minutes=10))
    log.until_started(1)
    until("three are there", lambda: len(runs_of(client, "slow")) == 3)
    orchestrators.kill_active()
    names = runs_of(client, "slow")
    until("two wait", lambda: [view_of(client, name).state for name in names] == ["running", "waiting", "waiting"])
    (place / "gate").touch()
    ended(client, names)
    assert log.words == ["+slow", "-slow"] * 3


def test_recurring_planning_on_a_worker(
    orchestrators: Orchestrators, client: Client, log: Log, place: Path, line: Line
) -> None:
    """Each run is planned anew, by what is there then."""
    cron, times = hourly()
    plan = client.plan("again", labels=["plans"], plan_on="worker")
    plan.add("plans_what_it_finds", path=log.path, directory=str(place / "found"))
    client.set_recurring("plans", plan, cron=cron)
    until("it is set", lambda: client.recurring("plans"))
    (place / "found").mkdir()
    (place / "found" / "x").touch()
    with orchestrators.nobody_active():
        put_back(line, KEYS, "plans", timedelta(minutes=30))
    until("it is there", lambda: runs_of(client, "plans") == [f"rplans-{times[0]}"])
    orchestrators.kill_active()
    ended(client, runs_of(client, "plans"))
    log.once_each("x")


# -- retries --------------------------------------------------------------------------------------


def test_retries_that_are_due_while_nobody_is_active(
    orchestrators: Orchestrators, client: Client, log: Log, place: Path, line: Line
) -> None:
    """Twenty wait an hour for their second try, and it falls into a takeover; and so for their third."""
    plan = client.plan("retried")
    for number in range(20):
        plan.add("third_time_in_hours", path=str(place / f"tries-{number}"))
    name = client.submit(plan)
    for tries in (1, 2):
        until("all wait", partial(_all_wait, client, name, place, tries))
        with orchestrators.nobody_active():
            let_an_hour_pass(line)
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    orchestrators.kill_active()
    assert _tries(place) == [3] * 20
    assert {step.attempt for step in view_of(client, name).steps} == {3}
    nothing_held(line, KEYS)


def _tries(place: Path) -> list[int]:
    return [len((place / f"tries-{number}").read_text().split()) for number in range(20)]


def _all_wait(client: Client, plan: str, place: Path, tries: int) -> bool:
    return view_of(client, plan).counts == {"retrying": 20} and _tries(place) == [tries] * 20


def let_an_hour_pass(line: Line) -> None:
    """All timers have an hour less to run."""
    for timer in line.call("ZRANGE", KEYS.timers, 0, -1):
        line.call("ZINCRBY", KEYS.timers, -3_600_000, timer)
