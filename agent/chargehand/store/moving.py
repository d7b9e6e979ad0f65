"""Moving a plan from one executor to another, in steps that anybody can repeat.

    withdraw    at the first one: its event leaves the inbox, its content and where it goes to stand under `moving`
    submit      at the other one, under the same id
    arrived     at the first one: the content goes, the name of the other stays for a day

A client that dies in between leaves the plan under `moving`: whoever asks for it next brings it to the executor that
is named there, and to no other one, so that two who do so make one plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chargehand.decoding import decode
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.scripts import WITHDRAW
from chargehand.store.submission import Meta, Prepared
from chargehand.wire import Definition

__all__ = ["Moving", "Place", "arrived", "leaving", "pending", "read_moving", "where", "withdraw"]

_ON_ITS_WAY = 7 * 86_400  # seconds that the content is kept when nobody brings it on
_FORWARD = 86_400  # seconds that the name of the other executor is kept


class Place(NamedTuple):
    """What an executor knows of a plan id."""

    here: bool
    moving_to: str | None  # the executor that it was withdrawn for


class Moving(NamedTuple):
    to: str
    plan: Prepared | None  # None: it is there


def withdraw(line: Line, keys: Keys, plans: Mapping[str, str]) -> dict[str, str]:
    """Take plans back. `plans`: id -> the executor that it goes to. A word for each: see withdraw.lua."""
    names = [keys.head, keys.inbox, keys.pending]
    arguments: list[str | int] = [_ON_ITS_WAY]
    for plan, executor in plans.items():
        names += (keys.plan(plan), keys.states(plan), keys.moving(plan))
        arguments += (plan, executor)
    words = line.call(*WITHDRAW(names, *arguments))
    return {plan: word.decode() for plan, word in zip(plans, words, strict=True)}


def arrived(line: Line, keys: Keys, plan: str) -> None:
    """The other executor has it."""
    line.batch([("LTRIM", keys.moving(plan), 0, 0), ("EXPIRE", keys.moving(plan), _FORWARD)])


def where(line: Line, keys: Keys, plan: str) -> Place:
    here, to = line.batch([("EXISTS", keys.plan(plan)), ("LINDEX", keys.moving(plan), 0)])
    return Place(bool(here), to.decode() if to is not None else None)


def pending(line: Line, keys: Keys) -> set[str]:
    """The plans that its orchestrator has not accepted."""
    return {plan.decode() for plan in line.call("HKEYS", keys.pending)}


def leaving(line: Line, keys: Keys, plans: Sequence[str]) -> dict[str, set[str]]:
    """Those of these plans that are not accepted and may go -> the queues that they need.

    Not those that were aimed at this executor or a node of it, or that belong to other plans which are here.
    """
    if not plans:
        return {}
    positions = line.call("HMGET", keys.pending, *plans)
    waiting = [plan for plan, position in zip(plans, positions, strict=True) if position is not None]
    heads = line.batch([("LRANGE", keys.plan(plan), 0, 1) for plan in waiting])
    found: dict[str, set[str]] = {}
    for plan, head in zip(waiting, heads, strict=True):
        if not head:
            continue
        definition = decode(head[0], Definition)
        pinned = decode(head[1], Meta).pinned
        if not (pinned or definition.after or definition.parent):
            found[plan] = {policy.queue for policy in definition.policies}
    return found


def read_moving(line: Line, keys: Keys, plan: str) -> Moving | None:
    """A plan that was withdrawn here; None when it was not. Raises `Unconfirmed`: it may be back after a fail-over."""
    key = keys.moving(plan)
    # A write, so that there is something to be confirmed: with it, the withdrawing before it.
    _, found = line.confirmed(("EXPIRE", key, _ON_ITS_WAY), ("LRANGE", key, 0, -1))
    return Moving(found[0].decode(), _prepared(plan, found[1:])) if found else None


def _prepared(plan: str, content: list[bytes]) -> Prepared | None:
    if not content:
        return None
    definition, meta, *parts = content
    return Prepared(plan, definition, meta, parts, decode(definition, Definition).after)
