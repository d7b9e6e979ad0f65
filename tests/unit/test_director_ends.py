"""Plans that are ended before their time: cancelled, halted.

Each with a director that remembers, and one that is replaced after each turn.
"""

from __future__ import annotations

import pytest

from chargehand.plan.ending import CASCADE, CHECK_AGAIN
from chargehand.plan.life import PlanState
from chargehand.wire import (
    HALTED,
    Cancelled,
    Event,
    Halted,
    Lock,
    Policy,
    Reverted,
    Sent,
    child_id,
)
from support.examples import entry, event, parent, plan
from support.world import World

# -- cancel ------------------------------------------------------------------------------------------


def test_cancel_while_a_step_runs(world: World) -> None:
    world.submit("p", plan([], [0]))
    world.settle()
    (key,) = world.hold()
    world.ask(Cancelled("p", 7_000, "ada"))
    assert world.plan("p") is PlanState.CANCELLING
    assert world.stopped == {"p": 7_000}
    world.fail(key, kind="cancelled")
    assert world.plan("p") is PlanState.CANCELLED
    assert world.steps("p") == "cw"
    assert world.is_clean()


def test_cancel_and_the_step_succeeds_in_its_grace(world: World) -> None:
    world.submit("p", plan([], [0]))
    world.settle()
    (key,) = world.hold()
    world.ask(Cancelled("p"))
    world.succeed(key)
    assert world.plan("p") is PlanState.CANCELLED
    assert world.steps("p") == "sw"


def test_cancel_and_the_step_fails_otherwise(world: World) -> None:
    world.submit("p", plan(policy=Policy("work", attempts=5, rescue="skip")))
    world.settle()
    (key,) = world.hold()
    world.ask(Cancelled("p"))
    world.fail(key, final=False)
    assert world.plan("p") is PlanState.CANCELLED
    assert world.steps("p") == "f"


def test_cancel_what_is_queued_entries_are_dropped(world: World) -> None:
    world.submit("p", plan([], []))
    world.submit("other", plan())
    world.settle()
    world.register("w")
    assert world.take("w", "default") == "p/0/1"
    world.ask(Cancelled("p"))
    assert world.steps("p") == "qc"
    world.succeed("p/0/1")
    assert world.plan("p") is PlanState.CANCELLED
    assert world.stopped == {"p": 10_000}  # its entry is on the queue still
    assert world.hold() == ["other/0/1"]


def test_cancel_what_waits_for_a_retry(world: World) -> None:
    world.submit("p", plan(policy=Policy("work", attempts=2)))
    world.settle()
    (key,) = world.hold()
    world.fail(key, final=False)
    assert world.steps("p") == "r"
    world.ask(Cancelled("p"))
    assert world.plan("p") is PlanState.CANCELLED
    world.wait(10_000)
    assert world.hold() == []
    assert world.is_clean()


def test_cancel_a_suspended_step(world: World) -> None:
    world.submit("p", plan())
    world.settle()
    (key,) = world.hold()
    world.suspend(key, wake_ms=1_000)
    world.ask(Cancelled("p"))
    assert world.plan("p") is PlanState.CANCELLED
    assert world.steps("p") == "c"
    world.wait(1_000)
    assert world.hold() == []


def test_cancel_a_suspended_step_that_wants_to_be_told(world: World) -> None:
    world.submit("p", plan([], policy=Policy("work", cancels=True)))
    world.settle()
    (key,) = world.hold()
    world.suspend(key)
    world.ask(Cancelled("p"))
    assert world.plan("p") is PlanState.CANCELLING
    world.wait(CHECK_AGAIN)  # it has not been taken, and is not given up
    (key,) = world.hold()
    assert event(world, key) == "cancel"
    assert entry(world, key).despite
    world.suspend(key)  # it asks for no more time than that
    assert world.plan("p") is PlanState.CANCELLED
    assert world.is_clean()


def test_cancel_a_running_step_that_is_suspended_in_its_grace(world: World) -> None:
    world.submit("p", plan([], policy=Policy("work", cancels=True)))
    world.settle()
    (key,) = world.hold()
    world.ask(Cancelled("p"))
    world.suspend(key)
    (key,) = world.hold()
    assert event(world, key) == "cancel"
    world.fail(key, kind="cancelled")
    assert world.plan("p") is PlanState.CANCELLED
    assert world.steps("p") == "c"
    assert world.is_clean()


