"""A turn's decisions as one call of commit.lua."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Raw

from chargehand.plan.books import PLAN_RECORD
from chargehand.plan.commit import Commit
from chargehand.store.connection import Command
from chargehand.store.keys import Keys
from chargehand.store.scripts import COMMIT
from chargehand.wire import WHOLE_PLAN, Submitted, encode

__all__ = ["commit_command", "record_field"]

#: Redis' Lua unpacks at most about 8,000 values; 1,000 keeps a single push short.
_CHUNK = 1_000
_HISTORY = 10_000  # entries of a plan's history that are kept: the last ones


def record_field(step: int) -> str:
    """The field of a plan's records: a step's record, why the plan ended (`plan`), the plan's own record (`rest`)."""
    return {WHOLE_PLAN: "plan", PLAN_RECORD: "rest"}.get(step) or str(step)


class _Call:
    """Collects keys (each once), conditions and operations."""

    def __init__(self, fixed: Sequence[str]) -> None:
        self.keys = list(fixed)
        self._index = {key: at for at, key in enumerate(fixed, 1)}
        self.conditions: list[Any] = []
        self.checks = 0
        self.operations: list[Any] = []

    def _key(self, key: str) -> int:
        at = self._index.get(key)
        if at is None:
            self.keys.append(key)
            at = self._index[key] = len(self.keys)
        return at

    def check(self, name: str, key: str, *arguments: Any) -> None:
        self.conditions += (name, self._key(key), len(arguments), *arguments)
        self.checks += 1

    def do(self, name: str, key: str, *arguments: Any) -> None:
        self.operations += (name, self._key(key), len(arguments), *arguments)

    def many(self, name: str, key: str, arguments: Sequence[Any]) -> None:
        for at in range(0, len(arguments), _CHUNK):
            self.do(name, key, *arguments[at : at + _CHUNK])

    def publish(self, channel: str, message: str) -> None:
        self.operations += ("PUBLISH", 0, 2, channel, message)


def commit_command(keys: Keys, commit: Commit, *, token: str, seq: int, ttl_ms: int) -> Command:
    """The command for `commit`, decided on number `seq` by the holder of `token`."""
    call = _Call([keys.lease, keys.fence, keys.head, keys.inbox])
    for plan in commit.created:
        call.check("ABSENT", keys.states(plan))
    for corpse in commit.reaped:
        call.check("OWNS", keys.own(corpse.incarnation), *corpse.owned)
        if corpse.beat_ms is not None:
            call.check("BEAT", keys.beats, corpse.incarnation, corpse.beat_ms)

    for plan, state in commit.created.items():
        call.do("SET", keys.states(plan), state)
    if commit.created:
        call.many("HDEL", keys.pending, list(commit.created))
    for write in commit.states:
        call.do("SETRANGE", keys.states(write.plan), write.offset, write.value)
    for plan, records in commit.records.items():
        fields: list[Any] = []
        for step, record in records.items():
            fields += (record_field(step), record)
        call.many("HSET", keys.records(plan), fields)
    if commit.reaped:
        dead = [corpse.incarnation for corpse in commit.reaped]
        for incarnation in dead:
            call.do("UNLINK", keys.own(incarnation))
        call.many("HDEL", keys.members, dead)
        call.many("ZREM", keys.beats, dead)
    for plan, entries in commit.history.items():
        call.many("RPUSH", keys.history(plan), entries)
        call.do("LTRIM", keys.history(plan), -_HISTORY, -1)
    _timers(call, keys, commit)
    _indexes(call, keys, commit)
    _set_fields(call, keys.stopped, commit.stopped)
    _score(call, keys.locks, commit.locked)
    _score(call, keys.limited, commit.limited)
    _set_fields(call, keys.rates, commit.rates)
    _set_fields(call, keys.recurring, commit.repeats)
    left = [slot for slot, taken in commit.slots.items() if not taken]
    if left:
        call.many("SREM", keys.slots, left)
    if len(left) < len(commit.slots):
        call.many("SADD", keys.slots, [slot for slot, taken in commit.slots.items() if taken])
    for queue, entries in commit.pushed.items():
        call.many("RPUSH", keys.queue(queue), entries)
        call.do("RING", keys.bell(queue), len(entries))
    for queue, entries in commit.returned.items():
        call.many("LPUSH", keys.queue(queue), entries[::-1])
        call.do("RING", keys.bell(queue), len(entries))
    for queue, entries in commit.alone.items():
        call.many("RPUSH", keys.alone(queue), entries)
        call.do("RING", keys.bell(queue), len(entries))
    for launch in commit.launched:
        call.do("RPUSH", keys.plan(launch.plan), launch.definition, launch.meta)
        call.do("XADD", keys.inbox, "*", "e", encode(Submitted(launch.plan, Raw(launch.definition))))
    for event in commit.told:
        call.do("XADD", keys.inbox, "*", "e", event)
    for plan, grace_ms in commit.stopped.items():
        if grace_ms is not None:
            call.publish(keys.stop_channel, plan)
    for plan, state_letter in commit.announced.items():
        call.publish(keys.plan_channel(plan), state_letter)

    position = commit.position or ""
    keep = ""
    if position:
        ms, _, number = position.partition("-")
        keep = f"{ms}-{int(number) + 1}"
    arguments = (token, seq, ttl_ms, position, keep, call.checks, *call.conditions, *call.operations)
    return COMMIT(call.keys, *arguments)


