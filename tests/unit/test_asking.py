"""What people can ask of a plan fits what the orchestrator would do with it."""

from __future__ import annotations

import itertools

import pytest

from chargehand.plan.asking import Request, plan_refuses, step_refuses
from chargehand.plan.life import ENDED, PLAN_LIFE, STEP_LIFE, PlanEvent, PlanState, StepEvent, StepState


@pytest.mark.parametrize(("request_", "state"), [*itertools.product(Request, sorted(ENDED))])
def test_nothing_is_asked_of_a_plan_that_has_ended(request_: Request, state: PlanState) -> None:
    refused = plan_refuses(request_, state)
    assert refused is not None
    assert refused.startswith(f"{state.name.lower()}: only ")


@pytest.mark.parametrize("request_", [*Request])
def test_every_plan_can_be_stopped_and_a_new_one_cannot_be_repaired(request_: Request) -> None:
    """`None` is a plan that the orchestrator has not accepted yet."""
    stops = request_ in {Request.CANCEL, Request.HALT, Request.SEND}
    assert (plan_refuses(request_, None) is None) is stops


@pytest.mark.parametrize(
    ("request_", "event"),
    [(Request.HALT, PlanEvent.HALTED), (Request.RESUME, PlanEvent.RESUMED), (Request.REVERT, PlanEvent.UNDO)],
)
def test_it_agrees_with_the_table_of_a_plans_life(request_: Request, event: PlanEvent) -> None:
    for state in PlanState:
        assert (plan_refuses(request_, state) is None) is (PLAN_LIFE[state][event] is not None)


@pytest.mark.parametrize(("request_", "event"), [(Request.SKIP, StepEvent.SKIPPED), (Request.RETRY, StepEvent.RESUMED)])
def test_it_agrees_with_the_table_of_a_steps_life(request_: Request, event: StepEvent) -> None:
    """But that a step which stands is skipped by its action's rescue alone."""
    for state in set(StepState) - {StepState.STANDING}:
        assert (step_refuses(request_, state) is None) is (STEP_LIFE[state][event] is not None)


def test_words() -> None:
    assert plan_refuses(Request.RESUME, PlanState.RUNNING) == "running: only a paused plan can be resumed"
    assert plan_refuses(Request.RESUME, None) == "submitted: only a paused plan can be resumed"
    assert step_refuses(Request.SKIP, StepState.STANDING) == "queued: only a step that failed can be skipped"
    assert step_refuses(Request.SEND, StepState.SUCCEEDED) == "succeeded: it takes no events any more"
