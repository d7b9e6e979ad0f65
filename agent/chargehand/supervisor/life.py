"""A child's life as one table: (state, event) -> (next state, what to do).

Pure. A dash in the documentation's table is `None` here: the event says nothing to that state. A test holds
that no pair is missing.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

__all__ = ["LIFE", "RUNNING", "SWEEPING", "Action", "Event", "Move", "State"]


class State(Enum):
    IDLE = "idle"  # waits for the time of its (next) start
    STARTING = "starting"  # runs, and has not said READY yet
    READY = "ready"
    DRAINING = "draining"  # finishes what runs and takes nothing new; it is not started again
    HUNG = "hung"  # silent or late for longer than it may: told to dump its stacks and die
    STOPPING = "stopping"  # told to end
    SWEEPING = "sweeping"  # has ended; what is left of its process tree is being killed
    CLOSING = "closing"  # the same, and it is not started again
    STOPPED = "stopped"


class Event(Enum):
    DUE = auto()  # the time of its start has come
    UNSTARTABLE = auto()  # its program could not be started
    NOTIFIED_READY = auto()
    LATE = auto()  # not READY within its start time-out
    SILENT = auto()  # no ping within its watchdog time
    DRAIN = auto()  # it is to finish what runs, and then to end for good
    STOP = auto()  # it is to end for good
    OVERDUE = auto()  # it was told to end or die, and did not in time
    EXITED = auto()  # its process has ended
    SWEPT = auto()  # nothing of its process tree is left


class Action(Enum):
    SPAWN = auto()
    ABORT = auto()  # SIGABRT: every thread's stack goes to its log
    ASK_TO_DRAIN = auto()
    ASK_TO_END = auto()  # its link is closed; another program gets its stop signal
    KILL = auto()  # SIGKILL to its whole tree
    BURY = auto()  # hand its death notice to somebody who lives
    RESTART = auto()  # plan the next start, by the restart policy


class Move(NamedTuple):
    next: State
    actions: tuple[Action, ...] = ()


_S, _E, _A = State, Event, Action

_NOTHING: dict[Event, Move | None] = dict.fromkeys(Event)

LIFE: dict[State, dict[Event, Move | None]] = {
    _S.IDLE: _NOTHING
    | {
        _E.DUE: Move(_S.STARTING, (_A.SPAWN,)),
        _E.STOP: Move(_S.STOPPED),
    },
    _S.STARTING: _NOTHING
    | {
        _E.UNSTARTABLE: Move(_S.IDLE, (_A.RESTART,)),
        _E.NOTIFIED_READY: Move(_S.READY),
        _E.LATE: Move(_S.HUNG, (_A.ABORT,)),
        _E.STOP: Move(_S.STOPPING, (_A.ASK_TO_END,)),
        _E.EXITED: Move(_S.SWEEPING, (_A.KILL,)),
    },
    _S.READY: _NOTHING
    | {
        _E.SILENT: Move(_S.HUNG, (_A.ABORT,)),
        _E.DRAIN: Move(_S.DRAINING, (_A.ASK_TO_DRAIN,)),
        _E.STOP: Move(_S.STOPPING, (_A.ASK_TO_END,)),
        _E.EXITED: Move(_S.SWEEPING, (_A.KILL,)),
    },
    _S.DRAINING: _NOTHING
    | {
        _E.SILENT: Move(_S.STOPPING, (_A.ABORT,)),
        _E.STOP: Move(_S.STOPPING, (_A.ASK_TO_END,)),
        _E.EXITED: Move(_S.CLOSING, (_A.KILL,)),
    },
    _S.HUNG: _NOTHING
    | {
        _E.STOP: Move(_S.STOPPING, (_A.KILL,)),
        _E.OVERDUE: Move(_S.HUNG, (_A.KILL,)),
        _E.EXITED: Move(_S.SWEEPING, (_A.KILL,)),
    },
    _S.STOPPING: _NOTHING
    | {
        _E.OVERDUE: Move(_S.STOPPING, (_A.KILL,)),
        _E.EXITED: Move(_S.CLOSING, (_A.KILL,)),
    },
    _S.SWEEPING: _NOTHING
    | {
        _E.STOP: Move(_S.CLOSING),
        _E.OVERDUE: Move(_S.SWEEPING, (_A.KILL,)),
        _E.SWEPT: Move(_S.IDLE, (_A.BURY, _A.RESTART)),
    },
    _S.CLOSING: _NOTHING
    | {
        _E.OVERDUE: Move(_S.CLOSING, (_A.KILL,)),
        _E.SWEPT: Move(_S.STOPPED, (_A.BURY,)),
    },
    _S.STOPPED: _NOTHING,
}

#: States in which its process runs.
RUNNING = frozenset({State.STARTING, State.READY, State.DRAINING, State.HUNG, State.STOPPING})
#: States in which its process has ended, and its tree may not have.
SWEEPING = frozenset({State.SWEEPING, State.CLOSING})
