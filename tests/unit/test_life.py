"""The tables of a step's and a plan's life are whole."""

from __future__ import annotations

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
