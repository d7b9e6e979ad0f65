"""Recurring plans: what is kept from one run to the next. Which times are due is the calendar's (test_calendar.py)."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from chargehand.plan.calendar import CalendarError, Recurrence
from chargehand.plan.repeat import Repeat
from chargehand.wire import encode

HOUR = 3_600_000


def _hourly(zone: str = "UTC", most: int = 0, missed: str = "once") -> Repeat:
    recurrence = msgspec.convert({"cron": "0 * * * *", "zone": zone, "most": most, "missed": missed}, Recurrence)
    return Repeat("nightly", recurrence, Raw(b"{}"))


def test_the_first_run_is_the_next_time_after_it_was_set() -> None:
    found = _hourly().begun(5 * HOUR)
    assert (found.next_ms, found.last_ms, found.set_ms, found.runs) == (6 * HOUR, 5 * HOUR, 5 * HOUR, 0)


def test_set_again_it_counts_anew() -> None:
    _, ran = _hourly(most=1).begun(0).due(HOUR)
    assert ran.next_ms == 0
    assert ran.begun(2 * HOUR).next_ms == 3 * HOUR


def test_a_run_is_due_once() -> None:
    runs, after = _hourly().begun(0).due(HOUR)
    assert runs == [HOUR]
    assert (after.runs, after.ran_ms, after.next_ms) == (1, HOUR, 2 * HOUR)
    assert after.due(HOUR) == ([], after)


def test_a_clock_that_is_put_back_runs_none_twice() -> None:
    _, after = _hourly().begun(0).due(2 * HOUR)
    assert after.due(HOUR)[0] == []
    assert after.due(3 * HOUR)[0] == [3 * HOUR]


def test_what_would_have_run_in_a_pause_does_not_run() -> None:
    paused = _hourly(missed="all").begun(0).paused_at(HOUR // 2)
    assert paused.paused
    resumed = paused.resumed_at(5 * HOUR + 1)
    assert not resumed.paused
    assert resumed.next_ms == 6 * HOUR
    assert resumed.due(6 * HOUR)[0] == [6 * HOUR]


def test_resumed_after_its_last_run_it_stays_over() -> None:
    _, over = _hourly(most=1).begun(0).due(HOUR)
    assert over.paused_at(2 * HOUR).resumed_at(3 * HOUR).next_ms == 0


def test_missed_runs_come_in_portions_when_the_definition_is_large() -> None:
    large = msgspec.structs.replace(_hourly(missed="all"), definition=Raw(encode("x" * 50_000))).begun(0)
    runs, after = large.due(10 * HOUR)
    assert runs == [HOUR, 2 * HOUR]
    assert after.next_ms <= 10 * HOUR, "the next ones at once"
    assert after.due(10 * HOUR)[0] == [3 * HOUR, 4 * HOUR]


def test_a_zone_that_a_node_does_not_know_is_kept_for_one_that_does() -> None:
    unknown = msgspec.structs.replace(_hourly("Europe/Nowhere"), last_ms=HOUR)
    runs, troubled = unknown.due(2 * HOUR)
    assert runs == []
    assert "Europe/Nowhere" in troubled.problem
    assert 2 * HOUR < troubled.next_ms < 3 * HOUR
    assert troubled.last_ms == HOUR, "nothing was dealt with"
    known = msgspec.structs.replace(troubled, recurrence=_hourly().recurrence)
    assert known.due(2 * HOUR)[1].problem == ""


def test_one_that_could_not_be_followed_is_refused_when_it_is_set() -> None:
    with pytest.raises(CalendarError):
        _hourly("Europe/Nowhere").begun(0)


def test_the_plan_of_a_time_has_one_name() -> None:
    assert _hourly().plan_id(HOUR) == f"rnightly-{HOUR}"
