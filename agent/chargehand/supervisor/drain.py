"""A node that is drained on request: by whom, since when, why. Kept over restarts until it is taken back."""

from __future__ import annotations

import time

import msgspec
from msgspec import Struct

from chargehand.decoding import decode
from chargehand.supervisor.memory import Memory

__all__ = ["Drain", "kept_drain"]


class Drain(Struct, frozen=True):
    by: str
    since: float  # Unix time
    reason: str = ""

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        return f"by {self.by} since {since}" + (f": {self.reason}" if self.reason else "")

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)


def kept_drain(memory: Memory) -> Drain | None:
    """The drain that is in force. One that cannot be read is in force too: what somebody stopped stays stopped."""
    try:
        contents = memory.read_drain()
        return decode(contents, Drain) if contents else None
    except (OSError, msgspec.MsgspecError) as error:
        return Drain("unknown", time.time(), f"its record cannot be read ({error}); chargehand undrain takes it back")
