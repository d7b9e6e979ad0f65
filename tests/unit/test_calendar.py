"""Recurring plans: cron lines, time zones, and missed runs.

The properties compare with another way to the same answer: looking at every minute of a few days, one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chargehand.plan.calendar import RUNS_AT_ONCE, CalendarError, Due, Recurrence, check, due_runs, following

DOCUMENT = (Path(__file__).parents[2] / "docs/recurring.md").read_text(encoding="utf-8")
MINUTE = 60_000
DAY = 86_400_000


def ms(text: str) -> int:
    """`2026-03-29 03:00 +0200`; UTC where no offset is given."""
    moment = datetime.fromisoformat(text.replace(" +", "+").replace(" -", "-"))
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def shown(moment: int, zone: str) -> str:
    return datetime.fromtimestamp(moment / 1_000, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M %z")


def runs(recurrence: Recurrence, after: int, most: int) -> list[int]:
    found: list[int] = []
    while len(found) < most and (upcoming := following(recurrence, after)) is not None:
        found.append(upcoming)
        after = upcoming
    return found


def runs_until(recurrence: Recurrence, after: int, end: int) -> list[int]:
    found: list[int] = []
    while (upcoming := following(recurrence, after)) is not None and upcoming <= end:
        found.append(upcoming)
        after = upcoming
    return found


# -- lines, each with what it says ------------------------------------------------------------------


class Said(NamedTuple):
    text: str
    values: frozenset[int]


def fields(low: int, high: int, names: str = "") -> st.SearchStrategy[Said]:
    """A field of a line, spelled in any way, and the values that it names."""
    known = names.split()

    def spelled(value: int, named: bool) -> str:
        return known[value - low] if known and named else str(value)

    @st.composite
    def item(draw: st.DrawFn) -> Said:
        kind = draw(st.sampled_from(["value", "value", "range", "step", "range with step", "from"]))
        first = draw(st.integers(low, high))
        last = draw(st.integers(first, high))
        step = draw(st.integers(1, high - low + 1))
        start, end = spelled(first, draw(st.booleans())), spelled(last, draw(st.booleans()))
        if kind == "value":
            return Said(start, frozenset({first}))
        if kind == "range":
            return Said(f"{start}-{end}", frozenset(range(first, last + 1)))
        if kind == "step":
            return Said(f"*/{step}", frozenset(range(low, high + 1, step)))
        if kind == "from":
            return Said(f"{start}/{step}", frozenset(range(first, high + 1, step)))
        return Said(f"{start}-{end}/{step}", frozenset(range(first, last + 1, step)))

    def joined(items: list[Said]) -> Said:
        return Said(",".join(one.text for one in items), frozenset().union(*(one.values for one in items)))

    star = st.just(Said("*", frozenset(range(low, high + 1))))
    return star | st.lists(item(), min_size=1, max_size=3).map(joined)


class Spelled(NamedTuple):
    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    is_date: Callable[[date], bool]

    def matches(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours and self.is_date(wall.date())


@st.composite
def lines(draw: st.DrawFn) -> Spelled:
    minute = draw(fields(0, 59))
    hour = draw(fields(0, 23))
    day = draw(fields(1, 31))
    month = draw(fields(1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"))
    weekday = draw(fields(0, 6, "SUN MON TUE WED THU FRI SAT"))
    both = day.text.startswith("*") or weekday.text.startswith("*")

    def is_date(one: date) -> bool:
        matched = (one.day in day.values, one.isoweekday() % 7 in weekday.values)
        return one.month in month.values and (all(matched) if both else any(matched))

    text = " ".join(field.text for field in (minute, hour, day, month, weekday))
    if draw(st.booleans()):
        text = text.lower()
    return Spelled(text, minute.values, hour.values, is_date)


def refused(text: str) -> str | None:
    try:
        check(Recurrence(text))
    except CalendarError as error:
        return str(error)
    return None


def followed(text: str, zone: str = "UTC") -> Recurrence:
    """A line that is accepted; some random ones name a day that never comes."""
    refusal = refused(text)
    if refusal is not None:
        assert "never fires" in refusal
        assume(False)
    return Recurrence(text, zone)


# -- zones whose clocks change ----------------------------------------------------------------------

#: By an hour at 1:00 UTC, at 2:00, by half an hour, never; one minute past midnight, at midnight, a whole day left
#: out, by two hours, for Ramadan, to and from a negative offset.
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Europe/Dublin",
    "Atlantic/Azores",
]


@cache
def days_of_change(zone: str) -> list[int]:
    """Days (since 1970) in 2008 to 2030 on which the offset changes."""
    rules = ZoneInfo(zone)
    offsets = [datetime.fromtimestamp(day * 86_400, rules).utcoffset() for day in range(13_879, 22_280)]
    return [13_879 + index for index, pair in enumerate(pairwise(offsets)) if pair[0] != pair[1]]


@st.composite
def places(draw: st.DrawFn) -> tuple[str, int]:
    """A zone, and the minute before two days in which its clocks change (if ever)."""
    zone = draw(st.sampled_from(ZONES))
    day = draw(st.sampled_from(days_of_change(zone) or [20_000]))
    return zone, (day - 1) * 1_440 + draw(st.integers(0, 1_440))


def minute_by_minute(line: Spelled, zone: str, start: int, length: int) -> list[int]:
    """The minutes (since 1970) after `start` that are due, by looking at the clock in each of them."""
    rules = ZoneInfo(zone)
    every_hour = len(line.hours) == 24
    due = []
    before = datetime.fromtimestamp(start * 60, rules).replace(tzinfo=None)
    for minute in range(start + 1, start + length + 1):
        clock = datetime.fromtimestamp(minute * 60, rules)
        wall = clock.replace(tzinfo=None)
        left_out = []
        if not every_hour and wall > before:
            left_out = [before + timedelta(minutes=n) for n in range(1, (wall - before) // timedelta(minutes=1))]
        if any(map(line.matches, left_out)) or (line.matches(wall) and (every_hour or not clock.fold)):
            due.append(minute)
        before = wall
    return due


LENGTH = 2 * 1_440


@settings(max_examples=100, deadline=None)
@given(lines(), places(), st.integers(0, LENGTH * 60_000))
def test_runs_are_those_found_by_watching_the_clock(line: Spelled, place: tuple[str, int], offset: int) -> None:
    """Strictly after, ascending, each a match, none left out: over days on which the clocks change."""
    zone, start = place
    recurrence = followed(line.text, zone)
    expected = [minute * MINUTE for minute in minute_by_minute(line, zone, start, LENGTH)]
    begin, end = start * MINUTE, (start + LENGTH) * MINUTE
    assert runs_until(recurrence, begin, end) == expected
    anywhere = begin + offset
    upcoming = following(recurrence, anywhere)
    assert upcoming is None or upcoming > anywhere
    assert (upcoming if upcoming is not None and upcoming <= end else None) == next(
        (one for one in expected if one > anywhere), None
    )


HOURS = frozenset(range(24))
#: Lines around the hours in which clocks change, on each day or on those that changes begin and end.
AROUND = [
    Spelled("* * * * *", frozenset(range(60)), HOURS, lambda day: True),
    Spelled("0 * * * *", frozenset({0}), HOURS, lambda day: True),
    Spelled("15,45 * * * *", frozenset({15, 45}), HOURS, lambda day: True),
    Spelled("40 * * * SAT", frozenset({40}), HOURS, lambda day: day.isoweekday() == 6),
    Spelled("0 * * * SUN", frozenset({0}), HOURS, lambda day: day.isoweekday() == 7),
    Spelled("30 2 * * *", frozenset({30}), frozenset({2}), lambda day: True),
    Spelled("0 0 * * *", frozenset({0}), frozenset({0}), lambda day: True),
    Spelled("*/10 1-3 * * *", frozenset(range(0, 60, 10)), frozenset({1, 2, 3}), lambda day: True),
    Spelled("45 0,1,23 * * *", frozenset({45}), frozenset({0, 1, 23}), lambda day: True),
]


@pytest.mark.parametrize("zone", [zone for zone in ZONES if days_of_change(zone)])
@pytest.mark.parametrize("line", AROUND, ids=lambda line: line.text)
def test_around_a_change_forward_and_one_back(line: Spelled, zone: str) -> None:
    """From wherever one looks: the next run is the first that watching the clock would find."""
    for day in days_of_change(zone)[:2]:
        start = (day - 1) * 1_440
        expected = [minute * MINUTE for minute in minute_by_minute(line, zone, start, LENGTH)]
        for after in range(start * MINUTE, (expected or [0])[-1], 10 * MINUTE + 1):
            upcoming = following(Recurrence(line.text, zone), after)
            assert upcoming == next(one for one in expected if one > after), shown(after, zone)


def test_where_clocks_change_by_half_an_hour_an_hourly_line_has_one_longer_distance() -> None:
    recurrence = Recurrence("0 * * * *", "Australia/Lord_Howe")
    for change in ("2026-04-05 00:30 +1100", "2026-10-04 00:30 +1030"):
        due = runs(recurrence, ms(change), 5)
        assert sorted(later - sooner for sooner, later in pairwise(due)) == [60 * MINUTE] * 3 + [90 * MINUTE]


@settings(max_examples=200, deadline=None)
@given(lines(), st.integers(0, 30_000 * DAY))
def test_dates_are_those_found_by_looking_at_each(line: Spelled, after: int) -> None:
    """Over years, leap years among them: the next run is on the next matching date."""
    recurrence = followed(line.text)
    upcoming = following(recurrence, after)
    assert upcoming is not None
    found = datetime.fromtimestamp(upcoming / 1_000, UTC)
    assert line.matches(found.replace(tzinfo=None))
    now = datetime.fromtimestamp(after / 1_000, UTC).date()
    between = (now + timedelta(days) for days in range(1, (found.date() - now).days))
    assert not any(map(line.is_date, between))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["* * * * *", "*/15 * * * *", "0 * * * *", "7,37 0-23 * * *", "59 */1 * * *"]),
    places().filter(lambda place: place[0] not in {"Australia/Lord_Howe", "Pacific/Apia"}),
)
def test_a_line_for_every_hour_keeps_its_distance_over_a_change(text: str, place: tuple[str, int]) -> None:
    """Neither skipped nor doubled, in all zones that change by whole hours."""
    zone, start = place
    due = runs_until(Recurrence(text, zone), start * MINUTE, (start + LENGTH) * MINUTE)
    period = {"* * * * *": 1, "*/15 * * * *": 15, "7,37 0-23 * * *": 30}.get(text, 60) * MINUTE
    assert {later - sooner for sooner, later in pairwise(due)} == {period}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
@pytest.mark.parametrize("text", ["30 2 * * *", "0 2 * * *", "59 1 * * *", "15 0 * * *", "0 3 * * *"])
def test_a_daily_line_runs_once_on_every_day_of_ten_years(zone: str, text: str) -> None:
    due = runs_until(Recurrence(text, zone), ms("2019-12-31 12:00"), ms("2029-12-31 12:00"))
    assert [datetime.fromtimestamp(one / 1_000, ZoneInfo(zone)).date() for one in due] == [
        date(2020, 1, 1) + timedelta(day) for day in range(3_653)
    ]


def test_a_day_that_a_zone_leaves_out_runs_when_the_next_begins() -> None:
    """Samoa had no 30 December 2011. The time that was left out and that of the next day are one run."""
    due = runs(Recurrence("0 0 * * *", "Pacific/Apia"), ms("2011-12-29 12:00 -1000"), 2)
    assert [shown(one, "Pacific/Apia") for one in due] == ["2011-12-31 00:00 +1400", "2012-01-01 00:00 +1400"]
    (due_at_noon, _) = runs(Recurrence("0 12 30,31 * *", "Pacific/Apia"), ms("2011-12-29 13:00 -1000"), 2)
    assert shown(due_at_noon, "Pacific/Apia") == "2011-12-31 00:00 +1400"


# -- what lines say ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("@hourly", "0 * * * *"),
        ("@Daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 JAN *"),
        ("@annually", "0 0 1 1 *"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * fri-sun", "0 0 * * 0,5,6"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * * 0-7", "0 0 * * *"),
        ("5/20 * * * *", "5,25,45 * * * *"),
        ("  0\t0 * * *  ", "0 0 * * *"),
        ("0 0 */7 * *", "0 0 1,8,15,22,29 * *"),
        ("0 0 * * TUE#1,TUE#2,TUE#3,TUE#4,TUE#5", "0 0 * * TUE"),
        ("0 0 * * 7#2", "0 0 * * SUN#2"),
        ("0 0 * * 5L", "0 0 * * FRIL"),
    ],
)
def test_two_spellings_of_one_line(text: str, same: str) -> None:
    start = ms("2026-01-31 00:00")
    assert runs(Recurrence(text), start, 20) == runs(Recurrence(same), start, 20)


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(1, 5), st.integers(0, 20_000 * DAY))
def test_the_nth_weekday_of_a_month(weekday: int, n: int, after: int) -> None:
    for one in runs(Recurrence(f"0 0 * * {weekday}#{n}"), after, 30):
        found = datetime.fromtimestamp(one / 1_000, UTC)
        assert found.isoweekday() % 7 == weekday
        assert (found.day - 1) // 7 + 1 == n


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(0, 20_000 * DAY))
def test_the_last_weekday_and_the_last_day_of_each_month(weekday: int, after: int) -> None:
    for text, days in ((f"0 0 * * {weekday}L", 7), ("0 0 L * *", 1)):
        found = [datetime.fromtimestamp(one / 1_000, UTC) for one in runs(Recurrence(text), after, 30)]
        assert all((one + timedelta(days)).month != one.month for one in found)
        assert days == 1 or {one.isoweekday() % 7 for one in found} == {weekday}
        months = [one.year * 12 + one.month for one in found]
        assert months == list(range(months[0], months[0] + 30))


def test_the_rarest_days_are_found_across_a_century_without_a_leap_year() -> None:
    for text in ("0 0 29 2 */7", "0 0 * 2 TUE#5"):
        recurrence = Recurrence(text)
        check(recurrence)
        found = [datetime.fromtimestamp(one / 1_000, UTC).year for one in runs(recurrence, ms("2060-01-01 00:00"), 4)]
        assert [later - sooner for sooner, later in pairwise(found)].count(40) == 1, found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("61 * * * *", r"minute has '61'; expected 0 to 59"),
        ("* 24 * * *", r"hour has '24'; expected 0 to 23"),
        ("* * 0 * *", r"day has '0'; expected 1 to 31"),
        ("* * * 13 *", r"month has '13'; expected 1 to 12 or JAN to DEC"),
        ("* * * * 8", r"weekday has '8'; expected 0 to 6 or SUN to SAT"),
        ("* * * FEBRUARY *", r"month has 'FEBRUARY'"),
        ("* * * * MONDAY", r"weekday has 'MONDAY'"),
        ("MON * * * *", r"minute has 'MON'"),
        ("1,,2 * * * *", r"minute has ''"),
        ("-5 * * * *", r"minute has '-5'"),
        ("5- * * * *", r"minute has '5-'"),
        ("1-2-3 * * * *", r"minute has '1-2-3'"),
        ("٣ * * * *", r"minute has '٣'"),
        ("+5 * * * *", r"minute has '\+5'"),
        ("*/0 * * * *", r"minute has '\*/0' with the step '0'; expected a step of 1 to 60"),
        ("*/90 * * * *", r"step of 1 to 60"),
        ("*/ * * * *", r"step of 1 to 60"),
        ("*/2/2 * * * *", r"step of 1 to 60"),
        ("* 22-2 * * *", r'hour has the range \'22-2\', which ends before it begins; expected .*"22-23,0-2"'),
        ("* * * NOV-FEB *", r'"NOV-12,1-FEB"'),
        ("* * * * TUE#6", r"weekday has 'TUE#6'; expected 1 to 5 after the #"),
        ("* * * * L", r"weekday has 'L'; expected 0 to 6"),
        ("* * L-3 * *", r"day has 'L-3'"),
        ("* * ? * *", r"day has '\?'"),
        ("0 0 30 2 *", r"never fires: no FEB has such a day"),
        ("0 0 31 4,6,9,11 *", r"never fires: no APR or JUN or SEP or NOV"),
        ("0 0 30,31 FEB */1", r"never fires"),
        ("* * * *", r"has 4 fields; expected 5: minute, hour, day, month and weekday"),
        ("0 * * * * *", r"has 6 fields; expected 5"),
        ("", r"has 0 fields"),
        ("@reboot", r"not known; expected one of @yearly"),
        ("0," * 300 + "0 * * * *", r"line of 609 characters; at most 400"),
    ],
)
def test_a_bad_line_is_refused_by_the_name_of_its_field(text: str, found: str) -> None:
    with pytest.raises(CalendarError, match=found):
        check(Recurrence(text))


def test_the_longest_line_that_has_a_use_is_read() -> None:
    """Every value of every field written out."""
    ranges = (range(60), range(24), range(1, 32), range(1, 13), range(7))
    text = " ".join(",".join(map(str, values)) for values in ranges)
    assert refused(text) is None
    assert runs(Recurrence(text), 0, 100) == runs(Recurrence("* * * * *"), 0, 100)


@pytest.mark.parametrize(
    "zone",
    [
        "Europe/Berlim",
        "",
        "Europe",
        "/etc/passwd",
        "../zoneinfo/UTC",
        "a\0b",
        "é",
        "localtime",
        "right/UTC",
        "x" * 9_999,
    ],
)
def test_an_unknown_zone_is_refused_and_says_where_names_are_found(zone: str) -> None:
    with pytest.raises(CalendarError, match=r"expected a name such as .*tzdata") as found:
        check(Recurrence("* * * * *", zone))
    assert len(str(found.value)) < 300


@pytest.mark.parametrize(
    "recurrence",
    [
        Recurrence("* * * * *", most=-1),
        Recurrence("* * * * *", until_ms=-1),
        Recurrence("* * * * *", until_ms=ms("2026-01-01 00:00") * 1_000),
        msgspec.structs.replace(Recurrence("* * * * *"), missed="twice"),
    ],
)
def test_numbers_and_policies_that_make_no_sense_are_refused(recurrence: Recurrence) -> None:
    with pytest.raises(CalendarError, match="expected"):
        check(recurrence)


@settings(max_examples=500)
@given(st.text(alphabet="0123456789*,-/#L @?MONFRI\n", max_size=40) | st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert refused(text) or following(Recurrence(text), 0) is not None


@given(st.integers(-(2**60), 2**60))
def test_any_moment_has_a_following_one_up_to_the_year_3000(after: int) -> None:
    upcoming = following(Recurrence("0 0 * * *", "Europe/Berlin"), after)
    if after < ms("2999-12-30 00:00"):
        assert upcoming is not None
        assert max(after, -1) < upcoming <= max(after, 0) + DAY
    else:
        assert upcoming is None or upcoming > after


# -- the end, the most, and missed runs -------------------------------------------------------------


def test_nothing_is_due_after_the_end_and_the_end_itself_is() -> None:
    recurrence = Recurrence("0 * * * *", until_ms=ms("2026-01-01 03:00"))
    assert runs(recurrence, ms("2026-01-01 00:30"), 9) == [ms(f"2026-01-01 0{hour}:00") for hour in (1, 2, 3)]
    earlier = msgspec.structs.replace(recurrence, until_ms=recurrence.until_ms - 1)
    assert runs(earlier, ms("2026-01-01 00:30"), 9) == [ms("2026-01-01 01:00"), ms("2026-01-01 02:00")]


def test_what_was_due_before_the_end_is_made_up_for_after_it() -> None:
    recurrence = Recurrence("0 * * * *", until_ms=ms("2026-01-01 03:00"))
    now = ms("2026-01-02 12:00")
    assert due_runs(recurrence, ms("2026-01-01 01:00"), now, 5) == Due([recurrence.until_ms], recurrence.until_ms, None)
    assert due_runs(recurrence, recurrence.until_ms, now, 6) == Due([], recurrence.until_ms, None)


def test_after_an_outage_all_missed_runs_come_a_hundred_at_a_time() -> None:
    recurrence = Recurrence("* * * * *", missed="all")
    start, now = ms("2026-01-01 00:00"), ms("2026-01-01 04:00") + 500
    found: list[int] = []
    lengths = []
    last, upcoming = start, following(recurrence, start)
    while upcoming is not None and upcoming <= now:
        due = due_runs(recurrence, last, now, len(found))
        found += due.runs
        lengths.append(len(due.runs))
        last, upcoming = due.last_ms, due.next_ms
    assert lengths == [RUNS_AT_ONCE, RUNS_AT_ONCE, 40]
    assert found == [start + minute * MINUTE for minute in range(1, 241)]
    assert upcoming == start + 241 * MINUTE


def test_a_caller_can_have_fewer_at_once() -> None:
    recurrence = Recurrence("* * * * *", missed="all")
    start = ms("2026-01-01 00:00")
    due = due_runs(recurrence, start, start + 60 * MINUTE, 0, at_once=2)
    assert due == Due([start + MINUTE, start + 2 * MINUTE], start + 2 * MINUTE, start + 3 * MINUTE)


def test_no_more_runs_than_the_most() -> None:
    recurrence = Recurrence("* * * * *", missed="all", most=7)
    start = ms("2026-01-01 00:00")
    due = due_runs(recurrence, start, start + 60 * MINUTE, 4)
    assert due == Due([start + minute * MINUTE for minute in (1, 2, 3)], start + 3 * MINUTE, None)
    assert due_runs(recurrence, start, start + 60 * MINUTE, 7) == Due([], start, None)
    assert due_runs(recurrence, start, start, 4) == Due([], start, start + MINUTE)


def test_a_skipped_time_is_not_counted_and_does_not_end_it() -> None:
    recurrence = Recurrence("0 0 * * *", missed="skip", most=1)
    due = due_runs(recurrence, ms("2026-01-01 00:00"), ms("2026-01-05 12:00"), 0)
    assert due == Due([], ms("2026-01-05 00:00"), ms("2026-01-06 00:00"))
    assert due_runs(recurrence, due.last_ms, ms("2026-01-06 00:00"), 0) == Due(
        [ms("2026-01-06 00:00")], ms("2026-01-06 00:00"), None
    )


def test_an_outage_of_years_is_one_decision() -> None:
    """Without walking through the 15 million minutes that were missed."""
    start, now = ms("1998-01-01 00:00"), ms("2026-06-01 12:00") + 70_000
    latest = ms("2026-06-01 12:01")
    assert due_runs(Recurrence("* * * * *"), start, now, 0) == Due([latest], latest, latest + MINUTE)
    nightly = Recurrence("0 3 * * *", missed="skip")
    assert due_runs(nightly, start, now, 0) == Due([], ms("2026-06-01 03:00"), ms("2026-06-02 03:00"))


def test_a_run_that_is_late_by_a_minute_is_not_missed() -> None:
    recurrence = Recurrence("0 * * * *", missed="skip")
    last, due = ms("2026-01-01 00:00"), ms("2026-01-01 03:00")
    for late, expected in ((-1, []), (0, [due]), (MINUTE, [due]), (MINUTE + 1, [])):
        assert due_runs(recurrence, last, due + late, 0).runs == expected, late


def test_the_epoch_itself_can_be_due() -> None:
    assert [following(Recurrence("* * * * *"), after) for after in (-5, -1, 0)] == [0, 0, MINUTE]


POLICIES: list[Literal["skip", "once", "all"]] = ["skip", "once", "all"]
LINES = ["* * * * *", "*/7 * * * *", "0 * * * *", "30 1,2,3 * * *", "0 3 * * MON", "15 2 L * *"]
recurrences = st.builds(
    Recurrence,
    cron=st.sampled_from(LINES),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    until_ms=st.sampled_from([0, 0, ms("2026-03-30 12:00"), ms("2026-04-05 00:00")]),
    most=st.sampled_from([0, 0, 1, 5, 250]),
    missed=st.sampled_from(POLICIES),
)
#: How the clock moves from one decision to the next: on time, a takeover, an outage, a step back.
moves = st.lists(
    st.sampled_from([0, 1, 999, 20_000, MINUTE, 61_000, 3_600_000, DAY, 9 * DAY, -1, -1_500, -90_000, -DAY]),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(recurrences, moves)
def test_a_clock_that_steps_makes_nothing_run_twice(recurrence: Recurrence, clock: list[int]) -> None:
    """Whatever the clock does, and whoever decides: all that passes from one to the next is two numbers."""
    now = last = ms("2026-03-28 12:00")
    started: list[int] = []
    for move in clock:
        now += move
        due = due_runs(recurrence, last, now, len(started))
        assert len(due.runs) <= RUNS_AT_ONCE
        assert due.last_ms >= last
        assert all(last < run <= min(now, due.last_ms) for run in due.runs)
        assert due.next_ms is None or due.next_ms > due.last_ms
        started += due.runs
        last = due.last_ms
        if due.next_ms is None:
            assert (recurrence.most and len(started) == recurrence.most) or following(recurrence, last) is None
            assert due_runs(recurrence, last, now + 99 * DAY, len(started)).runs == []
    assert started == sorted(set(started))
    assert all(following(recurrence, run - 1) == run for run in started)
    assert not recurrence.most or len(started) <= recurrence.most


@settings(max_examples=300, deadline=None)
@given(recurrences, st.integers(0, 10 * DAY), st.integers(0, 4 * DAY) | st.integers(0, 3 * MINUTE))
def test_each_policy_says_what_becomes_of_missed_runs(recurrence: Recurrence, since: int, away: int) -> None:
    recurrence = msgspec.structs.replace(recurrence, most=0)
    last = ms("2026-03-28 12:00") + since
    now = last + away
    passed = runs_until(recurrence, last, now)
    due = due_runs(recurrence, last, now, 3)
    in_time = [one for one in passed if now - one <= MINUTE]
    if recurrence.missed == "all":
        assert due.runs == passed[:RUNS_AT_ONCE]
        assert due.last_ms == (due.runs or [last])[-1]
    else:
        assert due.runs == (in_time if recurrence.missed == "skip" else passed)[-1:]
        assert due.last_ms == (passed or [last])[-1]
        assert due.next_ms is None or due.next_ms > now
    assert due.next_ms == following(recurrence, due.last_ms)


@given(recurrences)
def test_a_recurrence_travels_as_json_without_its_defaults(recurrence: Recurrence) -> None:
    assert msgspec.json.decode(msgspec.json.encode(recurrence), type=Recurrence) == recurrence
    assert msgspec.json.encode(Recurrence("@daily")) == b'{"cron":"@daily"}'


# -- the document -----------------------------------------------------------------------------------


def table(heading: str) -> list[list[str]]:
    """The rows under the heading that begins so, without their back-quotes."""
    (found,) = re.findall(rf"^{re.escape(heading)}.*\n\| ---.*\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
    return [[cell.strip(" `") for cell in row.strip("|").split(" | ")] for row in found.splitlines()]


def listed(times: list[str]) -> str:
    return ", ".join(times) or "-"


@pytest.mark.parametrize(("text", "expected"), [pytest.param(*row, id=row[0]) for row in table("| line | runs")])
def test_lines_in_the_document_run_when_it_says(text: str, expected: str) -> None:
    due = runs(Recurrence(text), ms("2026-01-14 12:00"), 3)
    assert listed([shown(one, "UTC").removesuffix(" +0000") for one in due]) == expected


@pytest.mark.parametrize("row", table("| line | zone | after"), ids=" ".join)
def test_changes_of_the_clock_in_the_document(row: list[str]) -> None:
    text, zone, after, expected = row
    due = runs(Recurrence(text, zone), ms(after), expected.count(",") + 1)
    assert listed([shown(one, zone) for one in due]) == expected


@pytest.mark.parametrize("row", table("| it is now"), ids=lambda row: row[0])
def test_missed_runs_in_the_document(row: list[str]) -> None:
    now, *expected, upcoming = row
    for policy, runs_expected in zip(POLICIES, expected, strict=True):
        due = due_runs(Recurrence("0 3 * * *", missed=policy), ms("2026-01-10 03:00"), ms(now), 0)
        assert listed([shown(one, "UTC").removesuffix(" +0000") for one in due.runs]) == runs_expected, policy
        assert due.next_ms == ms(upcoming)
