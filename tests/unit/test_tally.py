"""What an active orchestrator counts, and what becomes of it: totals, minutes, rates, ages, causes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.orchestrator.tally import SAMPLE, WINDOW, Tally
from chargehand.plan.commit import RAN, Commit
from chargehand.plan.life import PlanState
from chargehand.store.counting import (
    ACTIONS,
    MINUTE_MS,
    ActionTotal,
    Flow,
    Kept,
    MinuteRecord,
    Page,
    age_class,
    age_of,
)
from chargehand.store.troubles import cause_of
from chargehand.wire import Cancelled, Failure, Policy, Suspension
from support.examples import plan
from support.world import World


def commit(*ran: tuple[str, str, str], pushed: dict[str, int] | None = None) -> Commit:
    made = Commit(pushed={queue: [b"x"] * count for queue, count in (pushed or {}).items()})
    for action, queue, how in ran:
        if how == "done":
            done = made.done.setdefault(queue, {})
            done[action] = done.get(action, 0) + 1
        else:
            made.ran.append((action, queue, how))
    return made


def begun(kept: Kept | None = None) -> Tally:
    tally = Tally(0.0)
    tally.begin(0, kept or Kept(MinuteRecord(), {}, []))
    return tally


def page(tally: Tally, now: float, *, held: dict[str, int] | None = None, busy: int = 0) -> Page:
    """A second's writing that goes well. Redis' TIME is the boot time."""
    made = tally.page(now, round(now * 1000), busy=busy, submitted={}, held=held or {})
    tally.written(made)
    return made


# -- what the director tells -------------------------------------------------------------------------


def test_each_attempt_is_told_once() -> None:
    world = World()
    world.submit("p", plan([], policy=Policy("work", queue="fast", attempts=2)))
    world.submit("q", plan([], policy=Policy("other")))
    world.settle()
    world.register("w")
    told: list[object] = []

    def turn() -> None:
        made = world.turn()
        told.extend([*made.ran, *made.done.items()])

    key = world.take("w", "fast")
    assert key is not None
    world.finish("w", key, Failure("ValueError", "no"))
    world.finish("w", key, Failure("ValueError", "no"))  # it does not own it any more
    turn()
    world.now_ms += 60_000
    turn()
    assert world.take("w", "fast") is not None
    assert world.take("w", "default") is not None
    world.finish("w", "q/0/1")
    turn()
    world.kill("w")
    turn()
    assert told == [("work", "fast", "failed"), ("default", {"other": 1}), ("work", "fast", "lost")]


def test_suspended_and_cancelled_are_neither_well_nor_ill(world: World) -> None:
    world.submit("p", plan())
    world.submit("q", plan())
    world.settle()
    world.register("w")
    for name in "pq":
        assert world.take("w", "default") == f"{name}/0/1"
    world.finish("w", "p/0/1", suspended=Suspension())
    assert world.turn().ran == [("work", "default", "left")]
    world.put(Cancelled("q"))
    world.turn()
    world.finish("w", "q/0/1", Failure("cancelled", "as asked", final=True))
    made = world.turn()
    assert made.ran == [("work", "default", "left")]
    assert [name for name, *_ in made.closed] == ["q"]


# -- totals and minutes ------------------------------------------------------------------------------


def test_totals_go_on_from_what_stands() -> None:
    tally = begun(Kept(MinuteRecord(steps=4, ages={8: 1}), {"a": ActionTotal(10, 1, 0)}, ["old"]))
    tally.add(commit(("a", "q", "done"), ("a", "q", "failed"), ("b", "q", "lost"), ("b", "q", "left")))
    made = page(tally, 1.0, held={"old": 2})
    assert made.actions == {"a": ActionTotal(11, 2, 0), "b": ActionTotal(0, 0, 1)}
    assert (made.record.steps, made.record.failed, made.record.lost) == (5, 1, 1)
    assert made.record.actions == {"a": ActionTotal(1, 1, 0), "b": ActionTotal(0, 0, 1)}
    assert made.flow == Flow(1.0, {"old": (0, 0), "q": (0, 4)})
    assert page(tally, 2.0).actions == {}, "only what has changed"


def test_plans_by_how_they_ended() -> None:
    tally = begun()
    states = [PlanState.SUCCEEDED, PlanState.SUCCEEDED, PlanState.PAUSED, PlanState.CANCELLED, PlanState.RUNNING]
    tally.add(Commit(created={"x": b"", "y": b""}, announced={str(n): chr(state) for n, state in enumerate(states)}))
    record = page(tally, 1.0, busy=35).record
    assert (record.submitted, record.plans, record.bad, record.busy) == (2, 2, 2, 35)


def test_a_new_minute_begins_anew() -> None:
    tally = begun()
    tally.waited(700)
    tally.add(commit(("a", "q", "done")))
    first = page(tally, 59.0)
    assert (first.minute, first.record.steps, first.record.behind_ms) == (0, 1, 700)
    tally.waited(20)
    second = page(tally, 61.0)
    assert (second.minute, second.record.steps, second.record.behind_ms) == (MINUTE_MS, 0, 20)


def test_what_could_not_be_written_is_written_the_next_time() -> None:
    tally = begun()
    tally.add(commit(("a", "q", "done")))
    tally.page(1.0, 1_000, busy=0, submitted={}, held={})  # Redis was full
    tally.add(commit(("b", "q", "done")))
    made = page(tally, 2.0)
    assert made.actions == {"a": ActionTotal(1), "b": ActionTotal(1)}
    assert made.record.steps == 2


def test_the_least_busy_actions_make_room() -> None:
    tally = begun(Kept(MinuteRecord(), {f"a{n}": ActionTotal(n + 1) for n in range(ACTIONS)}, []))
    tally.add(commit(("new", "q", "done")))
    made = page(tally, 1.0)
    assert "new" in made.actions
    assert "a0" in made.gone_actions
    assert f"a{ACTIONS - 1}" not in made.gone_actions
    assert not page(tally, 2.0).gone_actions
    tally.add(commit(("a0", "q", "done")))
    assert page(tally, 3.0).actions == {"a0": ActionTotal(1)}, "it begins anew"


# -- rates -------------------------------------------------------------------------------------------


def test_rates_are_of_the_last_minute() -> None:
    tally = begun()
    for second in range(1, 31):
        tally.add(commit(("a", "q", "done"), pushed={"q": 2}))
        made = page(tally, float(second))
    assert made.flow == Flow(30.0, {"q": (60, 30)})
    for second in range(31, 31 + round(WINDOW)):
        made = page(tally, float(second), held={"q": 30})
    assert made.flow.queues == {"q": (0, 0)}, "it holds steps, so it stays known"
    assert made.flow.over == WINDOW
    assert page(tally, 120.0).flow.queues == {}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("ab"), st.sampled_from(["done", *RAN])))
)
def test_a_window_holds_what_is_in_it(seconds: list[tuple[int, int, str, str]]) -> None:
    tally = begun()
    came: Counter[tuple[int, str]] = Counter()
    went: Counter[tuple[int, str]] = Counter()
    now = 0
    for wait, count, queue, how in seconds:
        now += 20 * wait + 1
        tally.add(commit(*[("x", queue, how)] * count, pushed={queue: count + 1}))
        came[now, queue] += count + 1
        went[now, queue] += count
        flow = page(tally, float(now)).flow
        recent = {at for at, _ in came if at > now - WINDOW}
        assert flow.queues == {
            name: (sum(came[at, name] for at in recent), sum(went[at, name] for at in recent))
            for name in {queue for at, queue in came if at in recent}
        }


# -- ages --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**8), min_size=1), st.sampled_from([0.5, 0.95]))
def test_ages_within_five_percent(times: list[int], share: float) -> None:
    found = age_of(Counter(map(age_class, times)), share)
    exact = sorted(times)[max(0, -(-round(len(times) * share * 100) // 100) - 1)]
    assert found == pytest.approx(exact, rel=0.05, abs=1)


def test_no_ages_no_time() -> None:
    assert age_of({}, 0.5) == 0


def test_ages_are_a_sample() -> None:
    tally = begun()
    tally.add(Commit(closed=[(f"p{n}", "x", 5_000) for n in range(SAMPLE + 50)]))
    tally.add(Commit(closed=[("one more", "x", 5_000)]))
    assert len(tally.closed) == SAMPLE
    made = tally.page(5.9, 5_900, busy=0, submitted={"p0": 4_000, "p1": 6_000}, held={})
    assert sum(made.record.ages.values()) == 2
    assert age_of(made.record.ages, 1.0) == pytest.approx(1_000, rel=0.05)
    assert age_of(made.record.ages, 0.5) == 0, "clocks differ: not less than nothing"
    assert tally.closed == []


# -- causes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("host db-1 refused on port 5432", "host db-22 refused on port 80"),
        ("/var/log/a.log is not there", "/srv/b/c is not there"),
        ("no such package 'httpd'", "no such package 'vim'"),
        ('exit 1 "boom"', 'exit 2 "bang"'),
        (
            "object 0xdeadbeef of 550e8400-e29b-41d4-a716-446655440000",
            "object 0x1 of 123e4567-e89b-42d3-a456-426614174000",
        ),
        ("https://a.example/x?y=1 timed out after 3.5 s", "http://b.example timed out after 30 s"),
        ("can't open it, isn't there: 'x'", "can't open it, isn't there: 'y'"),
        ("lost by worker 3f9a0b12cd", "lost by worker 99aa00bb11"),
    ],
)
def test_the_same_cause(one: str, other: str) -> None:
    assert cause_of(Failure("Error", one)) == cause_of(Failure("Error", other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("connection refused", "connection reset"),
        ("can't open it", "won't close it"),
        ("decade", "facade"),
    ],
)
def test_another_cause(one: str, other: str) -> None:
    assert cause_of(Failure("Error", one)) != cause_of(Failure("Error", other))


def test_a_cause_is_one_short_line() -> None:
    assert cause_of(Failure("exit", "exit 3\nmore\nand more")) == "exit: exit N"
    assert cause_of(Failure("timeout", "")) == "timeout"
    assert len(cause_of(Failure("X", "word " * 100))) == 160
