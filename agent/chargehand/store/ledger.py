"""What the active orchestrator reads and writes: head, inbox, timers, plans, members. One `Line`, one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from chargehand.decoding import decoder
from chargehand.plan.commit import Corpse, Purge
from chargehand.plan.life import ENDED, PlanState
from chargehand.plan.limits import Limit, Limits
from chargehand.plan.locks import Locks
from chargehand.plan.repeat import Repeat
from chargehand.plan.run import DefinitionError, PlanRecord, PlanRun, StepRecord, Unreadable, refused
from chargehand.store.connection import Command, Line
from chargehand.store.keys import Keys
from chargehand.store.membership import Member
from chargehand.wire import Definition, Event, Step, Submitted, boot_key, decode_event, is_newer, read_key

__all__ = ["BATCH", "PURGE", "Expired", "Head", "Ledger", "Loaded", "Owned"]

BATCH = 400  # events read at once: about what one commit of 500 effects can take in
_DUE = 200  # timers read at once
PURGE = 100  # ended plans that go at once: with four keys each about as much as any commit

_definition_decoder = decoder(Definition)
_steps_decoder = decoder(list[Step])
_member_decoder = decoder(Member)
_record_decoder = decoder(StepRecord)
_plan_record_decoder = decoder(PlanRecord)
_repeat_decoder = decoder(Repeat)


class Head(NamedTuple):
    seq: int
    position: str
    format: int  # of what stands in Redis: the highest that was ever written


class Loaded(NamedTuple):
    runs: list[PlanRun]
    unreadable: dict[str, Unreadable]


class Owned(NamedTuple):
    """Which steps of some plans workers owned at a moment."""

    steps: dict[str, set[int]]
    last: str  # the last event of the inbox by then: those finished before are events up to it


class Expired(NamedTuple):
    """Ended plans whose time is over."""

    gone: list[Purge]
    kept: list[Purge]  # sub-plans: the plan that started them is still under way, and reads what became of them


class _Labels(msgspec.Struct):
    """Of a definition: what it is indexed under, and who started it."""

    label: str
    labels: list[str] = []
    parent: tuple[str, int] | None = None


_labels_decoder = decoder(_Labels)


class Ledger:
    def __init__(self, line: Line, keys: Keys) -> None:
        self.line = line
        self.keys = keys

    def head(self) -> Head:
        seq, position, written = self.line.call("HMGET", self.keys.head, "seq", "position", "format")
        return Head(int(seq or 0), position.decode() if position else "0-0", int(written or 1))

    def read_command(self, position: str, block_ms: int | None) -> Command:
        """The command that reads the next events; None does not block."""
        block = () if block_ms is None else ("BLOCK", block_ms)
        return ("XREAD", "COUNT", BATCH, *block, "STREAMS", self.keys.inbox, position)

    def events(self, reply: Any) -> tuple[list[tuple[str, Event | None]], list[bytes]]:
        """(position, event) in order, and the raw events that this version cannot read (None in the first)."""
        events: list[tuple[str, Event | None]] = []
        strange: list[bytes] = []
        for _, entries in reply or ():
            for position, fields in entries:
                data = dict(zip(fields[::2], fields[1::2], strict=True)).get(b"e", b"") if fields else b""
                event: Event | None = None
                try:
                    event = decode_event(data)
                except msgspec.MsgspecError:
                    strange.append(data)
                else:
                    if isinstance(event, Submitted) and is_newer(event.definition):
                        strange.append(data)
                        event = None
                events.append((position.decode(), event))
        return events, strange

    def put_aside(self, strange: Sequence[bytes]) -> None:
        """Keep what cannot be read for people to look at."""
        self.line.batch([("RPUSH", self.keys.strange, *strange), ("LTRIM", self.keys.strange, -1_000, -1)])

    # -- timers -----------------------------------------------------------------------------------

    def due(self, now_ms: int) -> tuple[list[str], int | None]:
        """Timers whose time has come, and when the next one after them is due (None: there is none)."""
        key = self.keys.timers
        due, first, after = self.line.batch(
            [
                ("ZRANGEBYSCORE", key, "-inf", now_ms, "LIMIT", 0, _DUE),
                ("ZRANGE", key, 0, 0, "WITHSCORES"),
                ("ZRANGEBYSCORE", key, f"({now_ms}", "+inf", "WITHSCORES", "LIMIT", 0, 1),
            ]
        )
        if len(due) == _DUE:  # perhaps more are due already
            return [timer.decode() for timer in due], now_ms
        following = after if due else first
        return [timer.decode() for timer in due], int(float(following[1])) if following else None

    # -- plans ------------------------------------------------------------------------------------

    def load(self, plans: Iterable[str], between: Callable[[], None]) -> Loaded:
        """Read plans from Redis. Those that do not exist are left out.

        `between` is called between the parts of large ones, so that leases are renewed meanwhile.
        """
        wanted = list(plans)
        runs: list[PlanRun] = []
        unreadable: dict[str, Unreadable] = {}
        for at in range(0, len(wanted), 100):
            some = wanted[at : at + 100]
            commands: list[Command] = []
            for plan in some:
                commands.append(("GET", self.keys.states(plan)))
                commands.append(("LINDEX", self.keys.plan(plan), 0))
                commands.append(("HGETALL", self.keys.records(plan)))
            answers = self.line.batch(commands)
            for index, plan in enumerate(some):
                states, definition, records = answers[index * 3 : index * 3 + 3]
                if states is None:
                    continue
                if states[0] == PlanState.REJECTED:  # whatever its definition is
                    runs.append(refused(plan))
                    continue
                try:
                    runs.append(self._build(plan, states, definition, records, between))
                except (msgspec.MsgspecError, DefinitionError) as error:
                    if states[0] not in ENDED:
                        unreadable[plan] = _unreadable(str(error), definition, records)
            between()
        return Loaded(runs, unreadable)

    def _build(
        self,
        plan: str,
        states: bytes,
        definition: bytes | None,
        records: list[bytes],
        between: Callable[[], None],
    ) -> PlanRun:
        if definition is None:
            raise DefinitionError("its definition is gone")
        head = _definition_decoder.decode(definition)
        run = PlanRun(plan, head, states)
        run.extend(head.steps)
        for part in range(head.parts):
            between()
            data = self.line.call("LINDEX", self.keys.plan(plan), 2 + part)
            run.extend(_steps_decoder.decode(data or b"null"))
        if not run.whole:
            raise DefinitionError(f"{len(run.steps)} steps, but {run.total} announced")
        for field, value in zip(records[::2], records[1::2], strict=True):
            if field == b"rest":
                run.rest = _plan_record_decoder.decode(value)
            elif field != b"plan":
                run.records[int(field)] = _record_decoder.decode(value)
        return run

    def locks(self) -> Locks:
        """Who holds what and who waits for it, as it stands."""
        found = self.line.call("ZRANGE", self.keys.locks, 0, -1, "WITHSCORES")
        return Locks((member.decode(), int(float(score))) for member, score in _pairs(found))

    def limits(self, fixed: Mapping[str, Limit]) -> Limits:
        """What stands under limits and what waits for them; `fixed` are those that the configuration sets."""
        slots, limited, rates = self.line.batch(
            [
                ("SMEMBERS", self.keys.slots),
                ("ZRANGE", self.keys.limited, 0, -1, "WITHSCORES"),
                ("HGETALL", self.keys.rates),
            ]
        )
        return Limits(
            fixed,
            slots=(slot.decode() for slot in slots),
            waiting=((member.decode(), int(float(score))) for member, score in _pairs(limited)),
            rates={name.decode(): float(value) for name, value in _pairs(rates)},
        )

    def repeats(self, names: Iterable[str]) -> dict[str, Repeat]:
        """Recurring plans by name; those that do not exist, or are of a newer format, are left out."""
        wanted = list(names)
        if not wanted:
            return {}
        found = self.line.call("HMGET", self.keys.recurring, *wanted)
        return {name: _repeat_decoder.decode(data) for name, data in zip(wanted, found, strict=True) if data}

    def owned(self, plans: Iterable[str]) -> Owned:
        """Which steps of these plans workers own now."""
        steps: dict[str, set[int]] = {plan: set() for plan in plans}
        members = self.line.call("HKEYS", self.keys.members)
        for keys in self.line.batch([("HKEYS", self.keys.own(member.decode())) for member in members]):
            for key in keys:
                plan, step, _ = read_key(key.decode())
                if plan in steps:
                    steps[plan].add(step)
        last = self.line.call("XREVRANGE", self.keys.inbox, "+", "-", "COUNT", 1)
        return Owned(steps, last[0][0].decode() if last else "0-0")

    def queued(self) -> int:
        """Steps that wait on the queues which the members serve."""
        queues: set[str] = set()
        for member in self.line.call("HVALS", self.keys.members):
            queues.update(_member_decoder.decode(member).queues)
        depths = self.line.batch([("LLEN", self.keys.queue(queue)) for queue in sorted(queues)])
        return sum(depths)

    def expired(self, ages_ms: Mapping[str, int], most: int, now_ms: int) -> Expired:
        """Ended plans that are to go: past their state's age, and beyond `most` in all; a few at once.

        `ages_ms`: a state's letter -> how long its plans are kept.
        """
        letters = list(ages_ms)
        commands: list[Command] = [
            ("ZRANGEBYSCORE", self.keys.index(one), "-inf", f"({now_ms - ages_ms[one]}", "LIMIT", 0, PURGE)
            for one in letters
        ]
        commands += [("ZCARD", self.keys.index(one)) for one in letters]
        answers = self.line.batch(commands)
        found = [(one, plan.decode()) for one, plans in zip(letters, answers, strict=False) for plan in plans][:PURGE]
        beyond = sum(answers[len(letters) :]) - len(found) - most
        if found or beyond <= 0:
            return self._labelled(found)
        oldest = self.line.batch(
            [("ZRANGE", self.keys.index(one), 0, min(beyond, PURGE) - 1, "WITHSCORES") for one in letters]
        )
        aged = sorted(
            (float(since), one, plan.decode())
            for one, answer in zip(letters, oldest, strict=True)
            for plan, since in zip(answer[::2], answer[1::2], strict=True)
        )
        return self._labelled([(one, plan) for _, one, plan in aged[: min(beyond, PURGE)]])

    def _labelled(self, plans: Sequence[tuple[str, str]]) -> Expired:
        definitions = self.line.batch([("LINDEX", self.keys.plan(plan), 0) for _, plan in plans])
        purges: list[Purge] = []
        parents: list[str] = []
        for (state, plan), definition in zip(plans, definitions, strict=True):
            try:
                found = _labels_decoder.decode(definition or b"null")
            except msgspec.MsgspecError:  # gone, or never readable: it is indexed under its state alone
                purges.append(Purge(state, plan))
                parents.append("")
            else:
                labels = (f"action:{found.label}", *(f"labelled:{label}" for label in found.labels))
                purges.append(Purge(state, plan, labels))
                parents.append(found.parent[0] if found.parent else "")
        asked = sorted({parent for parent in parents if parent})
        states = self.line.batch([("GETRANGE", self.keys.states(parent), 0, 0) for parent in asked])
        open_ = {parent for parent, state in zip(asked, states, strict=True) if state and state[0] not in ENDED}
        kept = [purge for purge, parent in zip(purges, parents, strict=True) if parent in open_]
        return Expired([purge for purge in purges if purge not in kept], kept)

    # -- the dead ---------------------------------------------------------------------------------

    def dead(self, incarnations: Iterable[str]) -> list[Corpse]:
        """What is known of incarnations whose death was reported: those still registered, with what they own.

        A worker that was reaped while frozen goes on as `INCARNATION.1`, `.2` ...: the report covers them all.
        """
        reported = set(incarnations)
        members = [member.decode() for member in self.line.call("HKEYS", self.keys.members)]
        return self._corpses([(m, None) for m in members if m in reported or m.partition(".")[0] in reported])

    def silent(self, before_ms: int) -> list[Corpse]:
        """Members whose last heartbeat is older than `before_ms`."""
        found = self.line.call("ZRANGEBYSCORE", self.keys.beats, "-inf", f"({before_ms}", "WITHSCORES", "LIMIT", 0, 50)
        return self._corpses(
            [(member.decode(), int(float(score))) for member, score in zip(found[::2], found[1::2], strict=True)]
        )

    def _corpses(self, dead: Sequence[tuple[str, int | None]]) -> list[Corpse]:
        if not dead:
            return []
        members, *owned = self.line.batch(
            [
                ("HMGET", self.keys.members, *(incarnation for incarnation, _ in dead)),
                *(("HKEYS", self.keys.own(incarnation)) for incarnation, _ in dead),
            ]
        )
        return [
            Corpse(incarnation, tuple(key.decode() for key in keys), beat, _boot(member))
            for (incarnation, beat), member, keys in zip(dead, members, owned, strict=True)
        ]


def _unreadable(why: str, definition: bytes | None, records: Sequence[bytes]) -> Unreadable:
    """What can be known of it all the same: who waits for its end."""
    parent, followers = None, []
    with suppress(msgspec.MsgspecError):
        parent = _labels_decoder.decode(definition or b"null").parent
    with suppress(msgspec.MsgspecError):
        rest = dict(_pairs(records)).get(b"rest")
        followers = _plan_record_decoder.decode(rest).followers if rest else []
    return Unreadable(why, parent, followers)


class _Boot(msgspec.Struct):
    boot: str = ""
    node: str = ""


_boot_decoder = decoder(_Boot)


def _boot(member: bytes | None) -> str:
    """In which boot of its node a member was started; empty when it is not known."""
    found = _boot_decoder.decode(member) if member else _Boot()
    return boot_key(found.boot, found.node) if found.boot else ""


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
