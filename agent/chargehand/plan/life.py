"""The life of a step and of a plan, as tables: (state, event) -> the next state.

A state is one byte, as it stands in Redis: byte 0 of a plan's state string is the plan's, byte
1 + n is step n's. `None` in a table means: this event says nothing to this state, and changes nothing
(a repeated or late message). A test holds that no pair is missing.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto

__all__ = ["DONE", "ENDED", "PLAN_LIFE", "STEP_LIFE", "PlanEvent", "PlanState", "StepEvent", "StepState"]


class StepState(IntEnum):
    WAITING = ord("w")  # for the steps it depends on, or for its turn to be queued
    STANDING = ord("q")  # on a queue, or owned by a worker: Redis knows which
    RETRYING = ord("r")  # its next attempt has a timer
    SUCCEEDED = ord("s")
    FAILED = ord("f")  # for good, until somebody resumes the plan
    SKIPPED = ord("k")  # failed, and the plan goes on without it


class StepEvent(Enum):
    QUEUED = auto()
    SUCCEEDED = auto()
    FAILED = auto()  # and no attempt is left
    BACKED_OFF = auto()  # failed, and will be tried again
    DUE = auto()  # the wait before the next attempt is over
    LOST = auto()  # its worker died: to the front of its queue
    GIVEN_UP = auto()  # its worker died, and it must not or should not run again by itself
    RESUMED = auto()
    SKIPPED = auto()  # by its action's rescue, or by somebody


_S, _E = StepState, StepEvent

STEP_LIFE: dict[StepState, dict[StepEvent, StepState | None]] = {
    _S.WAITING: {
        _E.QUEUED: _S.STANDING,
        _E.SUCCEEDED: None,
        _E.FAILED: None,
        _E.BACKED_OFF: None,
        _E.DUE: None,
        _E.LOST: None,
        _E.GIVEN_UP: None,
        _E.RESUMED: None,
        _E.SKIPPED: None,
    },
    _S.STANDING: {
        _E.QUEUED: None,
        _E.SUCCEEDED: _S.SUCCEEDED,
        _E.FAILED: _S.FAILED,
        _E.BACKED_OFF: _S.RETRYING,
        _E.DUE: None,
        _E.LOST: _S.STANDING,
        _E.GIVEN_UP: _S.FAILED,
        _E.RESUMED: None,
        _E.SKIPPED: _S.SKIPPED,
    },
    _S.RETRYING: {
        _E.QUEUED: None,
        _E.SUCCEEDED: None,
        _E.FAILED: None,
        _E.BACKED_OFF: None,
        _E.DUE: _S.WAITING,
        _E.LOST: None,
        _E.GIVEN_UP: None,
        _E.RESUMED: None,
        _E.SKIPPED: None,
    },
    _S.SUCCEEDED: dict.fromkeys(_E, None),
    _S.FAILED: {
        _E.QUEUED: None,
        _E.SUCCEEDED: None,
        _E.FAILED: None,
        _E.BACKED_OFF: None,
        _E.DUE: None,
        _E.LOST: None,
        _E.GIVEN_UP: None,
        _E.RESUMED: _S.WAITING,
        _E.SKIPPED: _S.SKIPPED,
    },
    _S.SKIPPED: dict.fromkeys(_E, None),
}

#: A step in one of these holds nobody up.
DONE = frozenset({StepState.SUCCEEDED, StepState.SKIPPED})


class PlanState(IntEnum):
    RUNNING = ord("R")
    PAUSED = ord("P")  # a step failed and nothing else can move; resume it
    SUCCEEDED = ord("S")
    REJECTED = ord("X")  # its definition cannot be run at all
    FAILING = ord("f")  # a step failed whose action says so: nothing new starts, what stands is waited for
    FAILED = ord("F")


class PlanEvent(Enum):
    COMPLETED = auto()  # every step succeeded
    STALLED = auto()  # a step failed, and nothing else stands, waits for a timer or is ready
    RESUMED = auto()
    UNREADABLE = auto()
    GIVEN_UP = auto()  # a step failed, and its rescue is to fail the plan
    STOPPED = auto()  # nothing of it stands any more


_P, _V = PlanState, PlanEvent

PLAN_LIFE: dict[PlanState, dict[PlanEvent, PlanState | None]] = {
    _P.RUNNING: {
        _V.COMPLETED: _P.SUCCEEDED,
        _V.STALLED: _P.PAUSED,
        _V.RESUMED: None,
        _V.UNREADABLE: _P.REJECTED,
        _V.GIVEN_UP: _P.FAILING,
        _V.STOPPED: None,
    },
    _P.PAUSED: {
        _V.COMPLETED: None,
        _V.STALLED: None,
        _V.RESUMED: _P.RUNNING,
        _V.UNREADABLE: _P.REJECTED,
        _V.GIVEN_UP: None,
        _V.STOPPED: None,
    },
    _P.FAILING: {
        _V.COMPLETED: None,
        _V.STALLED: None,
        _V.RESUMED: None,
        _V.UNREADABLE: _P.REJECTED,
        _V.GIVEN_UP: None,
        _V.STOPPED: _P.FAILED,
    },
    _P.FAILED: dict.fromkeys(_V, None),
    _P.SUCCEEDED: dict.fromkeys(_V, None),
    _P.REJECTED: dict.fromkeys(_V, None),
}

#: End states: a plan in one of these never changes again.
ENDED = frozenset({PlanState.SUCCEEDED, PlanState.REJECTED, PlanState.FAILED})
