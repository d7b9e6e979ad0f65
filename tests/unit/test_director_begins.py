"""How a plan begins: at its time, after other plans, with its locks.

Each with a director that remembers, and one that is replaced after each turn.
"""

from __future__ import annotations

from chargehand.plan.life import PlanState
from chargehand.wire import (
    Definition,
    Lock,
    Policy,
    child_id,
)
from support.examples import plan
from support.world import World

# -- beginning ---------------------------------------------------------------------------------------


def test_start_at_begins_when_its_time_has_come(world: World) -> None:
    world.submit("p", plan(start_at_ms=5_000))
    world.settle()
    assert world.plan("p") is PlanState.SCHEDULED
    assert world.hold() == []
    world.wait(3_999)
    assert world.plan("p") is PlanState.SCHEDULED
    world.wait(1)
    assert world.work() == ["p/0/1"]
    assert world.plan("p") is PlanState.SUCCEEDED


def test_start_before_missed_because_a_lock_was_held(world: World) -> None:
    world.submit("first", plan(locks=[Lock("db")]))
    world.submit("p", plan(locks=[Lock("db")], start_before_ms=3_000))
    world.settle()
    assert world.plan("p") is PlanState.WAITING
    world.wait(2_001)
    assert world.plan("p") is PlanState.FAILED
    assert "was to start before" in world.why("p")
    world.work()
    assert world.is_clean()


def test_start_before_that_has_passed_when_the_plan_is_accepted(world: World) -> None:
    world.submit("p", plan(start_before_ms=900))
    world.settle()
    assert world.plan("p") is PlanState.FAILED
    assert world.hold() == []


def test_start_at_and_start_before_at_the_same_moment(world: World) -> None:
    world.submit("p", plan(start_at_ms=2_000, start_before_ms=2_000))
    world.settle()
    world.wait(1_000)
    assert world.plan("p") is PlanState.RUNNING


def test_chain_starts_after_the_plans_before_it_have_succeeded(world: World) -> None:
    world.submit("a", plan())
    world.submit("b", plan())
    world.submit("c", plan(after=["a", "b"]))
    world.settle()
    a, b = world.hold()
    assert world.plan("c") is PlanState.WAITING
    world.succeed(a)
    assert world.plan("c") is PlanState.WAITING
    world.succeed(b)
    assert world.work() == ["c/0/1"]


def test_chain_after_a_plan_that_failed_fails_or_runs(world: World) -> None:
    world.submit("a", plan(policy=Policy("work", rescue="fail")))
    world.submit("fails", plan(after=["a"]))
    world.submit("runs", plan(after=["a"], after_failure="run"))
    world.settle()
    (key,) = world.hold()
    world.fail(key)
    assert world.plan("a") is PlanState.FAILED
    assert world.plan("fails") is PlanState.FAILED
    assert world.why("fails") == "it was to start after plan a, which is failed"
    assert world.work() == ["runs/0/1"]


def test_chain_after_a_plan_that_has_ended_already(world: World) -> None:
    world.submit("a", plan())
    world.settle()
    world.work()
    world.submit("b", plan(after=["a"]))
    world.settle()
    assert world.work() == ["b/0/1"]


def test_chain_after_an_unknown_plan_is_rejected(world: World) -> None:
    world.submit("p", plan(after=["nobody"]))
    world.settle()
    assert world.plan("p") is PlanState.REJECTED
    assert "nobody" in world.why("p")


def test_chain_of_a_large_plan_and_one_without_steps(world: World) -> None:
    world.submit("large", plan([], []), parts=True)
    world.submit("large-too", plan([], [0], after=["large"]), parts=True)
    world.submit("empty", Definition("none", [], 0, after=["large-too"]))
    world.settle()
    assert world.work() == ["large/0/1", "large/1/1", "large-too/0/1", "large-too/1/1"]
    assert world.plan("empty") is PlanState.SUCCEEDED


# -- locks -------------------------------------------------------------------------------------------


def test_exclusive_lock_is_held_by_one_plan_at_a_time_in_the_order_of_asking(world: World) -> None:
    for name in "abc":
        world.submit(name, plan(locks=[Lock("db")]))
    world.settle()
    assert [world.plan(name) for name in "abc"] == [PlanState.RUNNING, PlanState.WAITING, PlanState.WAITING]
    assert world.work() == ["a/0/1", "b/0/1", "c/0/1"]
    assert world.is_clean()


def test_shared_lock_is_held_by_many_and_an_exclusive_one_waits_for_all(world: World) -> None:
    world.submit("a", plan(locks=[Lock("db", 0)]))
    world.submit("b", plan(locks=[Lock("db", 0)]))
    world.submit("x", plan(locks=[Lock("db", 1)]))
    world.submit("c", plan(locks=[Lock("db", 0)]))
    world.settle()
    a, b = world.hold()
    assert (a, b) == ("a/0/1", "b/0/1")
    world.succeed(a)
    assert world.hold() == []
    world.succeed(b)
    assert world.hold() == ["x/0/1"]
    world.succeed("x/0/1")
    assert world.work() == ["c/0/1"]


def test_counted_lock_is_held_by_so_many(world: World) -> None:
    for name in "abc":
        world.submit(name, plan(locks=[Lock("licence", 2)]))
    world.settle()
    a, b = world.hold()
    assert world.plan("c") is PlanState.WAITING
    world.succeed(b)
    assert world.hold() == ["c/0/1"]
    world.succeed(a, "c/0/1")
    assert world.is_clean()


def test_plans_that_want_several_locks_do_not_block_each_other_for_ever(world: World) -> None:
    world.submit("a", plan(locks=[Lock("x"), Lock("y")]))
    world.submit("b", plan(locks=[Lock("y"), Lock("x")]))
    world.submit("c", plan(locks=[Lock("y")]))
    world.settle()
    assert world.work() == ["a/0/1", "b/0/1", "c/0/1"]
    assert world.is_clean()


def test_the_same_lock_asked_for_twice_is_one(world: World) -> None:
    world.submit("a", plan(locks=[Lock("x", 0), Lock("x", 1), Lock("x", 0)]))
    world.settle()
    assert world.work() == ["a/0/1"]
    assert world.is_clean()


def test_busy_reject_fails_at_once_when_a_lock_is_held(world: World) -> None:
    world.submit("a", plan(locks=[Lock("db")]))
    world.submit("b", plan(locks=[Lock("db")], busy="reject"))
    world.settle()
    assert world.plan("b") is PlanState.FAILED
    assert "'db'" in world.why("b")
    world.work()
    world.submit("c", plan(locks=[Lock("db")], busy="reject"))
    world.settle()
    assert world.work() == ["c/0/1"]


def test_a_sub_plan_has_the_locks_of_the_plan_that_started_it(world: World) -> None:
    world.submit("p", plan(locks=[Lock("db")]))
    world.settle()
    (key,) = world.hold()
    child = child_id("p", 0, 0)
    world.submit(child, plan(locks=[Lock("db")], parent=("p", 0)))
    world.suspend(key, children=1)
    assert world.hold() == [f"{child}/0/1"]


def test_a_plan_whose_id_only_looks_like_that_of_a_sub_plan_waits_for_the_lock(world: World) -> None:
    world.submit("p", plan(locks=[Lock("db")]))
    world.submit("p.0.0", plan(locks=[Lock("db")]))
    world.settle()
    assert world.plan("p.0.0") is PlanState.WAITING
