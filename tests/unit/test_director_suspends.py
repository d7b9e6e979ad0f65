"""Suspended steps, and sub-plans.

Each with a director that remembers, and one that is replaced after each turn.
"""

from __future__ import annotations

import pytest
from msgspec import Raw

from chargehand.plan.life import PlanState
from chargehand.wire import (
    SUB_PLANS_FAILED,
    Lock,
    Policy,
    Sent,
)
from support.examples import entry, event, parent, plan, spawn
from support.world import World

# -- suspended steps ---------------------------------------------------------------------------------


def test_suspended_step_goes_on_with_an_event(world: World) -> None:
    world.submit("p", plan([], [0]))
    world.settle()
    (key,) = world.hold()
    assert entry(world, key).extra.event is None
    world.suspend(key)
    assert world.steps("p") == "zw"
    assert world.hold() == []
    world.ask(Sent("p", 0, "done", Raw(b'{"code":0}')))
    assert world.hold() == ["p/0/2"]
    extra = entry(world, "p/0/2").extra
    assert extra.event == ("done", Raw(b'{"code":0}'))
    assert extra.saved
    world.succeed("p/0/2")
    assert world.work() == ["p/1/1"]


def test_suspended_step_wakes_by_itself(world: World) -> None:
    world.submit("p", plan())
    world.settle()
    (key,) = world.hold()
    world.suspend(key, wake_ms=500, event="poll")
    world.wait(499)
    assert world.steps("p") == "z"
    world.wait(1)
    (key,) = world.hold()
    assert entry(world, key).extra.event == ("poll", Raw(b"null"))
    world.suspend(key, wake_ms=500)
    world.ask(Sent("p", 0, "done"))
    (key,) = world.hold()
    world.suspend(key, wake_ms=5_000)
    world.wait(500)  # the timer of the suspension before says nothing any more
    assert world.steps("p") == "z"
    world.wait(4_500)
    assert len(world.work()) == 1
    assert world.plan("p") is PlanState.SUCCEEDED


def test_events_are_kept_while_the_step_runs_in_their_order(world: World) -> None:
    world.submit("p", plan([], [0]))
    world.settle()
    world.ask(Sent("p", 1, "early"), Sent("p", 0, "one"), Sent("p", 0, "two"))
    (key,) = world.hold()
    for name in ("one", "two"):
        world.suspend(key)
        (key,) = world.hold()
        assert event(world, key) == name
    world.succeed(key)
    (key,) = world.hold()
    world.suspend(key)
    (key,) = world.hold()
    assert event(world, key) == "early"


def test_optional_event_is_dropped_unless_the_step_is_suspended(world: World) -> None:
    world.submit("p", plan())
    world.settle()
    (key,) = world.hold()
    world.ask(Sent("p", 0, "now", optional=True))
    world.suspend(key)
    assert world.steps("p") == "z"
    world.ask(Sent("p", 0, "now", optional=True))
    (key,) = world.hold()
    assert event(world, key) == "now"


@pytest.mark.parametrize("name", ["children", "cancel"])
def test_events_of_the_system_are_not_taken_from_people(world: World, name: str) -> None:
    world.submit("p", plan(policy=Policy("work", cancels=True)))
    world.settle()
    world.ask(Sent("p", 0, name))
    (key,) = world.hold()
    world.suspend(key)
    world.ask(Sent("p", 0, name))
    assert world.steps("p") == "z"


def test_an_action_that_names_its_wake_as_the_system_does_is_woken_all_the_same(world: World) -> None:
    world.submit("p", plan())
    world.settle()
    (key,) = world.hold()
    world.suspend(key, wake_ms=100, event="children")
    world.wait(100)
    (key,) = world.hold()
    assert entry(world, key).extra.children is None


def test_a_lost_step_goes_on_with_the_same_event(world: World) -> None:
    world.submit("p", plan())
    world.settle()
    (key,) = world.hold()
    world.suspend(key)
    world.ask(Sent("p", 0, "done"))
    assert world.hold(worker="x") == ["p/0/2"]
    world.kill("x")
    world.settle()
    assert world.hold() == ["p/0/3"]
    assert event(world, "p/0/3") == "done"
    assert entry(world, "p/0/3").extra.saved


