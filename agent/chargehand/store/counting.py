"""What the active orchestrator has counted, as it stands in Redis: written once a second, under its token.

Statistics, not accounting: what was counted since the last write is lost with its orchestrator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from chargehand.decoding import decoder
from chargehand.plan.routing import Load
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.scripts import LOAD
from chargehand.wire import encode

__all__ = [
    "ACTIONS",
    "KEPT_MINUTES",
    "MINUTE_MS",
    "ActionTotal",
    "Flow",
    "Kept",
    "MinuteRecord",
    "Page",
    "age_class",
    "age_of",
    "old_minutes",
    "read_actions",
    "read_flow",
    "read_kept",
    "read_minutes",
    "submitted",
    "write_page",
]

MINUTE_MS = 60_000
KEPT_MINUTES = 24 * 60
ACTIONS = 1_000  # that are kept
_OCTAVE = 8  # classes of ages between one and the double of it: 9 % apart


class ActionTotal(Struct, array_like=True, omit_defaults=True):
    """Of one action: how its attempts ended."""

    done: int = 0
    failed: int = 0
    lost: int = 0

    @property
    def all(self) -> int:
        return self.done + self.failed + self.lost


class MinuteRecord(Struct, array_like=True):
    """One minute as it is kept: of `Minute` what can be added up, and what its medians are made of."""

    steps: int = 0
    failed: int = 0
    lost: int = 0
    plans: int = 0
    bad: int = 0
    submitted: int = 0
    busy: int = 0
    behind_ms: int = 0
    actions: dict[str, ActionTotal] = {}
    ages: dict[int, int] = {}  # class of the time from submission to end -> plans (a sample)


class Flow(Struct, array_like=True):
    """What goes into and out of queues."""

    over: float = 0.0  # seconds that were counted: up to a minute
    queues: dict[str, tuple[int, int]] = {}  # queued, and attempts ended. One without any may hold steps


class Kept(NamedTuple):
    """What a predecessor has left."""

    minute: MinuteRecord
    actions: dict[str, ActionTotal]
    queues: list[str]  # that it knew of


class Page(NamedTuple):
    """What is written at once."""

    minute: int  # its beginning, ms of Redis' TIME
    record: MinuteRecord
    actions: dict[str, ActionTotal]  # those that have changed
    flow: Flow
    gone_actions: Sequence[str] = ()
    gone_minutes: Sequence[int] = ()


def age_class(ms: int) -> int:
    """The class of a time, for a sum of times that keeps its percentiles."""
    return round(math.log2(max(0, ms) + 1) * _OCTAVE)


def age_of(ages: Mapping[int, int], share: float) -> int:
    """The age (ms, within 5 %) that this share of them does not exceed; 0 when there are none."""
    wanted = sum(ages.values()) * share
    for one in sorted(ages):
        wanted -= ages[one]
        if wanted <= 0:
            return round(2 ** (one / _OCTAVE) - 1)
    return 0


_actions_decoder = decoder(ActionTotal)
_minute_decoder = decoder(MinuteRecord)
_flow_decoder = decoder(Flow)


def read_kept(line: Line, keys: Keys, minute: int) -> Kept:
    """What there is to go on from. What cannot be read begins anew."""
    record, actions, flow = line.batch(
        [("HGET", keys.minutes, minute), ("HGETALL", keys.actions), ("HGET", keys.load, "flow")]
    )
    return Kept(_minute(record), read_actions(actions), list(read_flow(flow).queues))


def read_actions(found: Sequence[bytes]) -> dict[str, ActionTotal]:
    totals = {}
    for name, value in zip(found[::2], found[1::2], strict=True):
        try:
            totals[name.decode()] = _actions_decoder.decode(value)
        except msgspec.MsgspecError:
            continue
    return totals


def read_flow(found: bytes | None) -> Flow:
    try:
        return _flow_decoder.decode(found or b"[]")
    except msgspec.MsgspecError:
        return Flow()


def read_minutes(line: Line, keys: Keys, minutes: Sequence[int]) -> list[MinuteRecord]:
    """In this order; of a minute without anything an empty one."""
    return [_minute(found) for found in line.call("HMGET", keys.minutes, *minutes)]


def _minute(found: bytes | None) -> MinuteRecord:
    try:
        return _minute_decoder.decode(found or b"[]")
    except msgspec.MsgspecError:
        return MinuteRecord()


def old_minutes(line: Line, keys: Keys, minute: int) -> list[int]:
    """Those that are kept for longer than a day, when it is `minute` now. Some; the rest the next time."""
    found = [int(name) for name in line.call("HKEYS", keys.minutes)]
    return [one for one in found if one <= minute - KEPT_MINUTES * MINUTE_MS][:400]


def submitted(line: Line, keys: Keys, plans: Iterable[tuple[str, str, int]]) -> dict[str, int]:
    """When these plans, (id, label, ...), were submitted: ms of Redis' TIME. Those that are gone are left out."""
    by_label: dict[str, list[str]] = {}
    for plan, label, _ in plans:
        by_label.setdefault(label, []).append(plan)
    answers = line.batch([("ZMSCORE", keys.labelled(f"action:{label}"), *some) for label, some in by_label.items()])
    pairs = zip((plan for some in by_label.values() for plan in some), (s for one in answers for s in one), strict=True)
    return {plan: int(float(score)) for plan, score in pairs if score is not None}


def write_page(line: Line, keys: Keys, token: str, load: Load, page: Page) -> None:
    """Write it with the load, under the holder's token; without effect when that is another's by now.

    Raises `Full`.
    """
    changed = [part for name, total in page.actions.items() for part in (name, encode(total))]
    line.call(
        *LOAD(
            [keys.fence, keys.load, keys.minutes, keys.actions],
            token,
            encode(load),
            encode(page.flow),
            page.minute,
            encode(page.record),
            len(page.gone_minutes),
            len(page.gone_actions),
            *page.gone_minutes,
            *page.gone_actions,
            *changed,
        )
    )
