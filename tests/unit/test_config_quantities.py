"""Durations and sizes: what is written is what is read, and everything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.config.quantities import format_duration, format_size, parse_duration, parse_size
from chargehand.config.settings import Duration, Size


@given(st.integers(0, 36_500 * 86_400 * 10**6))
def test_any_duration_to_a_microsecond_comes_back(microseconds: int) -> None:
    value = Duration(microseconds / 1_000_000)
    assert parse_duration(format_duration(value)) == value


@given(st.integers(0, 2**52))
def test_any_size_comes_back(size: int) -> None:
    assert parse_size(format_size(Size(size))) == size


@given(st.floats(0, 30_000), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_what_is_read_is_written_and_read_the_same(number: float, unit: str) -> None:
    read = parse_duration(f"{number:.6f}{unit}")
    assert parse_duration(format_duration(read)) == read


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("5s", 5),
        ("1.5m", 90),
        ("1h", 3600),
        ("30d", 2_592_000),
        (" 5 s ", 5),
        ("0s", 0),
        ("0.1ms", 1e-4),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0s"), (0.5, "500ms"), (1.5, "1500ms"), (90, "90s"), (120, "2m"), (86_400, "1d"), (0.00125, "1.25ms")],
)
def test_durations_are_written_short(value: float, text: str) -> None:
    assert format_duration(value) == text


@pytest.mark.parametrize(("text", "count"), [("512B", 512), ("64KiB", 65_536), ("1.5GiB", 3 << 29), ("1TiB", 1 << 40)])
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "text",
    [
        *"5s-+. ",
        "",
        "-5s",
        "+5s",
        "5 5s",
        "5S",
        "5sec",
        "5s5",
        "1e3s",
        "5.s",
        ".5s",
        "\u0665s",
        "inf s",
        "nans",
        "36501d",
        "9" * 400 + "d",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"no duration|too long"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", "5k", "5KB", "5kib", "5MB", "-1B", "4097TiB", "9" * 400 + "B"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"no size|too large"):
        parse_size(text)
