"""What people can ask of a plan, and in which states: by the table of a plan's life, so both always agree.

A request is an event that the orchestrator decides on later, and drops when it does not fit by then. This says
before it is made whether it fits now, and if not, what would.
"""

from __future__ import annotations

from enum import Enum

from chargehand.plan.life import ENDED, PLAN_LIFE, PlanEvent, PlanState, StepState

__all__ = ["Request", "plan_refuses", "step_refuses", "word"]


class Request(Enum):
    CANCEL = "cancelled"
    HALT = "halted"
    RESUME = "resumed"
    REVERT = "reverted"
    SKIP = "skipped"
    RETRY = "retried"
    SEND = "sent"


_P, _S = PlanState, StepState

#: In which states a plan can be asked that; those that stand in no list are by the plan's table.
_PLANS = {
    Request.CANCEL: {_P.CANCELLING},  # again, with a shorter grace
    Request.SKIP: {_P.RUNNING, _P.PAUSED},
    Request.RETRY: {_P.RUNNING, _P.PAUSED},
    Request.SEND: set(_P) - ENDED,
}
_EVENTS = {
    Request.CANCEL: PlanEvent.CANCELLED,
    Request.HALT: PlanEvent.HALTED,
    Request.RESUME: PlanEvent.RESUMED,
    Request.REVERT: PlanEvent.UNDO,
}
_PLAN_RULES = {
    Request.CANCEL: "only a plan that is under way can be cancelled",
    Request.HALT: "only a plan that has not ended can be halted",
    Request.RESUME: "only a paused plan can be resumed",
    Request.REVERT: "only a plan that runs, is paused or is failing can be reverted",
    Request.SKIP: "only steps of a plan that runs or is paused can be skipped",
    Request.RETRY: "only steps of a plan that runs or is paused can be retried",
    Request.SEND: "only a plan that has not ended takes events",
}

#: Which steps a request can be about.
_STEPS = {
    Request.SKIP: {_S.FAILED},
    Request.RETRY: {_S.FAILED, _S.RETRYING},
    Request.SEND: {_S.WAITING, _S.STANDING, _S.SUSPENDED, _S.RETRYING},
}
_STEP_RULES = {
    Request.SKIP: "only a step that failed can be skipped",
    Request.RETRY: "only a step that failed can be retried",
    Request.SEND: "it takes no events any more",
}


def word(state: PlanState | StepState | None) -> str:
    """A state as people read it. None: not accepted yet."""
    if state is None:
        return "submitted"
    return "queued" if state is StepState.STANDING else state.name.lower().replace("_", " ")


def plan_refuses(request: Request, state: PlanState | None) -> str | None:
    """Why a plan in this state cannot be asked that, as what follows "the plan is"; None when it can."""
    # What is not accepted yet will be, before the request is looked at.
    now = PlanState.WAITING if state is None else state
    event = _EVENTS.get(request)
    if now in _PLANS.get(request, ()) or (event is not None and PLAN_LIFE[now][event] is not None):
        return None
    return f"{word(state)}: {_PLAN_RULES[request]}"


def step_refuses(request: Request, state: StepState) -> str | None:
    """The same for a step that the request names."""
    return None if state in _STEPS[request] else f"{word(state)}: {_STEP_RULES[request]}"
