"""The sub-plans of a step, as the step's worker reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from chargehand.decoding import decode
from chargehand.plan.life import ENDED, PlanState
from chargehand.plan.run import StepRecord
from chargehand.store.connection import Command, Line
from chargehand.store.keys import Keys
from chargehand.wire import Failure, Result

__all__ = ["ChildEnd", "Spawned", "child_ends", "child_states", "read_spawned"]


class Spawned(Struct, array_like=True, frozen=True):
    """What a step that waits for its sub-plans leaves for itself, in a field of its plan's outputs."""

    first: int  # the generation in which this work was begun: a new try goes on with what has not succeeded since
    end: int  # the highest number + 1
    skipped: int  # sub-plans that had succeeded before, and were not started again


class ChildEnd(NamedTuple):
    plan: str
    state: PlanState
    result: Result | None  # of its last step
    error: Failure | None  # of the first step that failed, or why it could not run at all


def read_spawned(result: bytes | None) -> Spawned | None:
    """From the field of the plan's outputs (`spawned_field`), which holds a result."""
    return decode(decode(result, Result).output, Spawned) if result is not None else None


def child_states(line: Line, keys: Keys, plans: Sequence[str]) -> list[PlanState | None]:
    """None: not accepted yet, or unknown."""
    found = line.batch([("GETRANGE", keys.states(plan), 0, 0) for plan in plans])
    return [PlanState(state[0]) if state else None for state in found]


def child_ends(line: Line, keys: Keys, plans: Sequence[tuple[str, PlanState]]) -> list[ChildEnd]:
    """What came of sub-plans in these states. Two round trips."""
    lengths = line.batch([("STRLEN", keys.states(plan)) for plan, _ in plans])
    commands: list[Command] = []
    for (plan, state), length in zip(plans, lengths, strict=True):
        commands.append(("HGET", keys.outputs(plan), length - 2))  # one byte is the plan's
        if _ended_badly(state):
            commands.append(("HGETALL", keys.records(plan)))
    answers = iter(line.batch(commands))
    ends = []
    for plan, state in plans:
        found = next(answers)
        result = decode(found, Result) if found is not None else None
        error = _first_error(next(answers)) if _ended_badly(state) else None
        ends.append(ChildEnd(plan, state, result, error))
    return ends


def _ended_badly(state: PlanState) -> bool:
    return state in ENDED and state is not PlanState.SUCCEEDED


def _first_error(records: Sequence[bytes]) -> Failure | None:
    """`records` is a hash: step -> record; `plan` -> what is wrong with the whole."""
    found = dict(zip(records[::2], records[1::2], strict=True))
    whole = found.get(b"plan")
    if whole is not None:
        return decode(whole, Failure)
    for step in sorted(int(name) for name in found if name.isdigit()):
        error = decode(found[b"%d" % step], StepRecord).error
        if error:
            return decode(error, Failure)
    return None