def _set_fields(call: _Call, key: str, fields: Mapping[str, Any]) -> None:
    """Of a hash; a field that is None goes."""
    gone = [field for field, value in fields.items() if value is None]
    if gone:
        call.many("HDEL", key, gone)
    if len(gone) < len(fields):
        pairs = [part for field, value in fields.items() if value is not None for part in (field, value)]
        call.many("HSET", key, pairs)


def _score(call: _Call, key: str, members: Mapping[str, int | None]) -> None:
    """Of a sorted set; a member without a score goes."""
    gone = [member for member, score in members.items() if score is None]
    if gone:
        call.many("ZREM", key, gone)
    if len(gone) < len(members):
        scored = [part for member, score in members.items() if score is not None for part in (score, member)]
        call.many("ZADD", key, scored)


def _timers(call: _Call, keys: Keys, commit: Commit) -> None:
    if commit.stopped_timers:
        call.many("ZREM", keys.timers, list(commit.stopped_timers))
    if commit.timers:
        scored: list[Any] = []
        for timer, due in commit.timers.items():
            scored += (due, timer)
        call.many("ZADD", keys.timers, scored)


def _indexes(call: _Call, keys: Keys, commit: Commit) -> None:
    left: dict[str, list[Any]] = {}
    entered: dict[str, list[Any]] = {}
    for plan, move in commit.indexed.items():
        for state in move.before:
            if state != move.after:
                left.setdefault(state, []).append(plan)
        entered.setdefault(move.after, []).extend((move.ms, plan))
    unlabelled: dict[str, list[Any]] = {}
    for purge in commit.purged:
        left.setdefault(purge.state, []).append(purge.plan)
        for index in purge.labels:
            unlabelled.setdefault(index, []).append(purge.plan)
        for of in (keys.plan, keys.states, keys.records, keys.outputs, keys.history, keys.said, keys.progress):
            call.do("UNLINK", of(purge.plan))
    if commit.purged:
        call.many("HDEL", keys.stopped, [purge.plan for purge in commit.purged])
    for index, plans in unlabelled.items():
        call.many("ZREM", keys.labelled(index), plans)
    for index, labelled in commit.labelled.items():
        call.many("ZADD", keys.labelled(index), [part for pair in labelled for part in pair])
    for state, plans in left.items():
        call.many("ZREM", keys.index(state), plans)
    for state, scored in entered.items():
        call.many("ZADD", keys.index(state), scored)
