"""The life of a step and of a plan, as tables: (state, event) -> the next state.

A state is one byte, as it stands in Redis: byte 0 of a plan's state string is the plan's, byte
1 + n is step n's. `None` in a table means: this event says nothing to this state, and changes nothing
(a repeated or late message).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from typing import TypeVar

__all__ = ["DONE", "ENDED", "ENDING", "PLAN_LIFE", "STEP_LIFE", "PlanEvent", "PlanState", "StepEvent", "StepState"]

S = TypeVar("S", bound=IntEnum)
E = TypeVar("E", bound=Enum)


def _table(states: type[S], events: type[E], moves: Mapping[S, Mapping[E, S]]) -> dict[S, dict[E, S | None]]:
    """`moves` made whole: every state has every event."""
    return {state: {event: moves.get(state, {}).get(event) for event in events} for state in states}


class StepState(IntEnum):
    WAITING = ord("w")  # for the steps it depends on, for a limit, or for its turn to be queued
    STANDING = ord("q")  # on a queue, or owned by a worker: Redis knows which
    SUSPENDED = ord("z")  # it has run so far, and waits for an event
    RETRYING = ord("r")  # its next attempt has a timer
    SUCCEEDED = ord("s")
    FAILED = ord("f")  # for good, until somebody resumes the plan
    SKIPPED = ord("k")  # failed, and the plan goes on without it
    CANCELLED = ord("c")
    UNDOING = ord("v")  # succeeded; its revert stands on a queue or is owned by a worker
    UNDO_RETRYING = ord("y")  # its revert failed, and the next attempt has a timer
    REVERTED = ord("V")
    SPOILED = ord("u")  # its revert failed for good: what it did stands


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
    SUSPENDED = auto()
    WOKEN = auto()  # an event came for it
    CANCELLED = auto()
    UNDO = auto()  # its revert is queued


_S, _E = StepState, StepEvent

STEP_LIFE = _table(
    StepState,
    StepEvent,
    {
        _S.WAITING: {_E.QUEUED: _S.STANDING},
        _S.STANDING: {
            _E.SUCCEEDED: _S.SUCCEEDED,
            _E.FAILED: _S.FAILED,
            _E.BACKED_OFF: _S.RETRYING,
            _E.LOST: _S.STANDING,
            _E.GIVEN_UP: _S.FAILED,
            _E.SKIPPED: _S.SKIPPED,
            _E.SUSPENDED: _S.SUSPENDED,
            _E.CANCELLED: _S.CANCELLED,
        },
        _S.SUSPENDED: {_E.WOKEN: _S.STANDING, _E.CANCELLED: _S.CANCELLED},
        _S.RETRYING: {_E.DUE: _S.WAITING, _E.RESUMED: _S.WAITING, _E.CANCELLED: _S.CANCELLED},
        _S.FAILED: {_E.RESUMED: _S.WAITING, _E.SKIPPED: _S.SKIPPED},
        _S.SUCCEEDED: {_E.UNDO: _S.UNDOING},
        _S.UNDOING: {
            _E.SUCCEEDED: _S.REVERTED,
            _E.FAILED: _S.SPOILED,
            _E.GIVEN_UP: _S.SPOILED,
            _E.BACKED_OFF: _S.UNDO_RETRYING,
            _E.LOST: _S.UNDOING,
            _E.CANCELLED: _S.SPOILED,
        },
        _S.UNDO_RETRYING: {_E.DUE: _S.UNDOING, _E.CANCELLED: _S.SPOILED},
    },
)

#: A step in one of these holds nobody up.
DONE = frozenset({StepState.SUCCEEDED, StepState.SKIPPED})


class PlanState(IntEnum):
    SCHEDULED = ord("d")  # for a time
    WAITING = ord("b")  # for other plans to end, or for its locks
    RUNNING = ord("R")
    PAUSED = ord("P")  # a step failed and nothing else can move; resume it
    FAILING = ord("f")  # a step failed whose action says so: nothing new starts, what stands is waited for
    CANCELLING = ord("c")  # nothing new starts, what runs is being ended
    REVERTING = ord("v")  # the same; then what succeeded is undone
    SUCCEEDED = ord("S")
    FAILED = ord("F")
    CANCELLED = ord("C")
    REVERTED = ord("V")
    HALTED = ord("H")  # ended at once, whatever its steps did
    REJECTED = ord("X")  # its definition cannot be run at all


class PlanEvent(Enum):
    DUE = auto()  # its time has come
    OPENED = auto()  # it has all that it waited for
    MISSED = auto()  # its time is over, or what it waited for ended otherwise than well
    COMPLETED = auto()  # every step succeeded
    STALLED = auto()  # a step failed, and nothing else stands, waits for a timer or is ready
    RESUMED = auto()
    UNREADABLE = auto()
    GIVEN_UP = auto()  # a step failed, and its rescue is to fail the plan; or a revert failed for good
    CANCELLED = auto()
    UNDO = auto()  # what it did is to be undone
    HALTED = auto()
    STOPPED = auto()  # nothing of it stands any more


_P, _V = PlanState, PlanEvent

PLAN_LIFE = _table(
    PlanState,
    PlanEvent,
    {
        _P.SCHEDULED: {
            _V.DUE: _P.WAITING,
            _V.OPENED: _P.RUNNING,
            _V.MISSED: _P.FAILED,
            _V.CANCELLED: _P.CANCELLED,
            _V.HALTED: _P.HALTED,
            _V.UNREADABLE: _P.REJECTED,
        },
        _P.WAITING: {
            _V.OPENED: _P.RUNNING,
            _V.MISSED: _P.FAILED,
            _V.CANCELLED: _P.CANCELLED,
            _V.HALTED: _P.HALTED,
            _V.UNREADABLE: _P.REJECTED,
        },
        _P.RUNNING: {
            _V.COMPLETED: _P.SUCCEEDED,
            _V.STALLED: _P.PAUSED,
            _V.GIVEN_UP: _P.FAILING,
            _V.CANCELLED: _P.CANCELLING,
            _V.UNDO: _P.REVERTING,
            _V.HALTED: _P.HALTED,
            _V.UNREADABLE: _P.REJECTED,
        },
        _P.PAUSED: {
            _V.RESUMED: _P.RUNNING,
            _V.CANCELLED: _P.CANCELLED,
            _V.UNDO: _P.REVERTING,
            _V.HALTED: _P.HALTED,
            _V.UNREADABLE: _P.REJECTED,
        },
        _P.FAILING: {
            _V.STOPPED: _P.FAILED,
            _V.CANCELLED: _P.CANCELLING,
            _V.UNDO: _P.REVERTING,
            _V.HALTED: _P.HALTED,
            _V.UNREADABLE: _P.REJECTED,
        },
        _P.CANCELLING: {_V.STOPPED: _P.CANCELLED, _V.HALTED: _P.HALTED, _V.UNREADABLE: _P.REJECTED},
        _P.REVERTING: {
            _V.COMPLETED: _P.REVERTED,
            _V.GIVEN_UP: _P.FAILED,
            _V.HALTED: _P.HALTED,
            _V.UNREADABLE: _P.REJECTED,
        },
    },
)

#: A plan in one of these is being ended before its time: nothing new of it starts.
ENDING = frozenset({_P.CANCELLING, _P.REVERTING})

#: End states: a plan in one of these never changes again.
ENDED = frozenset({_P.SUCCEEDED, _P.FAILED, _P.CANCELLED, _P.REVERTED, _P.HALTED, _P.REJECTED})
