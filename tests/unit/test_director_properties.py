"""Random plans, random orders of everything, and a director that dies between any two commits.

Each example is a long random walk (tests/support/walk.py); then the world is drained, and everything that must hold
is looked at. What must hold after each commit is in tests/support/rules.py.
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.plan.life import DONE, ENDED, PlanState, StepState
from chargehand.wire import Resumed
from support import rules
from support.walk import Walk
from support.world import World

_MOVING = {StepState.STANDING, StepState.SUSPENDED, StepState.UNDOING, StepState.UNDO_RETRYING}


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_order_is_kept_and_every_plan_ends(seed: int) -> None:
    walk = Walk(Random(seed))
    for _ in range(250):
        walk.step()
    walk.drain()
    world = walk.world
    while paused := [plan for plan in world.states if world.plan(plan) is PlanState.PAUSED]:
        for plan in paused:
            _explained(world, plan)
            world.put(Resumed(plan))
        walk.drain()

    for plan in world.states:
        assert world.plan(plan) in ENDED, f"{plan} waits, and nothing will come"
        _explained(world, plan)
    assert all(count == 1 for count in world.succeeded.values())
    rules.rates_kept(world)
    _nothing_is_left(world)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_successor_decides_what_the_one_before_would_have(seed: int) -> None:
    """Of one whose memory is thrown away before each turn, and one that keeps it; here nothing bounds a commit."""
    walk = Walk(Random(seed), bounded=False)
    for _ in range(250):
        walk.step()
    walk.drain()


def _explained(world: World, plan: str) -> None:
    """The states of its steps say why it is in its state, and what failed is kept for people."""
    states = world.states[plan][1:]
    failed = [step for step, state in enumerate(states) if state == StepState.FAILED]
    assert all(b"message" in world.records[plan][step] for step in failed)
    match world.plan(plan):
        case PlanState.PAUSED:
            assert failed
            assert world.definitions[plan].parent is None
        case PlanState.SUCCEEDED:
            assert all(state in DONE for state in states)
        case PlanState.FAILED:
            assert failed or StepState.SPOILED in states or "start" in world.why(plan) or "holds" in world.why(plan)
            assert not _MOVING & {*states}
        case PlanState.REVERTED:
            policies = world.definitions[plan].policies
            steps = world.definitions[plan].steps
            assert not any(
                state == StepState.SUCCEEDED and policies[step.policy].revert
                for step, state in zip(steps, states, strict=True)
            )
            assert not _MOVING & {*states}
        case PlanState.CANCELLED | PlanState.HALTED:
            assert not _MOVING & {*states}


def _nothing_is_left(world: World) -> None:
    """All plans have ended: nobody holds anything, or waits for anything."""
    assert not any(world.queues.values())
    assert not world.locked
    assert not world.slots
    assert not world.limited
    assert all(name.startswith("c ") for name in world.timers)
    for plan in world.stopped:
        assert plan in world.dropped or world.plan(plan) in {PlanState.HALTED, PlanState.REJECTED}
