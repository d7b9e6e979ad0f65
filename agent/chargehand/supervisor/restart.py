"""When a child that ended is started again. Pure: time and the random draw are arguments."""

from __future__ import annotations

__all__ = ["HEALTHY_AFTER", "Restarts"]

FIRST = 0.5  # seconds before the second restart in a row
LONGEST = 60.0
HEALTHY_AFTER = 60.0  # a child that was READY for so long has its past forgiven


class Restarts:
    """Counts a child's ends in a row. It never gives up; the count is shown for as long as it stands."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self.total = 0
        self.first_at = 0.0  # of the first end in the row

    def delay(self, ready_for: float, draw: float, now: float) -> float:
        """Seconds until the next start, after an end at `now` that came `ready_for` seconds after READY.

        At once the first time, then 0.5 s doubling up to a minute, each with jitter (`draw` is in [0, 1))
        between 75 % and 100 %: nodes whose children died together do not start them together for ever.
        """
        if ready_for >= HEALTHY_AFTER:
            self.in_a_row = 0
        if self.in_a_row == 0:
            self.first_at = now
        self.in_a_row += 1
        self.total += 1
        if self.in_a_row == 1:
            return 0.0
        full = min(LONGEST, FIRST * 2.0 ** min(self.in_a_row - 2, 20))
        return full * (0.75 + draw / 4)

    def healthy(self) -> None:
        """It has been READY for `HEALTHY_AFTER` seconds."""
        self.in_a_row = 0
