"""Who is there: every member of the executor, the lease, the queues. For `status`; nothing decides by it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from chargehand.decoding import decode
from chargehand.plan.life import PlanState
from chargehand.store.connection import Line
from chargehand.store.counting import read_flow
from chargehand.store.keys import Keys
from chargehand.store.membership import SILENT_MS, Member

__all__ = ["HEARD_MS", "Census", "Seen", "take_census"]

HEARD_MS = 5_000  # an orchestrator writes its counts every second: older rates say nothing of now


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
    queues: dict[str, int]  # steps that wait; of the queues that workers serve, and those that hold some all the same
    members: list[Seen]
    fence: str = ""  # the last token ever given
    inbox_age: float = 0.0  # seconds that its oldest event has waited
    rates: dict[str, tuple[float, float]] = {}  # queue -> steps/s queued and attempts/s ended, of the last minute

    @property
    def active(self) -> Seen | None:
        """The orchestrator that holds the lease, as far as it has registered."""
        owner = (self.lease_token or "").partition(":")[2]
        return next((one for one in self.members if one.incarnation == owner), None) if owner else None

    @property
    def passive(self) -> list[Seen]:
        """Orchestrators that wait for the lease, or would if they were alive."""
        owner = (self.lease_token or "").partition(":")[2]
        return [one for one in self.members if one.member.kind == "orchestrator" and one.incarnation != owner]

    def serving(self, queue: str) -> list[Seen]:
        """Workers that serve a queue and are heard."""
        return [one for one in self.members if queue in one.member.queues and not one.silent]


def take_census(line: Line, keys: Keys, executor: str) -> Census:
    time, token, left, holder, fence, inbox, oldest, pending, members, beats, load, *counts = line.batch(
        [
            ("TIME",),
            ("GET", keys.lease),
            ("PTTL", keys.lease),
            ("HMGET", keys.holder, "node", "since"),
            ("GET", keys.fence),
            ("XLEN", keys.inbox),
            ("XREAD", "COUNT", 1, "STREAMS", keys.inbox, "0-0"),
            ("HLEN", keys.pending),
            ("HGETALL", keys.members),
            ("ZRANGE", keys.beats, 0, -1, "WITHSCORES"),
            ("HMGET", keys.load, "flow", "at"),
            *(("ZCARD", keys.index(chr(state))) for state in PlanState),
        ]
    )
    now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
    last = {name: int(float(score)) for name, score in zip(beats[::2], beats[1::2], strict=True)}
    seen = []
    for name, information in zip(members[::2], members[1::2], strict=True):
        member = decode(information, Member)
        age = max(0, now_ms - last.get(name, 0))
        seen.append(Seen(name.decode(), member, age / 1000, age > SILENT_MS))
    seen.sort(key=lambda one: (one.member.node, one.member.kind, one.member.child))
    flow = read_flow(load[0])
    fresh = now_ms - int(load[1] or 0) < HEARD_MS
    served = {queue for one in seen for queue in one.member.queues}
    names = sorted(served.union(flow.queues))
    lengths = line.batch([("LLEN", key) for name in names for key in (keys.queue(name), keys.alone(name))])
    depths = dict(zip(names, map(sum, zip(lengths[::2], lengths[1::2], strict=True)), strict=True))
    over = max(1.0, flow.over)
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
        queues={name: depth for name, depth in depths.items() if depth or name in served},
        members=seen,
        fence=fence.decode() if fence else "",
        inbox_age=_age(oldest, now_ms),
        rates={name: (came / over, went / over) for name, (came, went) in flow.queues.items()} if fresh else {},
    )


def _age(oldest: Any, now_ms: int) -> float:
    """Seconds since the first event of the inbox came."""
    for _, entries in oldest or ():
        for position, _ in entries:
            return max(0, now_ms - int(position.partition(b"-")[0])) / 1000
    return 0.0
