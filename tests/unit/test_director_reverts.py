"""Plans that are undone.

Each with a director that remembers, and one that is replaced after each turn.
"""

from __future__ import annotations

from chargehand.plan.books import LEFT_OVER
from chargehand.plan.life import ENDED, PlanState
from chargehand.wire import (
    Policy,
    Reverted,
    Step,
)
from support.examples import entry, plan
from support.world import World


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
