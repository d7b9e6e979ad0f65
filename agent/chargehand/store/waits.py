"""What a plan and its steps wait for, in words: a time, other plans, locks and who holds them, events, workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

import msgspec

from chargehand.plan.life import PlanState
from chargehand.plan.locks import Locks, read_member
from chargehand.plan.run import PlanRecord
from chargehand.plan.timers import retry_timer, wake_timer
from chargehand.store.census import Census, take_census
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.wire import Definition

__all__ = ["IDLE", "Idle", "read_waits", "step_waits"]

IDLE = frozenset({"queued", "suspended", "retrying"})  # words of steps that `step_waits` explains

_PAGE = 1_000  # members of the locks read at once
_NAMED = 5  # plans and steps told by their names
_LOOKED_AT = 100  # steps of a plan


class Idle(NamedTuple):
    """A step that has its turn and does not run."""

    number: int
    state: str  # a word of IDLE
    queue: str
    attempt: int
    left: int = 0  # of its sub-plans


def read_waits(line: Line, keys: Keys, plan: str, definition: Definition, state: PlanState | None) -> list[str]:
    """One line each; none when nothing holds it up."""
    if state is None:
        return ["the orchestrator has not looked at it yet: is one active? (chargehand status)"]
    if state is PlanState.SCHEDULED:
        return [f"for its time, {_time(definition.start_at_ms)}"]
    if state is PlanState.WAITING:
        record = line.call("HGET", keys.records(plan), "rest")
        awaits = msgspec.json.decode(record, type=PlanRecord).awaits if record else []
        if awaits:
            return [f"for {_some(awaits)} to end"]
        return list(_locks(line, keys, plan, definition))
    if state is PlanState.RUNNING:
        return list(_limits(line, keys, plan, definition))
    if state is PlanState.PAUSED:
        return ["for somebody: chargehand plan resume, retry, skip, revert or cancel"]
    return []


def step_waits(line: Line, keys: Keys, plan: str, steps: Iterable[Idle]) -> list[str]:
    """Of a plan that is under way, what its steps wait for: one line for all that wait for the same."""
    some = list(islice(steps, _LOOKED_AT))
    timed = [
        wake_timer(plan, step.number, step.attempt)
        if step.state == "suspended"
        else retry_timer(plan, step.number, step.attempt)
        for step in some
    ]
    due = line.batch([("ZSCORE", keys.timers, timer) for timer in timed])
    census = take_census(line, keys, "") if any(step.state == "queued" for step in some) else None
    reasons: dict[str, list[int]] = {}
    for step, score in zip(some, due, strict=True):
        reasons.setdefault(_reason(step, int(float(score or 0)), census), []).append(step.number)
    return [f"{_named('step', numbers)} {reason}" for reason, numbers in reasons.items()][:_NAMED]


def _reason(step: Idle, due_ms: int, census: Census | None) -> str:
    if step.state == "retrying":
        return f"for the next attempt, at {_time(due_ms)}" if due_ms else "for the next attempt"
    if step.state == "suspended":
        if step.left:
            return f"for sub-plans, {step.left:,} of them"
        return f"for an event, or until {_time(due_ms)}" if due_ms else "for an event (chargehand plan event)"
    assert census is not None
    serving = [one for one in census.members if step.queue in one.member.queues and not one.silent]
    if not serving:
        node = step.queue.removeprefix("@")
        return f"for node {node!r}: it is away" if node != step.queue else f"for a worker: none serves {step.queue!r}"
    busy, threads = (sum(getattr(one.member, what) for one in serving) for what in ("busy", "threads"))
    waiting = census.queues.get(step.queue, 0)
    return f"for a worker: {waiting:,} steps in the queue {step.queue!r}, {busy} of its {threads} threads busy"


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000).astimezone():%Y-%m-%d %H:%M:%S}"


def _locks(line: Line, keys: Keys, plan: str, definition: Definition) -> Iterator[str]:
    wanted = {lock.name for lock in definition.locks}
    members: list[tuple[str, int]] = []
    for at in range(0, line.call("ZCARD", keys.locks), _PAGE):
        found = line.call("ZRANGE", keys.locks, at, at + _PAGE - 1, "WITHSCORES")
        for member, ticket in zip(found[::2], found[1::2], strict=True):
            if read_member(member.decode())[1].name in wanted:
                members.append((member.decode(), int(float(ticket))))
    locks = Locks(members)
    for name in sorted(wanted):
        holders, before = locks.ahead_of(plan, name)
        if holders:
            line_before = f"; {before} before it" if before else ""
            yield f"for the lock {name!r}, held by {_some(holders)}{line_before}"


def _limits(line: Line, keys: Keys, plan: str, definition: Definition) -> Iterator[str]:
    names = dict.fromkeys(
        name for policy in definition.policies for name in (f"action:{policy.action}", f"queue:{policy.queue}")
    )
    found = line.batch([("ZRANK", keys.limited, f"{name} {plan}") for name in names])
    for name, rank in zip(names, found, strict=True):
        if rank is not None:
            kind, _, what = name.partition(":")
            yield f"for room under the limit of {kind} {what!r}"


def _some(plans: Sequence[str]) -> str:
    return _named("plan", plans)


def _named(what: str, some: Sequence[object]) -> str:
    names = ", ".join(map(str, some[:_NAMED]))
    more = f" and {len(some) - _NAMED:,} more" if len(some) > _NAMED else ""
    return f"{what if len(some) == 1 else what + 's'} {names}{more}"
