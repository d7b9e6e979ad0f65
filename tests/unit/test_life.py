"""The tables of a step's and a plan's life are whole."""

from __future__ import annotations

from chargehand.config.asking import HOOK_STATES
from chargehand.plan.life import ENDED, PLAN_LIFE, STEP_LIFE, PlanEvent, PlanState, StepEvent, StepState


def test_every_pair_of_step_state_and_event_is_decided() -> None:
    assert set(STEP_LIFE) == set(StepState)
    for state, row in STEP_LIFE.items():
        assert set(row) == set(StepEvent), state


def test_every_pair_of_plan_state_and_event_is_decided() -> None:
    assert set(PLAN_LIFE) == set(PlanState)
    for state, row in PLAN_LIFE.items():
        assert set(row) == set(PlanEvent), state


def test_what_has_ended_stays_so() -> None:
    for state in ENDED:
        assert not any(PLAN_LIFE[state].values())
    assert {after for after in STEP_LIFE[StepState.SUCCEEDED].values() if after} == {StepState.UNDOING}
    for last in (StepState.SKIPPED, StepState.CANCELLED, StepState.REVERTED, StepState.SPOILED):
        assert not any(STEP_LIFE[last].values())


def test_every_state_can_be_reached() -> None:
    plans = {PlanState.SCHEDULED, PlanState.RUNNING, PlanState.REJECTED}
    for _ in PlanState:
        plans |= {after for known in [*plans] for after in PLAN_LIFE[known].values() if after}
    assert plans == set(PlanState)
    steps = {StepState.WAITING}
    for _ in StepState:
        steps |= {after for known in [*steps] for after in STEP_LIFE[known].values() if after}
    assert steps == set(StepState)


def test_every_plan_that_has_not_ended_can_be_halted() -> None:
    for state in set(PlanState) - ENDED:
        assert PLAN_LIFE[state][PlanEvent.HALTED] is PlanState.HALTED


def test_letters_are_told_apart() -> None:
    assert len({chr(state) for state in PlanState}) == len(PlanState)
    assert len({chr(state) for state in StepState}) == len(StepState)


def test_hooks_name_every_state_of_a_plan() -> None:
    assert set(HOOK_STATES) == {state.name.lower() for state in PlanState} | {"ended"}
