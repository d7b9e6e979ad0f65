"""Limits of actions, queues and plans, and rates.

Each with a director that remembers, and one that is replaced after each turn.
"""

from __future__ import annotations

from chargehand.plan.life import PlanState
from chargehand.plan.limits import Limit
from chargehand.wire import (
    Policy,
    Sent,
)
from support.examples import plan
from support.world import World


def test_action_limit_over_all_plans(world: World) -> None:
    limited = Policy("work", limit=2)
    world.submit("a", plan([], [], [], policy=limited))
    world.submit("b", plan([], [], policy=limited))
    world.settle()
    done = []
    while keys := world.hold():
        assert len(keys) <= 2
        world.succeed(keys[0])
        done.append(keys[0])
        keys = list(world.owned["w"])
        for key in keys:
            world.succeed(key)
            done.append(key)
    assert sorted(done) == ["a/0/1", "a/1/1", "a/2/1", "b/0/1", "b/1/1"]
    assert world.is_clean()


def test_a_limit_is_shared_fairly_between_plans(world: World) -> None:
    limited = Policy("work", limit=1)
    world.submit("a", plan(*[[]] * 4, policy=limited))
    world.submit("b", plan(*[[]] * 2, policy=limited))
    world.settle()
    assert [key[0] for key in world.work()] == ["a", "a", "b", "a", "b", "a"]


def test_action_limit_counts_suspended_steps_but_not_those_that_wait_for_a_retry(world: World) -> None:
    limited = Policy("work", attempts=2, limit=1, backoff_ms=1_000, max_backoff_ms=1_000)
    world.submit("a", plan([], policy=limited))
    world.submit("b", plan([], policy=limited))
    world.settle()
    assert world.hold() == ["a/0/1"]
    world.suspend("a/0/1")
    assert world.hold() == []
    world.ask(Sent("a", 0, "go"))
    assert world.hold() == ["a/0/2"]
    world.fail("a/0/2", final=False)
    assert world.hold() == ["b/0/1"]
    world.wait(1_000)
    assert world.hold() == []
    world.succeed("b/0/1")
    assert world.work() == ["a/0/3"]
    assert world.is_clean()


def test_queue_limit_of_the_configuration(world: World) -> None:
    world.configure({"queue:default": Limit(most=1)})
    world.submit("a", plan([], []))
    world.submit("b", plan([], policy=Policy("other")))
    world.settle()
    assert len(world.hold()) == 1
    world.succeed(*world.owned["w"])
    assert len(world.work()) == 2
    assert world.is_clean()


def test_rate_lets_so_many_begin_in_a_time(world: World) -> None:
    world.submit("a", plan(*[[]] * 5, policy=Policy("work", rate=(2, 1_000))))
    world.settle()
    assert len(world.hold()) == 2
    world.wait(499)
    assert world.hold() == []
    world.wait(1)
    assert len(world.hold()) == 1
    world.wait(1_000)
    assert len(world.hold()) == 2


def test_plan_limit_holds_beside_that_of_an_action(world: World) -> None:
    limited = Policy("work", limit=3)
    world.submit("other", plan([], [], [], policy=limited))
    world.settle()
    others = world.hold()
    world.submit("p", plan([], [], [], policy=limited, limit=1))
    world.settle()
    world.succeed(*others)
    keys = world.hold()
    assert len(keys) == 1
    world.suspend(keys[0])
    assert world.hold() == []
    world.ask(Sent("p", int(keys[0].split("/")[1]), "go"))
    assert len(world.work()) == 3
    assert world.plan("p") is PlanState.SUCCEEDED
    assert world.is_clean()


def test_a_limit_that_a_later_plan_brings_is_not_that_of_plans_without(world: World) -> None:
    """Else a successor, which never saw the other plan, would not give the slots back."""
    world.submit("limited", plan(policy=Policy("work", limit=1)))
    world.settle()
    world.submit("free", plan())
    world.settle()
    assert world.hold() == ["limited/0/1", "free/0/1"]
    world.forget()
    world.succeed("limited/0/1", "free/0/1")
    assert world.is_clean()
