"""A client's side: submitting plans, and asking the orchestrator for something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from chargehand.plan.life import PlanState, StepState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.scripts import SUBMIT
from chargehand.wire import (
    MAX_INLINE,
    STEPS_A_PART,
    Definition,
    Event,
    Submitted,
    encode,
)

__all__ = [
    "Meta",
    "Prepared",
    "Standing",
    "ask",
    "exists",
    "latest",
    "now_ms",
    "plan_state",
    "prepare",
    "standing",
    "submit",
    "upload",
]

_PART_TTL = 3_600  # seconds that uploaded parts wait for their submission


class Meta(Struct, omit_defaults=True):
    """What is known of a submission besides its content: it does not make two plans different."""

    by: str = ""
    submitted_ms: int = 0  # the client's wall clock
    pinned: bool = False  # to this executor: no client moves it to another


class Prepared(NamedTuple):
    """A plan ready to be sent, as often as it takes."""

    plan: str
    definition: bytes
    meta: bytes
    parts: list[bytes]
    after: list[str]  # plans that it starts after


def prepare(plan: str, definition: Definition, *, submitted_ms: int, pinned: bool = False) -> Prepared:
    """Encode a plan. One that is too large for its event is cut into parts."""
    meta = encode(Meta(definition.by, submitted_ms, pinned))
    steps = definition.steps
    bare = msgspec.structs.replace(definition, by="")
    whole = encode(bare)
    if len(whole) <= MAX_INLINE:
        return Prepared(plan, whole, meta, [], definition.after)
    parts = [encode(steps[at : at + STEPS_A_PART]) for at in range(0, len(steps), STEPS_A_PART)]
    head = msgspec.structs.replace(bare, steps=[], parts=len(parts))
    return Prepared(plan, encode(head), meta, parts, definition.after)


def upload(line: Line, keys: Keys, prepared: Prepared) -> None:
    """Send the parts of a large plan ahead of it."""
    key = keys.parts(prepared.plan)
    line.batch([("DEL", key)])
    for part in prepared.parts:  # one at a time: a part can be large, and Redis serves others in between
        line.batch([("RPUSH", key, part), ("EXPIRE", key, _PART_TTL)])


def submit(line: Line, keys: Keys, plans: Sequence[Prepared], *, max_inbox: int) -> list[str]:
    """One word a plan: OK, KNOWN, CONFLICT, FULL, INCOMPLETE (see submit.lua).

    Raises `Unconfirmed`: they stand in the inbox, and too few replicas know; the same again does no harm.
    """
    names = [keys.inbox, keys.pending]
    arguments: list[bytes | str | int] = [max_inbox]
    for one in plans:
        names += (keys.plan(one.plan), keys.parts(one.plan))
        event = encode(Submitted(one.plan, Raw(one.definition), one.after))
        arguments += (one.plan, event, one.definition, one.meta, len(one.parts))
    (reply,) = line.confirmed(SUBMIT(names, *arguments))
    words = [word.decode() for word in reply]
    if "KNOWN" in words and line.confirmation:
        # Another line wrote it, so this one's replicas were asked about nothing: about this they are.
        line.confirmed(("SET", keys.mark, "", "PX", 1_000))
    return words


def now_ms(line: Line) -> int:
    """Redis' TIME, which everything that is due goes by."""
    seconds, microseconds = line.call("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


def ask(line: Line, keys: Keys, *events: Event) -> list[str]:
    """Put events into the inbox, in this order; their positions. What the orchestrator cannot use it leaves."""
    return [one.decode() for one in line.confirmed(*(("XADD", keys.inbox, "*", "e", encode(one)) for one in events))]


def undecided(line: Line, keys: Keys, position: str) -> bool:
    """True while the event at a position of the inbox is there, and no commit covers it."""
    covered, there = line.batch(
        [("HGET", keys.head, "position"), ("XREVRANGE", keys.inbox, position, position, "COUNT", 1)]
    )
    return bool(there) and _order((covered or b"0-0").decode()) < _order(position)


def latest(line: Line, keys: Keys) -> str | None:
    """The position of the newest event in the inbox; None: there is none that is not decided on."""
    found = line.call("XREVRANGE", keys.inbox, "+", "-", "COUNT", 1)
    return found[0][0].decode() if found else None


def _order(position: str) -> tuple[int, int]:
    ms, _, number = position.partition("-")
    return int(ms), int(number or 0)


def exists(line: Line, keys: Keys, plan: str) -> bool:
    """True when a plan of this id was submitted, accepted or not, or has moved on to another executor."""
    return bool(line.call("EXISTS", keys.plan(plan), keys.moving(plan)))


def plan_state(line: Line, keys: Keys, plan: str) -> PlanState | None:
    """None: not accepted yet, or unknown (`exists` tells which)."""
    found = line.call("GETRANGE", keys.states(plan), 0, 0)
    return PlanState(found[0]) if found else None


class Standing(NamedTuple):
    """Where a plan and some of its steps stand now."""

    plan: PlanState | None  # None: not accepted yet
    steps: list[StepState | None]  # None: there is no such step, or the plan is not accepted yet


def standing(line: Line, keys: Keys, plan: str, steps: Sequence[int] = ()) -> Standing | None:
    """None: there is no plan of this id."""
    there, state, *found = line.batch(
        [
            ("EXISTS", keys.plan(plan)),
            ("GETRANGE", keys.states(plan), 0, 0),
            *(("GETRANGE", keys.states(plan), step + 1, step + 1) for step in steps),
        ]
    )
    if not there:
        return None
    return Standing(
        PlanState(state[0]) if state else None, [StepState(one[0]) if one and state else None for one in found]
    )
