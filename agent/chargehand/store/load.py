"""How busy an executor is: its active orchestrator publishes it, clients that know several executors choose by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from chargehand.decoding import decoder
from chargehand.plan.routing import Load
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.membership import Member

__all__ = ["PUBLISH_EVERY", "Measured", "Published", "measure", "read_load"]

PUBLISH_EVERY = 1.0  # seconds

_member_decoder = decoder(Member)
_load_decoder = decoder(Load)


class Published(NamedTuple):
    load: Load
    at_ms: int  # when it was written, Redis' TIME
    now_ms: int  # when it was read, Redis' TIME


class Measured(NamedTuple):
    load: Load
    held: dict[str, int]  # queue -> steps that wait on it


def measure(line: Line, keys: Keys, *, share: int, also: Iterable[str] = ()) -> Measured:
    """The load now. `share`: percent of its time that the orchestrator is busy. `also`: queues that perhaps nobody
    serves; what waits there is told, and is no load."""
    members = line.call("HGETALL", keys.members)
    workers: list[str] = []
    queues: set[str] = set()
    threads = 0
    for incarnation, record in zip(members[::2], members[1::2], strict=True):
        member = _member_decoder.decode(record)
        if member.kind == "worker":
            workers.append(incarnation.decode())
            queues.update(member.queues)
            threads += member.threads
    served = sorted(queues)
    names = served + [queue for queue in also if queue not in queues]
    inbox, *counts = line.batch(
        [
            ("XLEN", keys.inbox),
            *(("LLEN", key) for queue in names for key in (keys.queue(queue), keys.alone(queue))),
            *(("HLEN", keys.own(worker)) for worker in workers),
        ]
    )
    queued, owned = counts[: 2 * len(names)], counts[2 * len(names) :]
    held = {queue: sum(pair) for queue, pair in zip(names, zip(queued[::2], queued[1::2], strict=True), strict=True)}
    backlog = inbox + sum(held[queue] for queue in served)
    return Measured(Load(backlog, sum(owned), threads, share, served), held)


def read_load(line: Line, keys: Keys) -> Published | None:
    """The latest record; None when there never was one, or it is of a format that we cannot read."""
    time, (record, at) = line.batch([("TIME",), ("HMGET", keys.load, "record", "at")])
    if record is None or at is None:
        return None
    try:
        load = _load_decoder.decode(record)
    except msgspec.MsgspecError:
        return None
    return Published(load, int(at), int(time[0]) * 1000 + int(time[1]) // 1000)
