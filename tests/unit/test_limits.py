"""Limits: how many stand at once, how many begin in a time, and whose turn it is."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.plan.limits import Limit, Limits
from chargehand.wire import Policy


def test_a_slot_is_free_again_when_its_step_leaves() -> None:
    limits = Limits({"queue:q": Limit(most=2)})
    limits.take("queue:q", "p/0", 1_000)
    limits.take("queue:q", "p/1", 1_000)
    assert limits.opens("queue:q", 1_000) is None
    assert limits.leave("p/0") == ["queue:q"]
    assert limits.leave("p/0") == []
    assert limits.opens("queue:q", 1_000) == 1_000


def test_a_step_gives_all_its_slots_back_even_of_limits_that_nobody_knows_any_more() -> None:
    limits = Limits(slots=["queue:gone p/0", "action:with a space p/0", "action:x q/0"])
    assert sorted(limits.leave("p/0")) == ["action:with a space", "queue:gone"]
    assert limits.used
    assert limits.leave_all("q") == ["action:x q/0"]
    assert not limits.used


def test_the_limits_of_a_policy() -> None:
    limits = Limits({"queue:narrow": Limit(most=1), "action:fixed": Limit(most=1)})
    assert limits.names(Policy("a", queue="narrow", limit=3)) == ("action:a", "queue:narrow")
    assert limits.names(Policy("fixed")) == ("action:fixed",)
    assert limits.names(Policy("a")) == (), "a limit is of the plans that bring it"
    assert limits.table([Policy("a"), Policy("b")]) == []
    assert limits.table([Policy("b"), Policy("a", rate=(1, 1_000))]) == [(), ("action:a",)]


def test_the_latest_figures_count() -> None:
    limits = Limits()
    for most in (1, 3):
        limits.names(Policy("a", limit=most))
    limits.take("action:a", "p/0", 0)
    assert limits.opens("action:a", 0) == 0


def test_plans_wait_in_line_and_go_to_its_end_when_they_had_a_turn() -> None:
    limits = Limits(waiting=[("action:a p", 4), ("action:a q", 7)])
    assert limits.waited_for() == ["action:a"]
    assert limits.first("action:a") == "p"
    assert limits.wait("action:a", "p") == 8
    assert limits.first("action:a") == "q"
    limits.go("action:a", "q")
    limits.go("action:a", "q")
    assert limits.waits("action:a", "p")
    limits.go("action:a", "p")
    assert limits.first("action:a") is None
    assert limits.waited_for() == []


def test_a_rate_lets_so_many_begin_after_a_rest_and_then_evenly() -> None:
    limits = Limits({"queue:q": Limit(times=2, per_ms=1_000)})
    began = []
    now = 10_000
    for number in range(5):
        opens = limits.opens("queue:q", now)
        assert opens is not None
        now = opens
        limits.take("queue:q", f"p/{number}", now)
        began.append(now)
    assert began == [10_000, 10_000, 10_500, 11_000, 11_500]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_rate_is_kept_over_any_span_and_by_a_successor(seed: int) -> None:
    draw = Random(seed)
    times, per_ms = draw.randint(1, 20), draw.choice([1, 7, 1_000, 60_000])
    fixed = {"queue:q": Limit(times=times, per_ms=per_ms)}
    limits, rates = Limits(fixed), {"queue:q": 0.0}
    now, began = 1_000, []
    for number in range(80):
        if draw.random() < 0.3:
            now += draw.randint(0, 2 * per_ms)
        if draw.random() < 0.1:
            limits = Limits(fixed, rates=rates)
        opens = limits.opens("queue:q", now)
        assert opens is not None
        assert opens >= now
        now = max(now, opens)
        rate = limits.take("queue:q", f"p/{number}", now)
        assert rate is not None
        rates["queue:q"] = rate
        began.append(now)
    for first, start in enumerate(began):
        for last in range(first, len(began)):
            assert last - first + 1 <= times + (began[last] - start) * times / per_ms + 1e-6
