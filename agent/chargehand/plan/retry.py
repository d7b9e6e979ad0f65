"""When a failed attempt is tried again."""

from __future__ import annotations

from zlib import crc32

from chargehand.wire import Policy

__all__ = ["backoff_ms"]


def backoff_ms(policy: Policy, failures: int, key: str) -> int:
    """Milliseconds before the next attempt, after `failures` failed ones (1 or more).

    Exponential, capped, with jitter between 50 % and 100 %: steps that failed together do not come
    back together. The jitter is drawn from the attempt's key, so the same attempt always gets the
    same wait, and a decision made twice is the same decision.
    """
    full = min(policy.max_backoff_ms, policy.backoff_ms * 2 ** min(failures - 1, 30))
    share = crc32(key.encode()) / 0xFFFFFFFF
    return int(full * (0.5 + share / 2))
