"""From what a step gave to `spawn` to the definitions of its sub-plans. Who calls this submits them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from chargehand.actions import Action
from chargehand.context import ActionError, Misused, Spawn, StepContext
from chargehand.kinds import Item
from chargehand.planner import Plan
from chargehand.wire import Definition, Lock

__all__ = ["child_definition"]


def child_definition(
    spawn: Spawn,
    number: int,
    item: Item,
    *,
    context: StepContext,
    actions: Mapping[str, Action[..., Any]],
    position: int,
    now_ms: int,
) -> Definition:
    """The sub-plan of the item that has this number, as one of the step's.

    `position` is how many of this attempt are submitted before it: with a rate, it starts so many intervals after
    `now_ms` (Redis' TIME). Raises `ActionError`, naming the number.
    """
    try:
        made = item if isinstance(item, Plan) else _plan(item, actions)
        definition = made.definition(now_ms=now_ms)
    except ActionError as error:
        raise type(error)(f"sub-plan {number}: {error}") from error
    locks = [lock for lock in definition.locks if lock.name not in spawn.held]
    if spawn.limit:
        locks.append(Lock(f"children {context.plan}.{context.step}", most=spawn.limit))
    start_at_ms = definition.start_at_ms
    if spawn.every_ms and position:
        start_at_ms = max(start_at_ms, now_ms + round(position * spawn.every_ms))
    return replace(
        definition,
        parent=(context.plan, context.step),
        locks=locks,
        busy="wait" if spawn.held or spawn.limit else definition.busy,
        start_at_ms=start_at_ms,
    )


def _plan(item: Any, actions: Mapping[str, Action[..., Any]]) -> Plan:
    if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Mapping)):
        raise Misused(f"a sub-plan is a Plan or (action, {{input: value}}), not {item!r:.80}")
    action, inputs = item
    if not isinstance(action, Action | str):
        raise Misused(f"a sub-plan's action is an action or its name, not {action!r:.80}")
    plan = Plan(action if isinstance(action, str) else action.name, actions)
    plan.add(action, **inputs)
    return plan
