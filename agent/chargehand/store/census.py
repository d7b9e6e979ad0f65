"""Who is there: every member of the executor, the lease, the queues. For `status`; nothing decides by it."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from chargehand.plan.life import PlanState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.membership import SILENT_MS, Member

__all__ = ["Census", "Seen", "take_census"]


class Seen(Struct):
    """A member and how long ago it beat."""

    incarnation: str
    member: Member
    beat_age: float  # seconds
    silent: bool


class Census(Struct):
    now_ms: int  # Redis' TIME
    executor: str
    lease_token: str | None
    lease_left: float  # seconds
    holder: str
    holder_since_ms: int
    inbox: int  # events not yet decided on
    pending: int  # plans not yet accepted
    plans: dict[str, int]  # state -> how many
    queues: dict[str, int]
    members: list[Seen]


def take_census(line: Line, keys: Keys, executor: str) -> Census:
    time, token, left, holder, inbox, pending, members, beats, *counts = line.batch(
        [
            ("TIME",),
            ("GET", keys.lease),
            ("PTTL", keys.lease),
            ("HMGET", keys.holder, "node", "since"),
            ("XLEN", keys.inbox),
            ("HLEN", keys.pending),
            ("HGETALL", keys.members),
            ("ZRANGE", keys.beats, 0, -1, "WITHSCORES"),
            *(("ZCARD", keys.index(chr(state))) for state in PlanState),
        ]
    )
    now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
    last = {name: int(float(score)) for name, score in zip(beats[::2], beats[1::2], strict=True)}
    seen = []
    for name, information in zip(members[::2], members[1::2], strict=True):
        member = msgspec.json.decode(information, type=Member)
        age = max(0, now_ms - last.get(name, 0))
        seen.append(Seen(name.decode(), member, age / 1000, age > SILENT_MS))
    seen.sort(key=lambda one: (one.member.node, one.member.kind, one.member.child))
    names = sorted({queue for one in seen for queue in one.member.queues})
    depths = line.batch([("LLEN", keys.queue(name)) for name in names])
    return Census(
        now_ms=now_ms,
        executor=executor,
        lease_token=token.decode() if token else None,
        lease_left=max(0, left) / 1000,
        holder=holder[0].decode() if holder[0] else "",
        holder_since_ms=int(holder[1] or 0),
        inbox=inbox,
        pending=pending,
        plans={state.name.lower(): count for state, count in zip(PlanState, counts, strict=True)},
        queues=dict(zip(names, depths, strict=True)),
        members=seen,
    )
