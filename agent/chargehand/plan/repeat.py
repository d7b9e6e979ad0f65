"""A recurring plan: what is submitted, when, and how often it has been."""

from __future__ import annotations

from msgspec import Raw, Struct
from msgspec.structs import replace

from chargehand.plan.calendar import Recurrence, due_runs, following
from chargehand.wire import FORMAT

__all__ = ["Repeat"]


class Repeat(Struct, frozen=True, omit_defaults=True):
    """As it stands in Redis. All times are ms of Redis' TIME; every change gives a new one."""

    name: str
    recurrence: Recurrence
    definition: Raw  # of each run's plan
    by: str = ""  # who set it
    paused: bool = False
    runs: int = 0  # so far
    last_ms: int = 0  # the latest time that was dealt with, run or not
    next_ms: int = 0  # 0: there is no further one
    set_ms: int = 0
    format: int = FORMAT

    def begun(self, now_ms: int) -> Repeat:
        """Set now: the first run is the next time of its calendar."""
        return replace(self, runs=0, last_ms=now_ms, set_ms=now_ms, next_ms=following(self.recurrence, now_ms) or 0)

    def paused_at(self, now_ms: int) -> Repeat:
        return replace(self, paused=True, last_ms=max(self.last_ms, now_ms))

    def resumed_at(self, now_ms: int) -> Repeat:
        """What would have run in the pause does not run."""
        last = max(self.last_ms, now_ms)
        return replace(self, paused=False, last_ms=last, next_ms=following(self.recurrence, last) or 0)

    def due(self, now_ms: int) -> tuple[list[int], Repeat]:
        """The times to run now, and the record after them."""
        found = due_runs(self.recurrence, self.last_ms, now_ms, self.runs)
        return found.runs, replace(
            self, runs=self.runs + len(found.runs), last_ms=found.last_ms, next_ms=found.next_ms or 0
        )

    def plan_id(self, at_ms: int) -> str:
        """The plan of a time: the same one, however often it is submitted."""
        return f"r{self.name}-{at_ms}"
