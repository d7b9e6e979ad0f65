"""The orchestrator lock: who may decide, and until when.

The token is `EPOCH:INCARNATION`. `lease` expires, `fence` keeps the last token for ever: every write of an
orchestrator compares it whole, so one that was paused or cut off can change nothing.

What is not guaranteed: that a holder knows at once that it lost the lease. It is guaranteed that its writes
have no effect from then on, and that it stops by itself when 0.8 ttl have passed without a renewal.

With `min_replicas` a lease is taken or renewed only once so many replicas know of it. On a master that a failover
has left behind, and on one without its replicas, nobody holds it for longer than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from chargehand.store.connection import Line, boottime
from chargehand.store.keys import Keys
from chargehand.store.scripts import ACQUIRE, DIED, RELEASE
from chargehand.wire import Died, encode

__all__ = ["HELD_SHARE", "Held", "Waiting", "acquire", "epoch_of", "is_free", "release", "report_death"]

#: A holder that could not renew for this share of the ttl steps down: the rest is for clocks and the way.
HELD_SHARE = 0.8


@dataclass(slots=True)
class Held:
    """The lease in our hands. Past `deadline` nothing may be decided under it."""

    token: str
    epoch: int
    deadline: float  # boot time, seconds, counted from before the last confirmed request was sent
    now_ms: int  # Redis' TIME when it was acquired

    def extend(self, before: float, ttl: float) -> None:
        """A renewal was confirmed that was sent at boot time `before`."""
        self.deadline = before + HELD_SHARE * ttl


class Waiting(NamedTuple):
    token: str
    node: str
    since_ms: int  # of the holder's acquisition, Redis' TIME
    left: float  # seconds until it expires unless renewed


def epoch_of(token: str) -> int:
    return int(token.partition(":")[0])


def acquire(line: Line, keys: Keys, *, incarnation: str, node: str, ttl: float, seen: int) -> Held | Waiting:
    """Take the lease or learn who has it. `seen` is the highest epoch the caller ever saw.

    Raises `Unconfirmed`: nobody could hold it here now.
    """
    line.confirmed()  # what this line wrote last, its heartbeat: without replicas the lease is best left alone
    before = boottime()
    ttl_ms = round(ttl * 1000)
    command = ACQUIRE([keys.lease, keys.fence, keys.holder], incarnation, ttl_ms, seen, node)
    line.send(command, *line.confirmation)
    reply = line.read()
    missing = line.missing()
    token = reply[1].decode()
    if reply[0] != b"ACQUIRED":
        return Waiting(token, reply[3].decode(), int(reply[4]), max(0, reply[2]) / 1000)
    if missing:
        release(line, keys, token)
        raise line.unconfirmed(missing)
    return Held(token, epoch_of(token), before + HELD_SHARE * ttl, reply[2])


def is_free(line: Line, keys: Keys) -> bool:
    """True when nobody holds the lease now. Only for one that would rather not take it."""
    return not line.call("EXISTS", keys.lease)


def release(line: Line, keys: Keys, token: str) -> bool:
    """Give the lease back and wake the waiters. False: it was no longer this token's."""
    return bool(line.call(*RELEASE([keys.lease], token, keys.lease_channel)))


def report_death(line: Line, keys: Keys, incarnation: str) -> bool:
    """Deliver a death notice. True: the dead one held the lease, which is free now."""
    event = encode(Died(incarnation))
    return bool(line.call(*DIED([keys.lease, keys.inbox], incarnation, keys.lease_channel, event)))
