"""Plans that the director starts itself: hooks, recurring ones; and what a full commit left over.

Each with a director that remembers, and one that is replaced after each turn.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from chargehand.plan.books import LEFT_OVER
from chargehand.plan.calendar import Recurrence
from chargehand.plan.life import PlanState
from chargehand.plan.repeat import Repeat
from chargehand.wire import (
    Hook,
    Policy,
    Recurring,
    Resumed,
    Suspension,
    encode,
)
from support.examples import entry, plan
from support.world import World

# -- hooks -------------------------------------------------------------------------------------------


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


# -- recurring ---------------------------------------------------------------------------------------

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


# -- what a large or interrupted plan must not lose --------------------------------------------------


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


def test_what_is_accepted_is_queued_with_it(world: World) -> None:
    """However many wait: else workers would idle until the last of them was accepted."""
    for number in range(1_000):
        world.submit(f"p{number}", plan())
    for _ in range(4):
        world.turn(most=400)
        accepted = len(world.states)
        assert accepted - sum(map(len, world.queues.values())) <= 1  # one event may find just room for itself
    assert accepted > 400
