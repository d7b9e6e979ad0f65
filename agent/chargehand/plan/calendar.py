"""When a recurring plan runs: a cron line in a time zone, its end, and what becomes of missed runs.

Pure: the time is an argument (ms since the epoch), and all that must be kept from one decision to the
next is two numbers, the last time dealt with and the count of runs. So whoever decides next, after a
takeover or a clock that stepped, decides the same. Only the rules of a zone are read from the system,
once.

When a zone's clocks change:

- A line that names its hours fires by the wall clock. A wall time that does not exist that day runs at
  the first moment after the gap; one that comes twice runs the first time.
- A line that fires in every hour follows elapsed time. It fires whenever the clock shows a matching
  time: twice where an hour is repeated, not at all in one that is left out.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, NamedTuple

from msgspec import Struct

from chargehand.plan.cron import CalendarError, Line, parse

__all__ = ["RUNS_AT_ONCE", "CalendarError", "Due", "Recurrence", "check", "due_runs", "following"]

RUNS_AT_ONCE = 100  # of `missed = "all"`: a decision stays small, and the next one goes on
_LATE_MS = 60_000  # a run that starts later than this was missed; an orchestrator that takes over is faster
_END_MS = 32_503_680_000_000  # the year 3000: later times are none, and no date overflows
_POLICIES = ("skip", "once", "all")
_TICK = timedelta(microseconds=1)
_NOT_SHARED = ("localtime", "posixrules", "right/")  # a node's own zone; zones that count leap seconds


class Recurrence(Struct, frozen=True, omit_defaults=True):
    """When a plan recurs. Check one before it is kept."""

    cron: str
    zone: str = "UTC"  # of the tz database: "Europe/Berlin"
    until_ms: int = 0  # the last moment at which a run can be due; 0: no end
    most: int = 0  # runs in all; 0: any number
    missed: Literal["skip", "once", "all"] = "once"


class Due(NamedTuple):
    """What to do now, and what to keep."""

    runs: list[int]  # the times (ms) of the runs to start now, oldest first
    last_ms: int  # the last time dealt with, run or skipped: the next `last_ms`
    next_ms: int | None  # when to ask again; not after now: at once, there is more. None: it has ended


def check(recurrence: Recurrence) -> None:
    """Raises `CalendarError` for one that cannot be followed: bad line, unknown zone, a day that never comes."""
    parse(recurrence.cron)
    _zone(recurrence.zone)
    if recurrence.missed not in _POLICIES:
        raise CalendarError(f"missed is {recurrence.missed!r}; expected one of {', '.join(_POLICIES)}")
    if recurrence.most < 0:
        raise CalendarError(f"most is {recurrence.most}; expected a number of runs, or 0 for any number")
    if not 0 <= recurrence.until_ms <= _END_MS:
        raise CalendarError(
            f"until_ms is {recurrence.until_ms}; expected milliseconds since 1970, up to the year 3000, or 0: no end"
        )


def following(recurrence: Recurrence, after_ms: int) -> int | None:
    """The next time that is due strictly after `after_ms`, in ms since the epoch. None: there is no more.

    Raises `CalendarError` for a line or a zone that `check` refuses.
    """
    line = parse(recurrence.cron)
    zone = _zone(recurrence.zone)
    after = min(max(after_ms, -1), _END_MS) // 1_000  # runs are due at whole seconds
    due = _by_elapsed_time(line, zone, after) if line.every_hour else _by_wall_clock(line, zone, after)
    return due * 1_000 if due is not None and due * 1_000 <= (recurrence.until_ms or _END_MS) else None


def due_runs(recurrence: Recurrence, last_ms: int, now_ms: int, runs_so_far: int, at_once: int = RUNS_AT_ONCE) -> Due:
    """The runs to start at `now_ms`, when `last_ms` was the last time dealt with (at first: when it was set).

    With `missed` = "skip" and "once" at most one run is due, the latest: it stands for those before it.
    When even that is late by more than a minute, "skip" leaves it out. With "all" every time is run, at
    most `at_once` (1 or more) a call. The end bounds when a run is due, not when it is made up for. A clock
    that stepped back makes nothing due twice: times up to `last_ms` are done.
    """
    left = recurrence.most - runs_so_far if recurrence.most else at_once
    if left <= 0:
        return Due([], last_ms, None)
    first = following(recurrence, last_ms)
    if first is None or first > now_ms:
        return Due([], last_ms, first)
    if recurrence.missed == "all":
        runs, upcoming = [first], following(recurrence, first)
        while upcoming is not None and upcoming <= now_ms and len(runs) < min(left, at_once):
            runs.append(upcoming)
            upcoming = following(recurrence, upcoming)
        last_ms = runs[-1]
    else:
        last_ms = _latest(recurrence, first, now_ms)
        runs = [] if recurrence.missed == "skip" and now_ms - last_ms > _LATE_MS else [last_ms]
        upcoming = following(recurrence, last_ms)
    return Due(runs, last_ms, None if recurrence.most and len(runs) == left else upcoming)


def _latest(recurrence: Recurrence, first: int, now_ms: int) -> int:
    """The latest time up to now, when `first` is one: found by halving, for after a year there may be 500,000."""

    def is_last(moment: int) -> bool:
        upcoming = following(recurrence, moment)
        return upcoming is None or upcoming > now_ms

    if is_last(first):
        return first
    return first + bisect_left(range(first, now_ms), True, key=is_last)


# -- wall clocks (seconds since the epoch; wall times are naive) --------------------------------------


def _by_wall_clock(line: Line, zone: tzinfo, after: int) -> int | None:
    wall = line.following(_shown(zone, after))
    while wall is not None:
        first, second = _moments(zone, wall)
        due = first if first <= second else _change(zone, wall)
        if due > after:
            return due
        wall = line.following(_shown(zone, _change(zone, wall) - 1))  # shown again: all until the change ran before it
    return None


def _by_elapsed_time(line: Line, zone: tzinfo, after: int) -> int | None:
    shown = _shown(zone, after)
    due = _when_shown(line, zone, shown, after)
    first, second = _moments(zone, shown)
    if first == after < second:  # the clock is about to be put back: what it shows again comes before what is new
        change = _change(zone, shown)
        if due is None or due >= change:
            return _when_shown(line, zone, _shown(zone, change) - _TICK, change - 1)
    return due


def _when_shown(line: Line, zone: tzinfo, wall: datetime, after: int) -> int | None:
    """The first moment after `after` at which the clock really shows a matching time after `wall`."""
    while (found := line.following(wall)) is not None:
        first, second = _moments(zone, found)
        if first <= second:
            return first if first > after else second
        wall = _shown(zone, _change(zone, found)) - _TICK  # left out, as all up to what the clock shows next
    return None


def _shown(zone: tzinfo, moment: int) -> datetime:
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)


def _moments(zone: tzinfo, wall: datetime) -> tuple[int, int]:
    """When a wall time is shown: the same moment twice, two moments for one that is repeated.

    For one that is left out, the moments by the offset before and after the gap: the first is the later.
    """
    aware = wall.replace(tzinfo=zone)
    return int(aware.timestamp()), int(aware.replace(fold=1).timestamp())


def _change(zone: tzinfo, wall: datetime) -> int:
    """The moment when the clock is put forward over `wall`, or back so that `wall` is shown again."""
    low, high = sorted(_moments(zone, wall))
    before = datetime.fromtimestamp(low, zone).utcoffset()
    return low + bisect_left(
        range(low, high), True, key=lambda moment: datetime.fromtimestamp(moment, zone).utcoffset() != before
    )


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - 1 MB and 6 ms that only recurring plans need

    try:
        if name.startswith(_NOT_SHARED):
            raise ValueError("not the same on all nodes")
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such file, no name of a zone at all, a folder of zones
        raise CalendarError(
            f'zone {name[:60]!r} is not known on this node; expected a name such as "Europe/Berlin" or "UTC" '
            f"(`timedatectl list-timezones` lists them; the package tzdata holds them)"
        ) from None
