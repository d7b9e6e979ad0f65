"""What the director promises, an example each; with a director that remembers, and one that is replaced each turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from chargehand.plan.books import LEFT_OVER
from chargehand.plan.calendar import Recurrence
from chargehand.plan.ending import CASCADE, CHECK_AGAIN
from chargehand.plan.life import ENDED, PlanState
from chargehand.plan.limits import Limit
from chargehand.plan.repeat import Repeat
from chargehand.wire import (
    HALTED,
    SUB_PLANS_FAILED,
    Cancelled,
    Definition,
    Entry,
    Halted,
    Hook,
    Lock,
    Policy,
    Recurring,
    Resumed,
    Retried,
    Reverted,
    Sent,
    Skipped,
    Step,
    Suspension,
    child_id,
    encode,
    read_entry,
)
from support.world import World


@pytest.fixture(params=["remembers", "forgets"])
def world(request: pytest.FixtureRequest) -> World:
    return World(forgetful=request.param == "forgets")


def plan(*steps: Sequence[int | tuple[int, int]] | Step, policy: Policy | None = None, **options: Any) -> Definition:
    """A plan whose steps depend on those named; without any, of one step."""
    made = [step if isinstance(step, Step) else Step(0, after=list(step)) for step in steps or ([],)]
    policies = options.pop("policies", [policy or Policy("work")])
    return Definition(label="work", policies=policies, total=len(made), steps=made, **options)


def entry(world: World, key: str, worker: str = "w") -> Entry:
    return read_entry(world.owned[worker][key])


def event(world: World, key: str) -> str | None:
    """The name of the event with which an attempt goes on."""
    found = entry(world, key).extra.event
    return found[0] if found else None


# -- beginning ------------------------------------------------------------------------------------


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


# -- locks ----------------------------------------------------------------------------------------


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


# -- limits ---------------------------------------------------------------------------------------


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
    world.fixed = {"queue:default": Limit(most=1)}
    world.forget()
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


# -- suspended steps ------------------------------------------------------------------------------


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


# -- sub-plans ------------------------------------------------------------------------------------


def parent(world: World, *, children: int, **options: Any) -> str:
    """A plan whose step runs, and has submitted sub-plans; its key."""
    world.submit("p", plan(**options))
    world.settle()
    (key,) = world.hold()
    spawn(world, range(children))
    return key


def spawn(world: World, numbers: range | list[int], generation: int = 0, **options: Any) -> None:
    for number in numbers:
        options.setdefault("policy", Policy("child"))
        world.submit(child_id("p", 0, number, generation), plan(parent=("p", 0), **options))
    world.settle()


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


# -- cancel ---------------------------------------------------------------------------------------


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
    assert world.plan("p") is PlanState.CANCELLED
    world.wait(CHECK_AGAIN)
    states = {world.plan(child_id("p", 0, number)) for number in range(CASCADE + 1)}
    assert states == {PlanState.CANCELLED}


def test_cancel_while_sub_plans_are_submitted(world: World) -> None:
    key = parent(world, children=3)
    world.ask(Cancelled("p"))
    world.fail(key, kind="cancelled", children=3)
    assert world.plan("p") is PlanState.CANCELLED
    assert {world.plan(child_id("p", 0, number)) for number in range(3)} == {PlanState.CANCELLED}


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


# -- halt -----------------------------------------------------------------------------------------


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


# -- retry, skip, resume --------------------------------------------------------------------------


def test_retry_one_step_of_a_paused_plan(world: World) -> None:
    world.submit("p", plan([], []))
    world.settle()
    a, b = world.hold()
    world.fail(a, b)
    world.ask(Retried("p", 1, "ada"))
    assert world.work() == ["p/1/2"]
    assert world.plan("p") is PlanState.PAUSED
    world.ask(Resumed("p"))
    assert world.work() == ["p/0/2"]
    assert world.plan("p") is PlanState.SUCCEEDED


def test_retry_a_step_now_that_waits_for_its_next_attempt(world: World) -> None:
    world.submit("p", plan(policy=Policy("work", attempts=2, backoff_ms=60_000)))
    world.settle()
    (key,) = world.hold()
    world.fail(key, final=False)
    world.ask(Retried("p", 0))
    assert world.work() == ["p/0/2"]
    world.wait(60_000)
    assert world.plan("p") is PlanState.SUCCEEDED


def test_retry_a_step_of_a_plan_whose_others_run(world: World) -> None:
    world.submit("p", plan([], []))
    world.settle()
    a, _ = world.hold()
    world.fail(a)
    assert world.plan("p") is PlanState.RUNNING
    world.ask(Retried("p", 0))
    assert world.hold() == ["p/0/2"]


def test_skip_a_step_that_failed(world: World) -> None:
    world.submit("p", plan([], [0]))
    world.settle()
    (key,) = world.hold()
    world.fail(key)
    world.ask(Skipped("p", 1, "ada"))
    assert world.plan("p") is PlanState.PAUSED
    world.ask(Skipped("p", 0, "ada"))
    assert world.work() == ["p/1/1"]
    assert world.plan("p") is PlanState.SUCCEEDED
    assert world.steps("p") == "ks"


def test_a_step_that_is_retried_by_a_person_begins_anew(world: World) -> None:
    world.submit("p", plan(policy=Policy("work", attempts=2)))
    world.settle()
    (key,) = world.hold()
    world.suspend(key)
    world.ask(Sent("p", 0, "go"))
    (key,) = world.hold()
    world.fail(key)
    world.ask(Retried("p", 0))
    (key,) = world.hold()
    extra = entry(world, key).extra
    assert (extra.event, extra.saved, extra.tries) == (None, False, 0)


# -- revert ---------------------------------------------------------------------------------------


def undoes(world: World) -> list[str]:
    """Succeed every revert; the steps in the order in which they were undone, those at once together."""
    done = []
    while keys := world.hold():
        for key in keys:
            found = entry(world, key)
            assert found.action.endswith(":revert")
            assert found.despite
            assert found.extra.output
        world.succeed(*keys)
        done.append("".join(sorted(key.split("/")[1] for key in keys)))
    return done


def test_revert_goes_backwards_over_what_succeeded(world: World) -> None:
    world.submit("p", plan([], [0], [0], [1, 2], [3], policy=Policy("work", revert=True)))
    world.settle()
    for _ in range(3):
        world.succeed(*world.hold())
    (key,) = world.hold()
    world.fail(key)
    assert world.plan("p") is PlanState.PAUSED
    world.ask(Reverted("p", "ada"))
    assert world.plan("p") is PlanState.REVERTING
    assert undoes(world) == ["3", "12", "0"]
    assert world.plan("p") is PlanState.REVERTED
    assert world.steps("p") == "VVVVf"
    assert world.is_clean()


def test_revert_passes_over_what_has_nothing_to_undo(world: World) -> None:
    policies = [Policy("with", revert=True), Policy("without")]
    steps = [Step(0), Step(1, after=[0]), Step(0, after=[1]), Step(1, after=[2])]
    world.submit("p", plan(*steps, policies=policies))
    world.settle()
    for _ in range(3):
        world.succeed(*world.hold())
    world.fail(*world.hold())
    world.ask(Reverted("p"))
    assert undoes(world) == ["2", "0"]
    assert world.steps("p") == "VsVf"


def test_revert_with_ranges(world: World) -> None:
    world.submit("p", plan([], *[[0]] * 20, [(1, 21)], [(0, 21)], [21, 22], policy=Policy("work", revert=True)))
    world.settle()
    for _ in range(3):
        world.succeed(*world.hold())
    world.fail(*world.hold())
    world.ask(Reverted("p"))
    first, second, third = undoes(world)
    assert (first, len(second), third) == ("2122", len("".join(map(str, range(1, 21)))), "0")


def test_revert_of_a_plan_that_runs_ends_its_steps_first(world: World) -> None:
    world.submit("p", plan([], [0], [0], policy=Policy("work", revert=True)))
    world.settle()
    world.succeed(*world.hold())
    (a,) = [world.take("w", "default")]
    assert a is not None
    world.ask(Reverted("p"))
    assert world.stopped == {"p": 0}
    assert world.hold() == []  # the other one is dropped, and nothing is undone yet
    world.succeed(a)
    assert undoes(world) == ["1", "0"]
    assert world.steps("p") == "VVc"


def test_revert_that_fails_keeps_what_it_was_built_upon(world: World) -> None:
    world.submit("p", plan([], [0], [0], [1, 2], policy=Policy("work", revert=True)))
    world.settle()
    for _ in range(2):
        world.succeed(*world.hold())
    world.fail(*world.hold())
    world.ask(Reverted("p"))
    one, two = world.hold()
    world.fail(one)
    world.succeed(two)
    assert world.hold() == []
    assert world.plan("p") is PlanState.FAILED
    assert world.steps("p") == "suVf"
    assert "revert of step 1 failed" in world.why("p")


def test_revert_is_tried_again_and_survives_its_worker(world: World) -> None:
    world.submit("p", plan([], [0], policy=Policy("work", revert=True, attempts=2, backoff_ms=1_000)))
    world.settle()
    world.succeed(*world.hold())
    world.fail(*world.hold())
    world.ask(Reverted("p"))
    (key,) = world.hold()
    world.fail(key, final=False)
    assert world.steps("p") == "yf"
    world.wait(1_000)
    (key,) = world.hold(worker="x")
    world.kill("x")
    world.settle()
    assert undoes(world) == ["0"]
    assert world.plan("p") is PlanState.REVERTED


def test_rescue_revert(world: World) -> None:
    world.submit("p", plan([], [0], policy=Policy("work", revert=True, rescue="revert")))
    world.settle()
    world.succeed(*world.hold())
    world.fail(*world.hold())
    assert undoes(world) == ["0"]
    assert world.plan("p") is PlanState.REVERTED


def test_revert_with_nothing_to_undo(world: World) -> None:
    world.submit("p", plan(policy=Policy("work", revert=True, rescue="revert")))
    world.settle()
    world.fail(*world.hold())
    assert world.plan("p") is PlanState.REVERTED


def test_revert_of_more_than_a_commit_takes(world: World) -> None:
    world.most = 3
    world.forget()
    world.submit("p", plan(*[[]] * 10, [(0, 10)], policy=Policy("work", revert=True)))
    world.settle()
    while (keys := world.hold()) != ["p/10/1"]:
        world.succeed(*keys)
        world.wait(LEFT_OVER)
    world.fail("p/10/1")
    world.ask(Reverted("p"))
    done = ""
    while world.plan("p") not in ENDED:
        done += "".join(undoes(world))
        world.wait(LEFT_OVER)
    assert "".join(sorted(done)) == "0123456789"
    assert world.plan("p") is PlanState.REVERTED


# -- hooks ----------------------------------------------------------------------------------------


def test_hooks_run_when_the_plan_enters_a_state(world: World) -> None:
    policies = [Policy("work"), Policy("notify", queue="hooks")]
    hook = Hook("PS", 1, Raw(b'{"channel":"ops"}'))
    world.submit("p", plan(policies=policies, hooks=[hook]))
    world.settle()
    world.fail(*world.hold())
    (key,) = world.hold(queue="hooks")
    found = entry(world, key)
    assert found.action == "notify"
    assert msgspec.json.decode(found.input) == {"channel": "ops", "plan": "p", "state": "paused"}
    world.succeed(key)
    world.ask(Resumed("p"))
    world.work()
    (key,) = world.hold(queue="hooks")
    assert msgspec.json.decode(entry(world, key).input)["state"] == "succeeded"


def test_hook_of_the_state_in_which_a_plan_begins(world: World) -> None:
    policies = [Policy("work"), Policy("notify", queue="hooks")]
    world.submit("p", plan(policies=policies, hooks=[Hook("R", 1)]))
    world.submit("q", plan(policies=policies, hooks=[Hook("dRF", 1)], start_at_ms=2_000))
    world.settle()
    words = [msgspec.json.decode(entry(world, key).input)["state"] for key in world.hold(queue="hooks")]
    assert words == ["running", "scheduled"]
    world.wait(1_000)
    (key,) = set(world.hold(queue="hooks")) or [""]
    assert msgspec.json.decode(entry(world, key).input)["state"] == "running"


def test_a_hook_that_cannot_be_called_is_refused(world: World) -> None:
    world.submit("p", plan(hooks=[Hook("S", 0, Raw(b"[1]"))]))
    world.submit("q", plan(hooks=[Hook("S", 7)]))
    world.settle()
    assert world.plan("p") is PlanState.REJECTED
    assert world.plan("q") is PlanState.REJECTED
    assert "hook" in world.why("p")


# -- recurring ------------------------------------------------------------------------------------

HOUR = 3_600_000


def recurring(world: World, name: str = "nightly", **options: Any) -> None:
    record = Repeat(name, Recurrence("0 * * * *", **options), Raw(encode(plan())))
    world.ask(Recurring(name, "set", Raw(encode(record)), "ada"))


def test_recurring_plan_runs_when_it_is_due(world: World) -> None:
    recurring(world)
    world.wait(HOUR - 1_001)
    assert world.hold() == []
    world.wait(1)
    assert world.work() == [f"rnightly-{HOUR}/0/1"]
    world.wait(HOUR)
    assert world.work() == [f"rnightly-{2 * HOUR}/0/1"]


def test_recurring_plan_is_paused_and_resumed(world: World) -> None:
    recurring(world)
    world.ask(Recurring("nightly", "pause"))
    world.wait(3 * HOUR)
    assert world.hold() == []
    world.ask(Recurring("nightly", "resume"))
    world.wait(HOUR)
    assert world.work() == [f"rnightly-{4 * HOUR}/0/1"]


def test_recurring_plan_is_removed(world: World) -> None:
    recurring(world)
    world.ask(Recurring("nightly", "remove"))
    world.wait(2 * HOUR)
    assert world.hold() == []
    assert world.repeats == {}
    assert world.timers == {}


def test_recurring_plan_has_its_last_run(world: World) -> None:
    recurring(world, most=2)
    for _ in range(5):
        world.wait(HOUR)
    assert world.work() == [f"rnightly-{HOUR}/0/1", f"rnightly-{2 * HOUR}/0/1"]


def test_recurring_runs_that_were_missed_are_made_up_for(world: World) -> None:
    recurring(world, missed="all")
    world.wait(3 * HOUR)
    assert len(world.work()) == 3


# -- reboots, history, labels ---------------------------------------------------------------------


def test_a_step_that_reboots_its_node_is_finished_by_the_next_boot(world: World) -> None:
    world.submit("p", plan(policy=Policy("reboot", reboots=True, on_lost="pause")))
    world.settle()
    for number in range(1, 6):  # it costs no attempts, and is no poison
        assert world.hold(worker=f"w{number}") == [f"p/0/{number}"]
        world.kill(f"w{number}", boot=f"boot {number}")
        world.settle()
    assert world.hold() == ["p/0/6"]
    found = entry(world, "p/0/6")
    assert found.extra.boot == "boot 5"
    assert not found.suspect


def test_history_tells_what_happened_beyond_success(world: World) -> None:
    world.submit("p", plan([], [], [0, 1], policy=Policy("work", attempts=2, backoff_ms=1, max_backoff_ms=1)))
    world.settle()
    a, b = world.hold()
    world.suspend(b)
    world.ask(Sent("p", 1, "go", by="bob"))
    world.fail(a, final=False)
    world.wait(1)
    world.hold(worker="x")
    world.kill("x")
    world.settle()
    world.work()
    assert world.plan("p") is PlanState.SUCCEEDED
    told = world.told("p")
    assert [one[0] for one in told] == ["suspended", "event", "failed", "lost", "lost"]
    assert told[0] == ["suspended", 1, 1]
    assert told[1] == ["event", 1, "go", "bob"]
    assert told[2][:3] == ["failed", 0, 1]
    assert sorted(told[3:]) == [["lost", 0, 2, "x"], ["lost", 1, 2, "x"]]


def test_history_tells_who_asked_for_what(world: World) -> None:
    world.submit("p", plan())
    world.settle()
    world.fail(*world.hold())
    world.ask(Resumed("p", "ada"))
    world.fail(*world.hold())
    world.ask(Retried("p", 0, "bob"))
    world.fail(*world.hold())
    world.ask(Cancelled("p", 0, "eve"))
    told = [one for one in world.told("p") if one[0] != "failed"]
    assert told == [
        ["plan", "paused"],
        ["asked", "resume", "ada"],
        ["plan", "running"],
        ["plan", "paused"],
        ["asked", "retry 0", "bob"],
        ["plan", "running"],
        ["plan", "paused"],
        ["plan", "cancelled"],
        ["asked", "cancel", "eve"],
    ]


def test_labels_find_a_plan_when_it_was_submitted(world: World) -> None:
    world.submit("p", plan(labels=["web", "eu"]))
    world.settle()
    assert {index: [*plans] for index, plans in world.labelled.items()} == {
        "action:work": ["p"],
        "labelled:web": ["p"],
        "labelled:eu": ["p"],
    }


# -- what a large or interrupted plan must not lose -----------------------------------------------


def test_ready_steps_that_found_no_room_are_queued_by_a_successor(world: World) -> None:
    """Nothing of the plan but a suspended step would ever call it to mind."""
    world.most = 1
    world.forget()
    world.submit("p", plan(*[[]] * 5, [0]))
    world.turn()
    world.forget()
    for key in world.hold():
        world.finish("w", key, suspended=Suspension())
    while world.inbox:
        world.turn(most=1)
        world.forget()
    for _ in range(5):
        world.wait(LEFT_OVER)
    assert len(world.hold()) == 4
