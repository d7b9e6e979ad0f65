"""What one turn of the director decided, as plain values. `store/` writes it in one atomic script."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["CLOSED", "RAN", "Commit", "Corpse", "Launch", "Move", "Purge", "StateWrite"]

#: What becomes of an attempt that has not done its work. Who is suspended, cancelled, or reboots its node has left:
#: that is neither well nor ill.
RAN = ("failed", "lost", "left")
CLOSED = 20  # plans of one commit whose time from submission to end can be looked at


@dataclass(frozen=True, slots=True)
class Corpse:
    """An incarnation to be reaped, and what it owned when that was read.

    The commit changes nothing when the corpse owns anything else by then, or (silence only) when its
    heart has beaten since.
    """

    incarnation: str
    owned: tuple[str, ...]  # step keys
    beat_ms: int | None = None  # None: its process tree is known to be gone; else the last beat seen
    boot: str = ""  # `boot_key` of its node; empty when that is not known


@dataclass(frozen=True, slots=True)
class StateWrite:
    """Bytes of a plan's state string, from `offset` on."""

    plan: str
    offset: int
    value: bytes


class Move(NamedTuple):
    """Of a plan between the indexes of states."""

    before: str  # letters: it stands under one of these; "" for a new plan
    after: str
    ms: int  # since when


class Launch(NamedTuple):
    """A plan that the director itself submits: a hook, a run of a recurring plan."""

    plan: str
    definition: bytes
    meta: bytes


class Purge(NamedTuple):
    """An ended plan that is to go, and where it is indexed."""

    state: str
    plan: str
    labels: tuple[str, ...] = ()  # names of indexes


@dataclass(slots=True)
class Commit:
    """The effects of one turn. Empty when nothing happened; `position` is the last event it covers."""

    position: str | None = None
    created: dict[str, bytes] = field(default_factory=dict)  # plan -> its whole new state string
    states: list[StateWrite] = field(default_factory=list)
    records: dict[str, dict[int, bytes]] = field(default_factory=dict)  # plan -> step -> JSON
    pushed: dict[str, list[bytes]] = field(default_factory=dict)  # queue -> entries, to its end
    returned: dict[str, list[bytes]] = field(default_factory=dict)  # queue -> entries, to its front
    alone: dict[str, list[bytes]] = field(default_factory=dict)  # queue -> entries that run alone
    timers: dict[str, int] = field(default_factory=dict)  # member -> due, ms of Redis' TIME
    stopped_timers: set[str] = field(default_factory=set)
    indexed: dict[str, Move] = field(default_factory=dict)  # plan -> from which state's index to which
    labelled: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # index -> (ms, plan)
    purged: list[Purge] = field(default_factory=list)
    reaped: list[Corpse] = field(default_factory=list)
    announced: dict[str, str] = field(default_factory=dict)  # plan -> its new state, one letter
    told: list[bytes] = field(default_factory=list)  # events to the inbox: for plans that are not in memory now
    launched: list[Launch] = field(default_factory=list)
    stopped: dict[str, int | None] = field(
        default_factory=dict
    )  # plan -> grace, ms; its entries are dropped. None: no more
    locked: dict[str, int | None] = field(default_factory=dict)  # lock member -> ticket; None: it leaves
    slots: dict[str, bool] = field(default_factory=dict)  # slot member -> taken or left
    limited: dict[str, int | None] = field(default_factory=dict)  # `NAME PLAN` -> ticket; None: it waits no more
    rates: dict[str, float] = field(default_factory=dict)  # limit -> ms from which on the next step conforms
    history: dict[str, list[bytes]] = field(default_factory=dict)  # plan -> JSON arrays
    repeats: dict[str, bytes | None] = field(default_factory=dict)  # recurring plan -> its record; None: removed
    # To be counted, not written:
    done: dict[str, dict[str, int]] = field(default_factory=dict)  # queue -> action -> attempts that succeeded
    ran: list[tuple[str, str, str]] = field(default_factory=list)  # other attempts: action, queue, a word of RAN
    closed: list[tuple[str, str, int]] = field(default_factory=list)  # some plans that have ended: id, label, when (ms)
    effects: int = 0
    size: int = 0  # bytes

    def move(self, plan: str, before: str, after: str, ms: int) -> None:
        """Index a plan under its new state. `before`: letters of the states that it may stand under, "" for none."""
        known = self.indexed.get(plan)
        self.indexed[plan] = Move(known.before if known else before, after, ms)
        self.count()

    def stop(self, timer: str) -> None:
        """It does not ring any more, even if this turn has set it."""
        self.timers.pop(timer, None)
        self.stopped_timers.add(timer)

    def push(self, where: dict[str, list[bytes]], queue: str, entry: bytes) -> None:
        where.setdefault(queue, []).append(entry)
        self.count(len(entry))

    def count(self, size: int = 0) -> None:
        self.effects += 1
        self.size += size

    @property
    def empty(self) -> bool:
        return self.position is None and not self.effects
