"""A plan's steps as few rows and the lines between them: nothing is lost and nothing lies, whatever its shape."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.cli.graph import Row, drawn, folded, numbers
from chargehand.store.plans import StepView

States = st.sampled_from(["succeeded", "waiting", "failed", "running"])


def step(
    index: int, after: Iterable[int | tuple[int, int]] = (), action: str = "a", state: str = "succeeded"
) -> StepView:
    return StepView(index, action, "default", state, 1, list(after))


def picture(steps: list[StepView]) -> list[str]:
    rows = folded(steps)
    return [
        f"{lanes.row:<{lanes.width}} {row.steps[0].index}" + (f" +{len(row.steps) - 1}" if len(row.steps) > 1 else "")
        for row, lanes in zip(rows, drawn(rows), strict=True)
    ]


@st.composite
def plans(draw: st.DrawFn, most: int = 120) -> list[StepView]:
    steps: list[StepView] = []
    for index in range(draw(st.integers(1, most))):
        after = draw(st.lists(st.integers(0, index - 1), max_size=3, unique=True)) if index else []
        steps.append(step(index, after, draw(st.sampled_from("ab")), draw(States)))
    return steps


def test_a_diamond() -> None:
    steps = [step(0), step(1, [0]), step(2, [0]), step(3, [0], "b"), step(4, [(1, 4)])]
    assert picture(steps) == [
        "●     0",
        "├─●   1",
        "├─│─● 2",
        "● │ │ 3",
        "○─┴─╯ 4",
    ]


def test_lines_that_cross_do_not_meet() -> None:
    """Steps 2 and 3 come after 0 and 1 each by itself: no line of the one touches the other's."""
    assert picture([step(0), step(1), step(2, [0]), step(3, [1])]) == [
        "●   0",
        "│ ● 1",
        "○ │ 2",
        "  ○ 3",
    ]


def test_many_alike_are_one_row_and_the_failed_one_is_seen() -> None:
    steps = [step(0, action="check")]
    steps += [step(n, [0], state="failed" if n == 51 else "succeeded") for n in range(1, 99_999)]
    steps += [step(99_999, [(1, 99_999)], "report", "waiting")]
    assert picture(steps) == [
        "●   0",
        "├─● 1 +99996",
        "● │ 51",
        "○─╯ 99999",
    ]


def test_a_long_chain_is_one_row() -> None:
    steps = [step(n, [n - 1] if n else [], state="succeeded" if n < 500 else "waiting") for n in range(1_000)]
    assert picture(steps) == ["● 0 +499", "○ 500 +499"]


def test_chains_beside_each_other_are_one_chain() -> None:
    steps: list[StepView] = []
    for chain in range(100):
        at = len(steps)
        done = chain != 7
        steps += [
            step(at, action="a"),
            step(at + 1, [at], "b", "succeeded" if done else "failed"),
            step(at + 2, [at + 1], "c", "succeeded" if done else "waiting"),
        ]
    assert picture(steps) == [
        "●   0 +99",
        "├─● 1 +98",
        "│ ○ 2 +98",
        "●   22",
        "○   23",
    ]


@given(plans())
@settings(max_examples=150, deadline=None)
def test_every_step_is_in_one_row_and_rows_stand_in_their_order(steps: list[StepView]) -> None:
    rows = folded(steps)
    place = {one.index: at for at, row in enumerate(rows) for one in row.steps}
    assert sorted(one.index for row in rows for one in row.steps) == list(range(len(steps)))
    for one in steps:
        for before in numbers(one.after):
            same, above = place[before] == place[one.index], place[before] < place[one.index]
            assert same or above, "it stands below what it comes after"
            assert same or place[before] in rows[place[one.index]].after, "the line is not left out"
    assert all(len({(one.action, one.state) for one in row.steps}) == 1 for row in rows) or len(steps) > 100


@given(plans(25))
@settings(max_examples=150, deadline=None)
def test_the_lines_say_what_comes_after_what(steps: list[StepView]) -> None:
    """Read back from the picture, by somebody who knows nothing but its signs."""
    rows = folded(steps)
    read = _read([lanes.row for lanes in drawn(rows)])
    assert read == [set(row.after) for row in rows]


def _read(lines: list[str]) -> list[set[int]]:
    """For each row the rows that it comes after."""
    owners: dict[int, int] = {}  # lane -> row
    found: list[set[int]] = []
    for place, line in enumerate(lines):
        signs = dict(enumerate(line[::2]))
        (own,) = (lane for lane, sign in signs.items() if sign in "●○")
        found.append(
            {owners[lane] for lane, sign in signs.items() if sign in "├┤┼╰╯┴" or (lane == own and lane in owners)}
        )
        for lane in [own, *(lane for lane, sign in signs.items() if sign in "╰╯┴")]:
            owners.pop(lane, None)
        if signs[own] == "●":
            owners[own] = place
        assert all(signs.get(lane) in {"│", "├", "┤", "┼", "●"} for lane in owners), "a line has no gap"
    return found


@pytest.mark.parametrize("width", [1, 3])
def test_all_lines_of_a_drawing_are_as_wide(width: int) -> None:
    rows = [Row([step(n)], frozenset(range(n))) for n in range(width)]
    lanes = drawn(rows)
    assert all(len(one.row) <= one.width and len(one.below) <= one.width for one in lanes)
    assert all(one.width == other.width for one, other in pairwise(lanes))
