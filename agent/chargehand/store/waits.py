"""What a plan waits for, in words: a time, other plans, locks and who holds them, limits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from chargehand.plan.life import PlanState
from chargehand.plan.locks import Locks, read_member
from chargehand.plan.run import PlanRecord
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.wire import Definition

__all__ = ["read_waits"]

_PAGE = 1_000  # members of the locks read at once
_NAMED = 5  # plans told by their ids


def read_waits(line: Line, keys: Keys, plan: str, definition: Definition, state: PlanState | None) -> list[str]:
    """One line each; none when nothing holds it up."""
    if state is None:
        return ["the orchestrator has not looked at it yet: is one active? (chargehand status)"]
    if state is PlanState.SCHEDULED:
        when = datetime.fromtimestamp(definition.start_at_ms / 1000).astimezone()
        return [f"for its time, {when:%Y-%m-%d %H:%M:%S}"]
    if state is PlanState.WAITING:
        record = line.call("HGET", keys.records(plan), "rest")
        awaits = msgspec.json.decode(record, type=PlanRecord).awaits if record else []
        if awaits:
            return [f"for {_some(awaits)} to end"]
        return list(_locks(line, keys, plan, definition))
    if state is PlanState.RUNNING:
        return list(_limits(line, keys, plan, definition))
    return []


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


def _some(plans: list[str]) -> str:
    named = ", ".join(plans[:_NAMED])
    more = f" and {len(plans) - _NAMED:,} more" if len(plans) > _NAMED else ""
    return f"{'plan' if len(plans) == 1 else 'plans'} {named}{more}"