# -- sub-plans ---------------------------------------------------------------------------------------


def test_sub_plans_that_end_after_the_suspension(world: World) -> None:
    key = parent(world, children=3)
    world.suspend(key, children=3)
    a, b, c = world.hold()
    world.succeed(a, b)
    assert world.steps("p") == "z"
    world.succeed(c)
    (key,) = world.hold()
    assert key == "p/0/2"
    assert entry(world, key).extra.children == (3, 3, 0)
    assert entry(world, key).extra.generation == 1
    world.succeed(key)
    assert world.plan("p") is PlanState.SUCCEEDED


def test_sub_plans_that_end_before_the_suspension(world: World) -> None:
    key = parent(world, children=2)
    children = world.hold()
    world.succeed(*children)
    world.suspend(key, children=2)
    (key,) = world.hold()
    assert entry(world, key).extra.children == (2, 2, 0)


def test_sub_plans_that_fail_do_not_pause(world: World) -> None:
    key = parent(world, children=3)
    world.suspend(key, children=3)
    a, b, c = world.hold()
    world.fail(b)
    assert world.plan("p.0.1") is PlanState.FAILED
    world.succeed(a, c)
    (key,) = world.hold()
    assert entry(world, key).extra.children == (3, 2, 1)


def test_sub_plans_that_could_not_run_or_begin_count_as_failed(world: World) -> None:
    key = parent(world, children=0)
    spawn(world, [0], after=["nobody"])
    spawn(world, [1], start_before_ms=1)
    world.suspend(key, children=2)
    (key,) = world.hold()
    assert entry(world, key).extra.children == (2, 0, 2)


def test_second_generation_of_sub_plans_after_some_failed(world: World) -> None:
    key = parent(world, children=3, policy=Policy("work", attempts=2, backoff_ms=100))
    world.suspend(key, children=3)
    a, b, c = world.hold()
    world.succeed(a, c)
    world.fail(b)
    (key,) = world.hold()
    world.fail(key, kind=SUB_PLANS_FAILED, final=False)
    world.wait(100)
    (key,) = world.hold()
    extra = entry(world, key).extra
    assert (extra.generation, extra.event, extra.children) == (1, None, None)
    spawn(world, [1], generation=1)
    world.suspend(key, children=1, end=2)
    (child,) = world.hold()
    assert child == "p.0.1.1/0/1"
    world.succeed(child)
    (key,) = world.hold()
    assert entry(world, key).extra.children == (1, 1, 0)
    assert entry(world, key).extra.generation == 2


def test_limit_of_sub_plans(world: World) -> None:
    key = parent(world, children=0)
    spawn(world, range(4), locks=[Lock("children p.0", most=2)])
    world.suspend(key, children=4)
    assert len(world.hold()) == 2
    world.succeed(*world.owned["w"])
    assert len(world.hold()) == 2
    world.succeed(*world.owned["w"])
    world.work()
    assert world.plan("p") is PlanState.SUCCEEDED
    assert world.is_clean()


def test_an_event_from_people_while_sub_plans_run(world: World) -> None:
    key = parent(world, children=1)
    world.suspend(key, children=1)
    (child,) = world.hold()
    world.ask(Sent("p", 0, "hurry"))
    (key,) = world.hold()
    world.suspend(key)
    world.succeed(child)
    (key,) = world.hold()
    assert entry(world, key).extra.children == (1, 1, 0)


def test_a_step_is_told_what_it_was_sent_before_it_is_told_of_its_sub_plans(world: World) -> None:
    key = parent(world, children=1)
    world.ask(Sent("p", 0, "first"))
    (child,) = world.hold()
    world.succeed(child)
    world.suspend(key, children=1)
    (key,) = world.hold()
    assert event(world, key) == "first"
    world.suspend(key)
    (key,) = world.hold()
    assert event(world, key) == "children"
