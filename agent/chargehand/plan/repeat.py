"""A recurring plan: what is submitted, when, and how often it has been."""

from __future__ import annotations

from msgspec import Raw, Struct
from msgspec.structs import replace

from chargehand.plan.calendar import RUNS_AT_ONCE, CalendarError, Recurrence, check, due_runs, following
from chargehand.wire import FORMAT

__all__ = ["Repeat"]

_LOOK_AGAIN = 60_000  # ms: whoever is active then may know what this node does not
_SIZE = 128 * 1024  # bytes of definitions that are submitted at once


class Repeat(Struct, frozen=True, omit_defaults=True):
    """As it stands in Redis. All times are ms of Redis' TIME; every change gives a new one."""

    name: str
    recurrence: Recurrence
    definition: Raw  # of each run's plan
    by: str = ""  # who set it
    paused: bool = False
    runs: int = 0  # so far
    last_ms: int = 0  # the latest time that was dealt with, run or not
    ran_ms: int = 0  # the time of the latest run
    next_ms: int = 0  # 0: there is no further one
    set_ms: int = 0
    problem: str = ""  # why it does not run: its time zone is unknown where it was due, say
    format: int = FORMAT

    def begun(self, now_ms: int) -> Repeat:
        """Set now: the first run is the next time of its calendar. Raises `CalendarError`."""
        check(self.recurrence)
        fresh = replace(self, runs=0, last_ms=now_ms, ran_ms=0, set_ms=now_ms, problem="")
        return fresh._planned()

    def paused_at(self, now_ms: int) -> Repeat:
        return replace(self, paused=True, last_ms=max(self.last_ms, now_ms))

    def resumed_at(self, now_ms: int) -> Repeat:
        """What would have run in the pause does not run."""
        after = replace(self, paused=False, last_ms=max(self.last_ms, now_ms))
        try:
            return after._planned()
        except CalendarError as error:
            return after._troubled(str(error), now_ms)

    def due(self, now_ms: int) -> tuple[list[int], Repeat]:
        """The times to run now, and the record after them."""
        at_once = max(1, min(RUNS_AT_ONCE, _SIZE // max(1, len(self.definition))))
        try:
            runs, last_ms, next_ms = due_runs(self.recurrence, self.last_ms, now_ms, self.runs, at_once)
        except CalendarError as error:
            return [], self._troubled(str(error), now_ms)
        ran_ms = runs[-1] if runs else self.ran_ms
        count = self.runs + len(runs)
        return runs, replace(self, runs=count, last_ms=last_ms, ran_ms=ran_ms, next_ms=next_ms or 0, problem="")

    def plan_id(self, at_ms: int) -> str:
        """The plan of a time: the same one, however often it is submitted."""
        return f"r{self.name}-{at_ms}"

    def _planned(self) -> Repeat:
        """Its next time, after the latest that was dealt with."""
        over = self.recurrence.most and self.runs >= self.recurrence.most
        return replace(self, next_ms=0 if over else following(self.recurrence, self.last_ms) or 0, problem="")

    def _troubled(self, problem: str, now_ms: int) -> Repeat:
        return replace(self, problem=problem, next_ms=now_ms + _LOOK_AGAIN)
