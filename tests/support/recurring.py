"""Recurring plans whose time has come, without waiting for the next minute."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from chargehand.plan.repeat import Repeat
from chargehand.plan.timers import repeat_timer
from chargehand.store.connection import Line
from chargehand.store.keys import Keys

__all__ = ["put_back"]


def put_back(line: Line, keys: Keys, name: str, by: timedelta) -> None:
    """As if it had been set so much earlier, and nothing had run since. No orchestrator is active meanwhile."""
    record = msgspec.json.decode(line.call("HGET", keys.recurring, name), type=Repeat)
    earlier = record.begun(record.set_ms - int(by.total_seconds() * 1000))
    line.call("HSET", keys.recurring, name, msgspec.json.encode(msgspec.structs.replace(earlier, paused=record.paused)))
    line.call("ZADD", keys.timers, earlier.next_ms, repeat_timer(name))
