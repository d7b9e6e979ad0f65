"""Cron lines: what one says, and the next wall time that it matches. No time zone here, and no clock.

Five fields (minute, hour, day, month, weekday) as in crontab(5), with two additions that maintenance
windows need: `L` is the last day of a month, `TUE#2` its second Tuesday and `FRIL` its last Friday.
A field is a mask, bit n for the value n, so that the next value is a shift and not a search.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple

__all__ = ["CalendarError", "Line", "parse"]


class CalendarError(ValueError):
    """A recurrence that cannot be followed; the message says which part of it, what was found and what would do."""


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()  # of the values from `low` on

    @property
    def expected(self) -> str:
        named = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"{self.low} to {self.high}{named}"


_WEEKDAY = _Field("weekday", 0, 6, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))  # 7 is Sunday too
_DAY = _Field("day", 1, 31)
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _DAY,
    _Field("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    _WEEKDAY,
)
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LONGEST = 400  # characters: every value of every field written out takes 370
_EVERY_HOUR = (1 << 24) - 1
_EVERY_WEEK = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28
_LAST = 0  # as the n of "the n-th Friday"

#: Where the search ends. The rarest days, a leap day on a given weekday and a fifth Tuesday of February, come
#: at most 40 years apart (around 2100, which is no leap year).
_YEARS = 50


class Line(NamedTuple):
    """A cron line as read. Bit n of a mask stands for the value n."""

    minutes: int
    hours: int
    days: int
    last_day: bool
    months: int
    weekdays: int  # 0 is Sunday
    nth: tuple[tuple[int, int], ...]  # (weekday, n): the n-th of its month, 0 for the last
    both: bool  # a date must match the day and the weekday; otherwise one of them is enough

    @property
    def every_hour(self) -> bool:
        """Whether it has runs in every hour of its days."""
        return self.hours == _EVERY_HOUR

    def following(self, wall: datetime) -> datetime | None:
        """The next matching minute strictly after `wall`, both naive. None: no date matches within 50 years."""
        year, month, day = wall.year, wall.month, wall.day
        if self.months >> month & 1 and self._dates(year, month) >> day & 1:
            found = _first(self.minutes, wall.minute + 1) if self.hours >> wall.hour & 1 else None
            if found is not None:
                return datetime.combine(wall, time(wall.hour, found))
            found = _first(self.hours, wall.hour + 1)
            if found is not None:
                return datetime.combine(wall, time(found, _least(self.minutes)))
        for _ in range(_YEARS * 12):
            found = _first(self._dates(year, month), day + 1) if self.months >> month & 1 else None
            if found is not None:
                return datetime.combine(date(year, month, found), time(_least(self.hours), _least(self.minutes)))
            day = 0
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return None

    def _dates(self, year: int, month: int) -> int:
        """The days of this month that match, as a mask."""
        start = date(year, month, 1)
        length = ((start + timedelta(31)).replace(day=1) - start).days
        to_first = [(weekday - start.isoweekday()) % 7 + 1 for weekday in range(7)]
        days = self.days | self.last_day << length
        weekdays = 0
        for weekday, first in enumerate(to_first):
            if self.weekdays >> weekday & 1:
                weekdays |= _EVERY_WEEK << first
        for weekday, n in self.nth:
            first = to_first[weekday]
            weekdays |= 1 << first + 7 * (n - 1 if n != _LAST else (length - first) // 7)
        return (days & weekdays if self.both else days | weekdays) & (2 << length) - 2


@lru_cache(maxsize=1024)
def parse(text: str) -> Line:
    """Read a cron line. Raises `CalendarError`, naming the field, what was found and what is expected."""
    if len(text) > _LONGEST:
        raise CalendarError(f"a cron line of {len(text)} characters; at most {_LONGEST} are read")
    fields = _NICKNAMES.get(text.strip().lower(), text).upper().split()
    if len(fields) != len(_FIELDS):
        if text.strip().startswith("@"):
            raise CalendarError(f"cron line {text!r} is not known; expected one of {', '.join(_NICKNAMES)}")
        raise CalendarError(
            f"cron line {text!r} has {len(fields)} field{'s' * (len(fields) != 1)}; expected 5: minute, hour, day, "
            'month and weekday, such as "30 2 * * MON-FRI"'
        )
    masks = [0] * len(_FIELDS)
    last_day = False
    nth: list[tuple[int, int]] = []
    for index, (field, items) in enumerate(zip(_FIELDS, fields, strict=True)):
        for item in items.split(","):
            try:
                if field is _DAY and item == "L":
                    last_day = True
                elif field is _WEEKDAY and ("#" in item or item.endswith("L")):
                    nth.append(_nth(item))
                else:
                    masks[index] |= _mask(field, item)
            except CalendarError as error:
                raise CalendarError(f"cron line {text!r}: its {field.name} has {error}") from None
    minutes, hours, days, months, weekdays = masks
    weekdays = (weekdays | weekdays >> 7) & 0x7F
    both = fields[2].startswith("*") or fields[4].startswith("*")
    line = Line(minutes, hours, days, last_day, months, weekdays, tuple(nth), both)
    if line.following(datetime.combine(date(2000, 1, 1), time())) is None:
        raise CalendarError(
            f"cron line {text!r} never fires: no {_months(months)} has such a day; "
            f"expected a day that exists, or L for the last of the month"
        )
    return line


def _mask(field: _Field, item: str) -> int:
    """`*`, `n`, `n-m`, each with `/step` or without."""
    base, slash, step_text = item.partition("/")
    start, dash, end = base.partition("-")
    if base == "*":
        low, high = field.low, field.high
    elif dash:
        low, high = _value(field, start, item), _value(field, end, item)
        if field is _WEEKDAY and high == 0 < low:
            high = 7  # FRI-SUN
    else:
        low = _value(field, start, item)
        high = max(low, field.high) if slash else low
    if low > high:
        raise CalendarError(
            f"the range {item!r}, which ends before it begins; expected two ranges in its place, "
            f'"{start}-{field.high},{field.low}-{end}"'
        )
    step = 1
    if slash:
        most = field.high - field.low + 1
        step = int(step_text) if _is_number(step_text) else 0
        if not 1 <= step <= most:
            raise CalendarError(f"{item!r} with the step {step_text!r}; expected a step of 1 to {most}")
    return sum(1 << value for value in range(low, high + 1, step))


def _nth(item: str) -> tuple[int, int]:
    """`TUE#2`: the second Tuesday of a month, `FRIL` the last Friday."""
    if item.endswith("L"):
        return _value(_WEEKDAY, item[:-1], item) % 7, _LAST
    weekday, _, n = item.partition("#")
    if n not in {"1", "2", "3", "4", "5"}:
        raise CalendarError(f"{item!r}; expected 1 to 5 after the #: the first to the fifth of its month")
    return _value(_WEEKDAY, weekday, item) % 7, int(n)


def _value(field: _Field, text: str, item: str) -> int:
    if text in field.names:
        return field.low + field.names.index(text)
    value = int(text) if _is_number(text) else -1
    if not field.low <= value <= field.high + (field is _WEEKDAY):
        raise CalendarError(f"{item!r}; expected {field.expected}, or *, lists, ranges and steps: 1,3 or 1-5 or */2")
    return value


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _first(mask: int, start: int) -> int | None:
    """The lowest value of a mask from `start` on."""
    rest = mask >> start
    return start + _least(rest) if rest else None


def _least(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _months(mask: int) -> str:
    return " or ".join(name for month, name in enumerate(_FIELDS[3].names, 1) if mask >> month & 1)
