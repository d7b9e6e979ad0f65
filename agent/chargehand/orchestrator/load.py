"""How busy the active orchestrator is: the share of its time that it does not wait for something to do. Pure.

One thread decides everything, so this share is what an executor has left: near 100 % its inbox grows, and only
another executor helps.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Load"]

WINDOW = 60.0  # seconds that the share is taken over
_SLICE = 2.0  # seconds of one entry in it
_TOLD_AFTER = 10.0  # seconds before it says anything
SATURATED = 80  # percent, over the whole window


class Load:
    def __init__(self, now: float) -> None:
        self._slices: deque[tuple[float, float]] = deque()  # (end, seconds idle in it)
        self._begun = self._slice_begun = now
        self._idle = 0.0

    def waited(self, seconds: float) -> None:
        """It had nothing to do for so long."""
        self._idle += seconds

    def turned(self, now: float) -> None:
        """Called once a turn, at least."""
        if now - self._slice_begun < _SLICE:
            return
        self._slices.append((now, min(self._idle, now - self._slice_begun)))
        self._slice_begun, self._idle = now, 0.0
        while self._slices and self._slices[0][0] <= now - WINDOW:
            self._begun = self._slices.popleft()[0]

    @property
    def percent(self) -> int | None:
        """Of the last minute, in steps of five; None while too little is known."""
        over = self._slice_begun - self._begun
        if over < _TOLD_AFTER:
            return None
        busy = 1 - sum(idle for _, idle in self._slices) / over
        return round(busy * 20) * 5

    @property
    def saturated(self) -> bool:
        whole = self._slice_begun - self._begun >= WINDOW - _SLICE
        return whole and (self.percent or 0) > SATURATED
