"""What happened to a plan, in order: who submitted it, each state, each attempt, what people asked for.

The orchestrator keeps a line only of what did not simply go well; when a plan was submitted, when its steps succeeded
and when it ended stands elsewhere already.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from chargehand.decoding import converter, decode
from chargehand.plan.life import ENDED
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.plans import PLAN_WORDS, read_heads
from chargehand.wire import Failure, Result

__all__ = ["Moment", "read_history"]

_END_WORDS = {PLAN_WORDS[state] for state in ENDED}
_RESULTS = {b"": "succeeded", b"reverted": "reverted"}  # by what stands before the step's number in its field
_PAGE = 100  # results read at once: each may be 1 MiB


class Moment(Struct, omit_defaults=True):
    """One thing that happened to a plan."""

    ms: int  # Redis' TIME; when a step succeeded, the worker's wall clock; when it was submitted, the client's
    what: str  # submitted; plan; asked; and of a step: succeeded, failed, lost, suspended, event, reverted
    text: str = ""  # the plan's new state; what was asked for; the event's name
    by: str = ""  # who submitted, asked or sent
    step: int | None = None
    attempt: int = 0
    node: str = ""
    worker: str = ""  # incarnation
    started_ms: int = 0  # of the attempt
    error: Failure | None = None


def read_history(line: Line, keys: Keys, plan: str) -> list[Moment] | None:
    """None: there is no plan of this id."""
    heads = read_heads(line, keys, [plan])
    if not heads:
        return None
    (view,) = heads
    moments = [_kept(entry) for entry in line.call("LRANGE", keys.history(plan), 0, -1)]
    moments += _successes(line, keys, plan)
    if view.state == "succeeded":
        moments.append(Moment(view.since_ms, "plan", view.state))
    # Its end is the last, whatever the clocks of workers say.
    moments.sort(key=lambda moment: (moment.what == "plan" and moment.text in _END_WORDS, moment.ms))
    return [Moment(view.submitted_ms, "submitted", by=view.by), *moments]


def _kept(entry: bytes) -> Moment:
    ms, what, *rest = decode(entry, list[Any])
    if what == "plan":
        return Moment(ms, what, rest[0])
    if what == "asked":
        return Moment(ms, what, rest[0], by=rest[1])
    if what == "failed":
        error = converter(Failure)(rest[2])
        return Moment(ms, what, "", "", rest[0], rest[1], error.node, error.worker, error.started_ms, error)
    if what == "lost":
        return Moment(ms, what, step=rest[0], attempt=rest[1], worker=rest[2])
    if what == "event":
        return Moment(ms, what, rest[1], rest[2], rest[0])
    if what == "suspended":
        return Moment(ms, what, step=rest[0], attempt=rest[1])
    return Moment(ms, str(what))  # of a later version


def _successes(line: Line, keys: Keys, plan: str) -> Iterator[Moment]:
    cursor = b"0"
    while True:
        cursor, found = line.call("HSCAN", keys.outputs(plan), cursor, "COUNT", _PAGE)
        for field, value in zip(found[::2], found[1::2], strict=True):
            before, _, step = field.rpartition(b" ")
            what = _RESULTS.get(before)
            if what is not None:
                done = decode(value, Result)
                yield Moment(
                    done.ended_ms, what, "", "", int(step), done.attempt, done.node, done.worker, done.started_ms
                )
        if cursor == b"0":
            return
