"""Queues from near: what stands on one, since when, who serves it, what its limit lets through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from chargehand.decoding import decoder
from chargehand.plan.limits import Limit
from chargehand.plan.run import StepRecord
from chargehand.store.census import Census
from chargehand.store.connection import Command, Line
from chargehand.store.keys import Keys
from chargehand.wire import Failure, Result, Step, read_entry, read_key

__all__ = ["LimitView", "QueueView", "Serving", "Waiting", "read_queues"]

_NAMED = 20  # steps under a limit, and plans that wait for it, that are told
_BEFORE = 50  # steps before a step whose ends are looked at


class Waiting(Struct):
    """A step on a queue."""

    position: int  # 1: the next one
    plan: str
    step: int
    attempt: int
    action: str
    alone: bool  # it runs with nothing beside it, because its worker died twice
    since_ms: int  # when it could begin, as far as that can be told (0: it cannot)


class Serving(Struct):
    """A worker that serves a queue and is heard."""

    node: str
    child: str
    busy: int
    threads: int


class LimitView(Struct):
    """What a queue lets through, and who stands under it now."""

    most: int  # at once; 0: any number
    times: int  # so many begin in `per_ms`; 0: any number
    per_ms: int
    standing: int
    steps: list[str]  # PLAN/STEP, some of those
    plans: int  # that wait for room
    first: list[str]  # some of those, in order


class QueueView(Struct):
    name: str
    waiting: int
    workers: list[Serving]
    in_rate: float  # steps/s queued, of the last minute
    out_rate: float  # attempts/s ended
    entries: list[Waiting]  # the first ones
    limit: LimitView | None  # None: it has none, and nothing stands under one


class _Plan(Struct):
    """Of a definition what says before which steps a step comes."""

    steps: list[Step] = []


_plan_decoder = decoder(_Plan)
_result_decoder = decoder(Result)
_record_decoder = decoder(StepRecord)
_failure_decoder = decoder(Failure)


def read_queues(
    line: Line, keys: Keys, census: Census, limits: Mapping[str, Limit], names: Sequence[str], most: int
) -> list[QueueView]:
    """These queues, each with its first `most` steps. `limits`: those that the configuration here sets, by queue."""
    commands: list[Command] = []
    for name in names:
        commands += [("LRANGE", key, 0, most - 1) for key in (keys.alone(name), keys.queue(name))]
    heads = line.batch([*commands, ("SMEMBERS", keys.slots), ("ZRANGE", keys.limited, 0, -1)])
    slots, limited = ([one.decode() for one in found] for found in heads[-2:])
    views = []
    for at, name in enumerate(names):
        alone, common = heads[2 * at : 2 * at + 2]
        raw = [*((entry, True) for entry in alone), *((entry, False) for entry in common)][:most]
        came, went = census.rates.get(name, (0.0, 0.0))
        views.append(
            QueueView(
                name=name,
                waiting=census.queues.get(name, 0),
                workers=[
                    Serving(one.member.node, one.member.child, one.member.busy, one.member.threads)
                    for one in census.serving(name)
                ],
                in_rate=round(came, 2),
                out_rate=round(went, 2),
                entries=[_waiting(position, entry, alone=first) for position, (entry, first) in enumerate(raw, 1)],
                limit=_limit(name, limits.get(name), slots, limited),
            )
        )
    _date(line, keys, [entry for view in views for entry in view.entries])
    return views


def _waiting(position: int, raw: bytes, *, alone: bool) -> Waiting:
    entry = read_entry(raw)
    plan, step, attempt = read_key(entry.key)
    return Waiting(position, plan, step, attempt, entry.action, alone, 0)


def _limit(name: str, limit: Limit | None, slots: Sequence[str], limited: Sequence[str]) -> LimitView | None:
    start = f"queue:{name} "
    standing = sorted(slot.removeprefix(start) for slot in slots if slot.startswith(start))
    plans = [one.removeprefix(start) for one in limited if one.startswith(start)]
    if limit is None and not standing and not plans:
        return None
    most, times, per_ms = limit or Limit()
    return LimitView(most, times, per_ms, len(standing), standing[:_NAMED], len(plans), plans[:_NAMED])


def _date(line: Line, keys: Keys, entries: Sequence[Waiting]) -> None:
    """Say of each since when it could begin: its plan goes on, what it comes after has ended, its last try too.

    Entries carry no time. What cannot be read says nothing; of a large plan whose steps travel apart only the plan's.
    """
    commands: list[Command] = []
    for one in entries:
        commands += [
            ("ZSCORE", keys.index("R"), one.plan),
            ("LINDEX", keys.plan(one.plan), 0),
            ("HGET", keys.records(one.plan), one.step),
        ]
    answers = line.batch(commands)
    before: list[Command] = []
    for at, one in enumerate(entries):
        since, definition, record = answers[3 * at : 3 * at + 3]
        one.since_ms = max(int(float(since or 0)), _tried(record))
        before.append(("HMGET", keys.outputs(one.plan), one.step, *_after(definition, one.step)))
    for one, results in zip(entries, line.batch(before), strict=True):
        ends = [_result_decoder.decode(result).ended_ms for result in results[1:] if result is not None]
        one.since_ms = max(one.since_ms, *ends, 0)


def _after(definition: bytes | None, step: int) -> list[int]:
    """The latest of the steps that it comes after."""
    try:
        found = _plan_decoder.decode(definition or b"null").steps[step].after
    except (msgspec.MsgspecError, IndexError):
        return []
    numbers = [n for edge in found for n in (range(*edge) if not isinstance(edge, int) else (edge,))]
    return numbers[-_BEFORE:]


def _tried(record: bytes | None) -> int:
    """When its last try failed; 0 when none did."""
    try:
        error = _record_decoder.decode(record or b"[]").error
        return _failure_decoder.decode(error).ended_ms if error else 0
    except msgspec.MsgspecError:
        return 0
