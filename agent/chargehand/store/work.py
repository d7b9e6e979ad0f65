"""A worker's side of the queues: take, finish, give back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from chargehand.store.connection import Command, Line
from chargehand.store.keys import Keys
from chargehand.store.membership import Gone
from chargehand.store.reports import Report
from chargehand.store.scripts import FINISH, GIVE_BACK, TAKE
from chargehand.wire import Entry, Finished, Result, encode, read_entry

__all__ = ["Finish", "Taken", "finish", "give_back", "outputs", "owned_entries", "take", "wait_for_bell"]


class Taken(NamedTuple):
    entries: list[tuple[str, Entry]]  # (queue, entry)
    drain: bool  # a step that must run alone waits: take nothing more until nothing is in hand


class Finish(NamedTuple):
    """How an attempt has ended."""

    plan: str
    key: str
    field: str  # of the plan's outputs: where the result goes
    result: Result | None
    event: Finished
    gone: str = ""  # field of the plan's outputs that nobody needs any more
    report: Report | None = None  # what it said last; told first

    @property
    def size(self) -> int:
        return 200 + (len(self.result.output) if self.result else 0)


def take(
    line: Line, keys: Keys, incarnation: str, queues: Sequence[str], *, free: int, prefetch: int, idle: bool
) -> Taken:
    """Take steps from `queues`, in this order. Raises `Gone` when this incarnation is not registered."""
    names = [keys.members, keys.own(incarnation), keys.stopped]
    for queue in queues:
        names += (keys.queue(queue), keys.alone(queue), keys.bell(queue))
    reply = line.call(*TAKE(names, incarnation, free, prefetch, "1" if idle else "0"))
    if reply[0] == b"GONE":
        raise Gone(incarnation)
    if reply[0] == b"ALONE":
        return Taken([], True)
    pairs = zip(reply[1::2], reply[2::2], strict=True)
    return Taken([(queues[queue], read_entry(entry)) for queue, entry in pairs], False)


def wait_for_bell(line: Line, keys: Keys, queues: Sequence[str], seconds: float) -> None:
    """Return when one of the queues has got something, or after `seconds`."""
    line.send(("BLPOP", *(keys.bell(queue) for queue in queues), seconds))
    line.read(wait=seconds)


def finish(line: Line, keys: Keys, incarnation: str, finishes: Sequence[Finish]) -> list[bool]:
    """Record results and tell the orchestrator. False: stale, this attempt is no longer this worker's."""
    return [bool(reply) for reply in line.call(*finish_command(keys, incarnation, finishes))]


def finish_command(keys: Keys, incarnation: str, finishes: Sequence[Finish]) -> Command:
    names = [keys.own(incarnation), keys.inbox]
    arguments: list[Any] = []
    for one in finishes:
        names.append(keys.outputs(one.plan))
        result = encode(one.result) if one.result is not None else b""
        arguments += (one.key, one.field, result, one.gone, encode(one.event))
    return FINISH(names, *arguments)


def give_back(line: Line, keys: Keys, incarnation: str, steps: Sequence[tuple[str, Entry]]) -> int:
    """Return (queue, entry) pairs that were taken and not started. How many were still owned."""
    names = [keys.own(incarnation)]
    for queue, entry in steps:
        names += (keys.alone(queue) if entry.extra.alone else keys.queue(queue), keys.bell(queue))
    given: int = line.call(*GIVE_BACK(names, *(entry.key for _, entry in steps)))
    return given


def owned_entries(line: Line, keys: Keys, incarnation: str, wanted: Sequence[str]) -> list[Entry]:
    """The entries of step keys that this incarnation owns in Redis; those it no longer owns are left out."""
    if not wanted:
        return []
    found = line.call("HMGET", keys.own(incarnation), *wanted)
    return [read_entry(entry) for entry in found if entry is not None]


def outputs(line: Line, keys: Keys, plan: str, fields: Sequence[int | str]) -> list[bytes | None]:
    """Fields of a plan's outputs (a step's number: its result), as JSON, in this order; None where there is none."""
    found: list[bytes | None] = []
    for at in range(0, len(fields), 1_000):
        found += line.call("HMGET", keys.outputs(plan), *fields[at : at + 1_000])
    return found
