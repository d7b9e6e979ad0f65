"""A plan's steps as few rows, and the lines between them. Pure.

    ●      0  check   succeeded
    ├─●    1  patch   succeeded
    │ │       … 198 more like step 1: succeeded
    ● │   51  patch   failed
    ○─╯  201  report  waiting

A row stands in a lane of its own, which goes on down to the last row that comes after it; none comes after a `○`, so
what stands below that has nothing to do with it. Steps that look the same
(action, state, and what they come after) are one row, and so is a long chain of such steps. So a plan of 100,000
steps is a handful of rows, whatever its shape.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from chargehand.store.plans import StepView

__all__ = ["QUIET", "Lanes", "Row", "drawn", "folded", "numbers"]

#: Steps in these states are told by the first of them; of others some are.
QUIET = frozenset({"succeeded", "waiting", "queued", "cancelled", "reverted"})

_SMALL = 30  # steps: a plan that fits on a page is shown whole
_FEW = 4  # rows like each other: fewer are not worth folding
_MOST = 100  # rows: beyond, quiet ones that follow each other are one


class Row(NamedTuple):
    """Steps that are drawn as one, in order; `after`: the rows that it comes after, by their places."""

    steps: list[StepView]
    after: frozenset[int]


class Lanes(NamedTuple):
    """What stands before a row, before further steps of it, and before what is told below them."""

    row: str
    again: str
    below: str
    width: int  # of the whole drawing


def folded(steps: Sequence[StepView]) -> list[Row]:
    """The rows of a plan, each after those that it comes after."""
    if len(steps) <= _SMALL:
        groups = [[index] for index in range(len(steps))]
        return _rows(steps, groups)
    rows = _rows(steps, _chained(_rows(steps, _alike(steps))))
    return rows if len(rows) <= _MOST else _rows(steps, _run_together(rows), keep_order=True)


def _alike(steps: Sequence[StepView]) -> list[list[int]]:
    """Groups of steps that cannot be told apart by what they are, how they are, and what comes before them."""
    kinds: dict[tuple[object, ...], int] = {}
    kind_of: list[int] = []
    before: dict[tuple[object, ...], frozenset[int]] = {}  # many steps come after the same ones
    for step in steps:
        after = tuple(step.after)
        if after not in before:
            before[after] = frozenset(kind_of[one] for one in numbers(step.after))
        kind_of.append(kinds.setdefault((step.action, step.state, before[after]), len(kinds)))
    groups: list[list[int]] = [[] for _ in kinds]
    for index, kind in enumerate(kind_of):
        groups[kind].append(index)
    return [part for group in groups for part in ([group] if len(group) >= _FEW else [[one] for one in group])]


def _chained(rows: Sequence[Row]) -> list[list[int]]:
    """Long chains of rows with the same action and state put together."""
    followers = Counter(one for row in rows for one in row.after)
    chains: list[list[int]] = []
    chain_of: list[int] = []
    for place, row in enumerate(rows):
        (last,) = row.after if len(row.after) == 1 else (None,)
        if last is not None and followers[last] == 1 and _like(rows[last], row):
            chain_of.append(chain_of[last])
        else:
            chain_of.append(len(chains))
            chains.append([])
        chains[chain_of[-1]].append(place)
    parts = [part for chain in chains for part in ([chain] if len(chain) >= _FEW else [[one] for one in chain])]
    return [[step.index for place in part for step in rows[place].steps] for part in parts]


def _like(one: Row, other: Row) -> bool:
    first, second = one.steps[0], other.steps[0]
    return (first.action, first.state) == (second.action, second.state)


def _run_together(rows: Sequence[Row]) -> list[list[int]]:
    """Quiet rows that follow each other as one, since there are too many."""
    parts = [list(some) for _, some in groupby(rows, lambda row: row.steps[0].state in QUIET)]
    return [
        [step.index for row in group for step in row.steps]
        for part in parts
        for group in ([part] if part[0].steps[0].state in QUIET else [[row] for row in part])
    ]


def _rows(steps: Sequence[StepView], groups: Sequence[Sequence[int]], *, keep_order: bool = False) -> list[Row]:
    """Groups of steps (which must not come before each other in a ring) as rows in their order."""
    group_of = [0] * len(steps)
    for number, group in enumerate(groups):
        for index in group:
            group_of[index] = number
    after: list[set[int]] = [set() for _ in groups]
    seen: set[tuple[object, ...]] = set()
    for step in steps:
        number = group_of[step.index]
        if (key := (number, *step.after)) not in seen:
            seen.add(key)
            after[number].update(group_of[one] for one in numbers(step.after))
    for number, some in enumerate(after):
        some.discard(number)
    order = list(range(len(groups))) if keep_order else _order(after, lambda number: groups[number][0])
    places = {number: place for place, number in enumerate(order)}
    return [
        Row([steps[index] for index in groups[number]], frozenset(places[one] for one in after[number]))
        for number in order
    ]


def _order(after: Sequence[set[int]], first: Callable[[int], int]) -> list[int]:
    """Each after those that it comes after; otherwise by their first steps."""
    left = [len(some) for some in after]
    followers: list[list[int]] = [[] for _ in after]
    for number, some in enumerate(after):
        for one in some:
            followers[one].append(number)
    ready = [(first(number), number) for number, count in enumerate(left) if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        _, number = heapq.heappop(ready)
        order.append(number)
        for follower in followers[number]:
            left[follower] -= 1
            if not left[follower]:
                heapq.heappush(ready, (first(follower), follower))
    return order


def numbers(after: Iterable[int | tuple[int, int]]) -> Iterator[int]:
    """The steps that a step comes after, of their ranges each."""
    for one in after:
        if isinstance(one, int):
            yield one
        else:
            yield from range(*one)


# -- the lines ------------------------------------------------------------------------------------


def drawn(rows: Sequence[Row]) -> list[Lanes]:
    """What stands before each row. Lines cross without meeting where a `│` stands between two `─`."""
    left = Counter(one for row in rows for one in row.after)
    lanes: list[int | None] = []  # whose each is
    lines = []
    for place, row in enumerate(rows):
        before = {lane for lane, owner in enumerate(lanes) if owner in row.after}
        left.subtract(row.after)
        ending = {lane for lane in before if not left[lanes[lane] or 0]}
        own = min(ending, default=lanes.index(None) if None in lanes else len(lanes))
        if own == len(lanes):
            lanes.append(None)
        text = _line(lanes, own, before, ending, "●" if left[place] else "○")
        for lane in ending:
            lanes[lane] = None
        lanes[own] = place if left[place] else None
        passing = ["│" if one is not None else " " for one in lanes]
        below = " ".join(passing)
        passing[own] = "┊"
        again = " ".join(passing).rstrip()
        while lanes and lanes[-1] is None:
            lanes.pop()
        lines.append((text, again, below))
    width = max((len(text) for some in lines for text in some), default=0)
    return [Lanes(*some, width) for some in lines]


def _line(lanes: Sequence[int | None], own: int, before: set[int], ending: set[int], sign: str) -> str:
    first, last = min({own, *before}), max({own, *before})
    pieces = []
    for lane, owner in enumerate(lanes):
        if lane == own:
            mark = sign
        elif lane in before:
            ends = "╰╯┴" if lane in ending else "├┤┼"
            mark = ends[0] if lane == first else ends[1] if lane == last else ends[2]
        elif owner is not None:
            mark = "│"
        else:
            mark = "─" if first < lane < last else " "
        pieces.append(mark + ("─" if first <= lane < last else " "))
    return "".join(pieces).rstrip()
