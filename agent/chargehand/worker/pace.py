"""How long steps take, and so how many may be taken beyond those that start at once. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["DEEP", "Paces"]

DEEP = 64  # steps prefetched at most
_FAST = 0.005  # seconds: steps of an action that takes longer are for whoever can start them
_WAIT = 0.01  # seconds that a step may wait here for those before it: after twice that it is given back
_WARY = 1.0  # seconds without a slow step before anything is prefetched again
#: Of the latest step in what its action takes. One that was held up is no slow action: with other threads beside it
#: Python alone may let one wait for 5 ms, and a busy machine for longer.
_WEIGHT = 0.1


class Paces:
    """For many threads: what one of them overwrites is one step of many."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}  # an action: what a step of it takes, a moving average
        self._wary_until = 0.0

    def ran(self, action: str, seconds: float, now: float) -> None:
        """A step has run for so long."""
        before = self._seconds.get(action, seconds)
        self._seconds[action] = before + _WEIGHT * (seconds - before)
        if self._seconds[action] > _FAST:
            self._wary_until = now + _WARY

    def may_wait(self, actions: Iterable[str], now: float) -> bool:
        """True when steps of these actions may wait here for one another: all are known, and short.

        Where slow ones stand, nothing is prefetched for a while.
        """
        known = [self._seconds.get(action) for action in actions]
        if any(seconds is not None and seconds > _FAST for seconds in known):
            self._wary_until = now + _WARY
            return False
        return None not in known

    def depth(self, now: float, threads: int) -> int:
        """How many steps to take beyond those that start at once: many, while all that were seen are short."""
        if not self._seconds or now < self._wary_until:
            return 0
        longest = max((seconds for seconds in list(self._seconds.values()) if seconds <= _FAST), default=_FAST)
        return min(DEEP, int(threads * _WAIT / max(longest, 1e-6)))
