"""Tables that fit, and times in brief."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.cli.columns import Cell, Column, Said, arranged, plain
from chargehand.cli.times import lasting, moment_in_brief

COLUMNS = (Column("ID"), Column("STATE", drop=1), Column("TEXT", cut=True), Column("BY", drop=2))


def texts(lines: list[Said]) -> list[str]:
    return ["".join(one if isinstance(one, str) else one[0] for one in line).rstrip() for line in lines]


def test_all_of_it_where_there_is_no_terminal() -> None:
    rows: list[list[Cell]] = [["1", ("paused", "yellow"), "x" * 300, "ada"]]
    titles, row = texts(arranged(COLUMNS, rows))
    assert row == f"1   paused  {'x' * 300}  ada"
    assert titles.split() == ["ID", "STATE", "TEXT", "BY"]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (54, "1234567890  paused  a text of thirty characters..  ada"),
        (50, "1234567890  paused  a text of thirty charact…  ada"),
        (40, "1234567890  paused  a text of thirty ch…"),
        (30, "1234567890  a text of thirty …"),
        (10, "1234567890  a text of thirt…"),
    ],
)
def test_a_text_is_cut_then_columns_go_and_the_id_stays(width: int, line: str) -> None:
    """Where there is room for neither, the line ends where the terminal does."""
    rows = [["1234567890", "paused", "a text of thirty characters..", "ada"]]
    assert texts(arranged(COLUMNS, rows, width))[1] == line


def test_a_column_without_text_is_left_out() -> None:
    assert texts(arranged(COLUMNS, [["1", "", "x", ""]])) == ["ID  TEXT", "1   x"]


@given(st.lists(st.tuples(st.text(), st.text(), st.text(), st.text())), st.none() | st.integers(40, 200))
def test_a_row_is_one_line_whatever_it_says(found: list[tuple[str, str, str, str]], width: int | None) -> None:
    rows: list[list[Cell]] = [[one[0][:10], *one[1:]] for one in found]
    lines = texts(arranged(COLUMNS, rows, width))
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() for line in lines)


def test_what_comes_from_elsewhere_does_not_steer_the_terminal() -> None:
    assert plain("a\x1b[31mred\n\x07b") == "a [31mred  b"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.004, "0.00 s"),
        (9.99, "9.99 s"),
        (12.4, "12 s"),
        (119, "119 s"),
        (180, "3 min"),
        (7_200, "2 h"),
        (7_500, "2 h 5 min"),
        (350_000, "4 d 1 h"),
        (-3, "0.00 s"),
    ],
)
def test_lasting(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(hours=1), "11:00:00"),
        (timedelta(days=1), "11-23 12:00"),
        (timedelta(days=400), "2025-10-20"),
        (-timedelta(days=1), "11-25 12:00"),
    ],
)
def test_moment_in_brief(ago: timedelta, text: str) -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert moment_in_brief(int((now - ago).timestamp() * 1000), now) == text


def test_no_moment() -> None:
    assert moment_in_brief(0, datetime.now(UTC)) == "-"
