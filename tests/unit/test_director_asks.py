"""What people ask for while a plan is under way, and what is kept for them.

Each with a director that remembers, and one that is replaced after each turn.
"""

from __future__ import annotations

from chargehand.plan.life import PlanState
from chargehand.wire import (
    Cancelled,
    Policy,
    Resumed,
    Retried,
    Sent,
    Skipped,
)
from support.examples import entry, plan
from support.world import World

# -- retry, skip, resume -----------------------------------------------------------------------------


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


# -- reboots, history, labels ------------------------------------------------------------------------


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
        ["asked", "cancel", "eve"],
        ["plan", "cancelled"],
    ]


def test_labels_find_a_plan_when_it_was_submitted(world: World) -> None:
    world.submit("p", plan(labels=["web", "eu"]))
    world.settle()
    assert {index: [*plans] for index, plans in world.labelled.items()} == {
        "action:work": ["p"],
        "labelled:web": ["p"],
        "labelled:eu": ["p"],
    }
