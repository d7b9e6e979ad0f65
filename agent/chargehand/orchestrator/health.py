"""When may the active orchestrator declare a member dead by its silence? Pure; time is an argument.

A member is silent when its last heartbeat is older than 8 s. That says something only while this
orchestrator has been connected and active, without a break, for as long as every living member needs to
beat again: after an outage of Redis all heartbeats are old, and nobody is dead.
"""

from __future__ import annotations

__all__ = ["Hearing"]

SETTLE = 4.0  # seconds: two heartbeats
JUMP_MS = 1_000  # Redis' clock moved against ours: heartbeats before and after cannot be compared


class Hearing:
    """Since when this orchestrator hears heartbeats, and how Redis' clock relates to boot time."""

    def __init__(self, boot: float, redis_ms: int) -> None:
        self._since = boot
        self._offset = redis_ms - boot * 1000

    def heard(self, boot: float, redis_ms: int) -> None:
        """Note an answer of Redis: its TIME, and the boot time (seconds) at which it came."""
        offset = redis_ms - boot * 1000
        if abs(offset - self._offset) > JUMP_MS:
            self._since = boot
        self._offset = offset

    def may_bury(self, boot: float) -> bool:
        return boot - self._since >= SETTLE

    def redis_ms(self, boot: float) -> int:
        """Redis' TIME now, as far as we know."""
        return int(boot * 1000 + self._offset)
