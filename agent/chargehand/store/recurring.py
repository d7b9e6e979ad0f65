"""Recurring plans: setting one, and how they are read by people and programs."""

from __future__ import annotations

import re

from msgspec import Raw, Struct

from chargehand.decoding import decode
from chargehand.plan.calendar import Recurrence, check
from chargehand.plan.repeat import Repeat
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.wire import MAX_INLINE, Definition, Recurring, encode

__all__ = ["RecurringView", "read_recurring", "setting"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")  # with a time behind it, it is a plan id: at most 64 characters


class RecurringView(Struct, omit_defaults=True):
    """Times are ms since the epoch."""

    name: str
    label: str  # of its plans
    recurrence: Recurrence
    by: str = ""
    paused: bool = False
    runs: int = 0  # so far
    set_ms: int = 0
    last_ms: int = 0  # the latest time that was dealt with, run or not
    next_ms: int = 0  # 0: there is no further one
    last_plan: str = ""  # of the latest run
    problem: str = ""  # why it does not run


def read_recurring(line: Line, keys: Keys, name: str | None = None) -> list[RecurringView]:
    """All of them by name; or the one of this name, if there is one."""
    records = line.call("HVALS", keys.recurring) if name is None else line.call("HMGET", keys.recurring, name)
    return sorted((_view(record) for record in records if record is not None), key=lambda view: view.name)


def _view(record: bytes) -> RecurringView:
    repeat = decode(record, Repeat)
    return RecurringView(
        repeat.name,
        decode(repeat.definition, Definition).label,
        repeat.recurrence,
        repeat.by,
        repeat.paused,
        repeat.runs,
        repeat.set_ms,
        repeat.last_ms,
        repeat.next_ms,
        repeat.plan_id(repeat.ran_ms) if repeat.ran_ms else "",
        repeat.problem,
    )


def setting(name: str, recurrence: Recurrence, definition: Definition, by: str) -> Recurring:
    """The event that sets a recurring plan. Raises `ValueError`, which says why it cannot be one."""
    if not _NAME.fullmatch(name):
        raise ValueError("its name has 1 to 40 of letters, digits, '.', '_' and '-'")
    check(recurrence)
    for option in ("start_at_ms", "start_before_ms", "after"):
        if getattr(definition, option):
            raise ValueError(f"its plans start by its calendar, so {option.removesuffix('_ms')} says nothing")
    size = len(encode(definition))
    if size > MAX_INLINE:
        raise ValueError(
            f'its plan is {size:,} bytes, the most is {MAX_INLINE:,}; have it planned on a worker (plan_on="worker")'
        )
    return Recurring(name, "set", Raw(encode(Repeat(name, recurrence, Raw(encode(definition)), by))), by)