def test_cancel_what_has_not_begun(world: World) -> None:
    world.submit("holder", plan(locks=[Lock("db")]))
    world.submit("scheduled", plan(start_at_ms=5_000))
    world.submit("waiting", plan(locks=[Lock("db")]))
    world.submit("after", plan(after=["holder"]))
    world.settle()
    world.ask(*(Cancelled(name) for name in ("scheduled", "waiting", "after")))
    for name in ("scheduled", "waiting", "after"):
        assert world.plan(name) is PlanState.CANCELLED
    world.wait(10_000)
    assert world.work() == ["holder/0/1"]
    assert world.is_clean()


def test_cancel_a_paused_plan(world: World) -> None:
    world.submit("p", plan([], [0]))
    world.settle()
    (key,) = world.hold()
    world.fail(key)
    assert world.plan("p") is PlanState.PAUSED
    world.ask(Cancelled("p"))
    assert world.plan("p") is PlanState.CANCELLED
    assert world.is_clean()


def test_cancel_a_plan_that_waits_for_a_limit(world: World) -> None:
    limited = Policy("work", limit=1)
    world.submit("a", plan(policy=limited))
    world.submit("b", plan(policy=limited))
    world.submit("c", plan(policy=limited))
    world.settle()
    world.ask(Cancelled("b"))
    assert world.plan("b") is PlanState.CANCELLED
    assert world.work() == ["a/0/1", "c/0/1"]
    assert world.is_clean()


def test_cancel_again_with_less_patience(world: World) -> None:
    world.submit("p", plan())
    world.settle()
    (key,) = world.hold()
    world.ask(Cancelled("p", 60_000))
    world.ask(Cancelled("p", 90_000))
    assert world.stopped == {"p": 60_000}
    world.ask(Cancelled("p", 0))
    assert world.stopped == {"p": 0}
    world.fail(key, kind="cancelled")
    assert world.is_clean()


def test_cancel_again_leaves_no_mark_when_nothing_was_to_be_stopped(world: World) -> None:
    world.submit("p", plan(policy=Policy("work", cancels=True)))
    world.settle()
    (key,) = world.hold()
    world.suspend(key)
    world.ask(Cancelled("p", 60_000))
    world.ask(Cancelled("p", 0))
    world.work()
    assert world.plan("p") is PlanState.CANCELLED
    assert world.is_clean()


def test_cancel_is_told_to_the_sub_plans(world: World) -> None:
    key = parent(world, children=CASCADE + 1)
    world.suspend(key, children=CASCADE + 1)
    world.ask(Cancelled("p"))
    states = {world.plan(child_id("p", 0, number)) for number in range(CASCADE + 1)}
    assert states == {PlanState.CANCELLED}
    assert world.plan("p") is PlanState.CANCELLED


def test_a_plan_that_is_cancelled_waits_for_its_sub_plans(world: World) -> None:
    """Nothing wakes the step meanwhile; less patience reaches them; its `cancel` is called when they have ended."""
    key = parent(world, children=2, policy=Policy("work", cancels=True))
    world.suspend(key, children=2, wake_ms=1_000)
    first, second = world.hold()
    world.ask(Cancelled("p", 60_000), Sent("p", 0, "go"))
    world.wait(2_000)
    assert world.steps("p") == "z"
    world.fail(first, kind="cancelled")
    world.succeed(second)
    assert world.plan(child_id("p", 0, 1)) is PlanState.CANCELLED
    (key,) = world.hold()
    assert event(world, key) == "cancel"
    world.succeed(key)
    assert world.steps("p") == "c"
    assert world.plan("p") is PlanState.CANCELLED
    assert world.is_clean()


def test_a_plan_that_is_reverted_waits_for_its_sub_plans(world: World) -> None:
    world.suspend(parent(world, children=1), children=1)
    (key,) = world.hold()
    world.ask(Reverted("p"))
    assert world.plan("p") is PlanState.REVERTING
    world.fail(key, kind="cancelled")
    assert world.plan("p") is PlanState.REVERTED


def test_less_patience_reaches_the_sub_plans(world: World) -> None:
    world.suspend(parent(world, children=1), children=1)
    (key,) = world.hold()
    world.ask(Cancelled("p", 60_000))
    world.ask(Cancelled("p", 500))
    assert world.plan("p") is PlanState.CANCELLING
    assert world.stopped[child_id("p", 0, 0)] == 500
    world.fail(key, kind="cancelled")
    assert world.plan("p") is PlanState.CANCELLED


