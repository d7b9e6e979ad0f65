"""What a member tells of itself for `chargehand doctor`, apart from its heartbeat: a key that expires by itself.

Latency and the clocks' difference are those of its heartbeats, so measuring them costs nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from chargehand.decoding import decoder
from chargehand.store.connection import Full, Line
from chargehand.store.keys import Keys
from chargehand.wire import encode

__all__ = ["Code", "Profile", "Publisher", "Pulse", "read_profiles"]

_EVERY = 20.0  # seconds between two
_KEPT_MS = 60_000  # two may be lost
_MINUTE = 30  # heartbeats
_LATEST = 5  # heartbeats: a clock that was set is told soon


class Code(Struct, array_like=True, frozen=True):
    """An action as a worker has it."""

    queue: str
    digest: str  # of the file that it comes from, or of its declaration


class Profile(Struct, omit_defaults=True):
    """Of one incarnation. Nothing decides by it."""

    node: str
    child: str
    kind: str  # orchestrator or worker
    version: str
    skew_ms: int = 0  # its node's clock is ahead of Redis' TIME by so much
    median_ms: float = 0.0  # of a round trip, over the last minute
    worst_ms: float = 0.0
    config: dict[str, str] = {}  # what it runs by and must be the same on all nodes: key -> value as it is written
    actions: dict[str, Code] = {}  # of a worker: what it has registered
    problems: list[str] = []  # of a worker: what it could not import, and why
    format: int = 1


_decoder = decoder(Profile)


class Pulse:
    """Round trips and what they say of the two clocks, over the last minute. Pure."""

    def __init__(self) -> None:
        self._beats: deque[tuple[float, float]] = deque(maxlen=_MINUTE)  # ms it took, ms that we are ahead

    def note(self, took: float, wall: float, redis_ms: int) -> None:
        """`took`: seconds. `wall`: this node's clock (Unix time) when the answer came, which says `redis_ms`."""
        self._beats.append((took * 1000, wall * 1000 - took * 500 - redis_ms))

    @property
    def skew_ms(self) -> int:
        """By the quickest of the latest: it leaves the least room for error."""
        return round(min(list(self._beats)[-_LATEST:])[1]) if self._beats else 0

    @property
    def median_ms(self) -> float:
        return round(sorted(self._beats)[len(self._beats) // 2][0], 2) if self._beats else 0.0

    @property
    def worst_ms(self) -> float:
        return round(max(took for took, _ in self._beats), 2) if self._beats else 0.0


class Publisher:
    """Keeps a member's profile in Redis as long as it beats. Not for two threads at once."""

    def __init__(self, keys: Keys, profile: Profile) -> None:
        self._keys = keys
        self._profile = profile
        self._pulse = Pulse()
        self._told: tuple[str, float] = ("", 0.0)  # as whom and when (monotonic)

    def note(self, sent: float, redis_ms: int) -> None:
        """A heartbeat that was sent at `sent` (monotonic) was answered just now."""
        self._pulse.note(time.monotonic() - sent, time.time(), redis_ms)

    def tell(self, line: Line, incarnation: str) -> None:
        """To be called after each heartbeat; writes what is due. Raises what the line raises."""
        now = time.monotonic()
        told_as, told_at = self._told
        if told_as == incarnation and now - told_at < _EVERY:
            return
        self._told = (incarnation, now)
        profile, pulse = self._profile, self._pulse
        profile.skew_ms, profile.median_ms, profile.worst_ms = pulse.skew_ms, pulse.median_ms, pulse.worst_ms
        with suppress(Full):  # whoever works on a full server is heard all the same
            line.call("SET", self._keys.profile(incarnation), encode(profile), "PX", _KEPT_MS)


def read_profiles(line: Line, keys: Keys, incarnations: Sequence[str]) -> dict[str, Profile]:
    """Those that are there and can be read."""
    found = {}
    for one, text in zip(incarnations, line.batch([("GET", keys.profile(one)) for one in incarnations]), strict=True):
        if text is not None:
            with suppress(msgspec.MsgspecError):  # of a later version
                found[one] = _decoder.decode(text)
    return found