def test_cancel_while_sub_plans_are_submitted(world: World) -> None:
    key = parent(world, children=3)
    world.ask(Cancelled("p"))
    world.fail(key, kind="cancelled", children=3)
    assert world.plan("p") is PlanState.CANCELLED
    assert {world.plan(child_id("p", 0, number)) for number in range(3)} == {PlanState.CANCELLED}


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("ask", [Cancelled("p"), Halted("p"), Reverted("p")])
def test_sub_plans_of_an_attempt_that_failed_end_with_their_plan(world: World, ask: Event, attempts: int) -> None:
    """Paused, or waiting for its next attempt: the sub-plans that it has started are not forgotten."""
    key = parent(world, children=3, policy=Policy("work", attempts=attempts, backoff_ms=60_000))
    world.fail(key, children=3, final=attempts == 1)
    assert world.plan("p") is (PlanState.PAUSED if attempts == 1 else PlanState.RUNNING)
    world.ask(ask)
    world.work()
    ended = PlanState.HALTED if isinstance(ask, Halted) else PlanState.CANCELLED
    assert {world.plan(child_id("p", 0, number)) for number in range(3)} == {ended}


def test_the_check_finds_what_no_worker_owns(world: World) -> None:
    """A worker took the step and finished it while the check looked: the event counts."""
    world.submit("p", plan([], []))
    world.settle()
    a, b = world.hold()
    world.put(Cancelled("p"))
    world.turn()  # sets the timer of the check
    world.finish("w", a)  # not owned any more, and its event is under way
    world.settle()
    assert world.steps("p") == "sq"
    world.wait(CHECK_AGAIN)
    assert world.plan("p") is PlanState.CANCELLING
    world.succeed(b)
    assert world.steps("p") == "ss"


def test_a_worker_that_dies_with_a_step_of_a_cancelled_plan(world: World) -> None:
    world.submit("p", plan())
    world.settle()
    world.hold()
    world.ask(Cancelled("p"))
    world.kill("w")
    world.settle()
    assert world.plan("p") is PlanState.CANCELLED
    assert world.is_clean()


# -- halt --------------------------------------------------------------------------------------------


def test_halt_ends_a_plan_whatever_its_steps_do(world: World) -> None:
    world.submit("p", plan([], [], [], policy=Policy("work", limit=2), locks=[Lock("db")]))
    world.settle()
    a, b = world.hold()
    world.suspend(b)
    world.ask(Halted("p", "ada"))
    assert world.plan("p") is PlanState.HALTED
    assert world.steps("p") == "ccw"
    assert world.stopped == {"p": HALTED}
    assert not world.locked
    assert not world.slots
    assert not world.limited
    world.finish("w", a)
    world.settle()
    assert world.steps("p") == "ccw"


def test_halt_in_every_state_that_a_plan_can_be_in(world: World) -> None:
    world.submit("holder", plan(locks=[Lock("db")]))
    world.submit("scheduled", plan(start_at_ms=5_000))
    world.submit("waiting", plan(locks=[Lock("db")]))
    world.submit("running", plan())
    world.submit("paused", plan())
    world.submit("failing", plan([], [], policies=[Policy("work", rescue="fail")]))
    world.submit("cancelling", plan())
    world.submit("reverting", plan([], [0], policy=Policy("work", revert=True)))
    world.settle()
    keys = world.hold()
    world.fail("paused/0/1", "failing/0/1")
    world.succeed("reverting/0/1")
    world.ask(Cancelled("cancelling"), Reverted("reverting"))
    names = ("holder", "scheduled", "waiting", "running", "paused", "failing", "cancelling", "reverting")
    assert [world.plan(name).name.lower() for name in names[1:]] == [*names[1:]]
    world.ask(*(Halted(name) for name in names))
    assert {world.plan(name) for name in names} == {PlanState.HALTED}
    for key in keys:
        world.finish("w", key)
    world.wait(10_000)
    assert world.hold() == []
    assert not world.locked


def test_halt_is_told_to_the_sub_plans(world: World) -> None:
    key = parent(world, children=2)
    world.suspend(key, children=2)
    world.ask(Halted("p"))
    assert {world.plan(child_id("p", 0, number)) for number in range(2)} == {PlanState.HALTED}
