"""Where things stand in the pictures of a page: a plan's graph, its time line, charts. Pure; templates draw it.

Lengths are in the units of each picture's own box: pixels of a graph, thousandths of a time line, minutes of a chart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from chargehand.console.views import Attempt
from chargehand.store.plans import StepView
from chargehand.store.stats import Minute

__all__ = ["Bar", "Box", "Chart", "Edge", "Graph", "Row", "TimeLine", "chart", "graph", "time_line"]

MOST_BOXES = 240  # drawn; the rest are counted
MOST_ROWS = 40  # of the time line; the rest are counted
_EACH = 60  # steps that are drawn one by one; beyond, those of one action in one layer are one box

_WIDTH, _HEIGHT = 176, 40  # of a box
_ACROSS, _DOWN = 56, 14  # between boxes
_EDGE = 8  # around the picture
_TEXT = 18  # characters that fit into a box


# -- a plan's graph -------------------------------------------------------------------------------


class Box(NamedTuple):
    """One step, or all steps of one action in one layer (in several layers, where a long chain is folded)."""

    x: int
    y: int
    title: str  # cut to what fits
    detail: str
    state: str  # of those that are in several, the one to look at first
    step: int  # the first that is in this state
    steps: int  # how many it stands for
    whole: str  # all of it in words


#: Of a box: its layer, its action and, where steps are drawn one by one, the step.
_Name: TypeAlias = tuple[int, str, int]


class Edge(NamedTuple):
    path: str  # SVG path data
    done: bool  # what it comes from is done with


class Graph(NamedTuple):
    width: int
    height: int
    boxes: Sequence[Box]
    edges: Sequence[Edge]
    folded: bool
    left_out: int  # steps that are not drawn


#: What is looked at first stands first.
_URGENT = (
    *("failed", "spoiled", "running", "retrying", "suspended", "undoing", "undo retrying", "queued"),
    *("cancelled", "skipped", "waiting", "reverted", "succeeded"),
)
_RANK = {word: rank for rank, word in enumerate(_URGENT)}
_DONE = {"succeeded", "skipped", "reverted"}


def graph(steps: Sequence[StepView]) -> Graph:
    """Layers from left to right: a step stands right of all that it comes after."""
    layer = layers(steps)
    each = len(steps) <= _EACH
    names: list[_Name] = [(layer[step.index], step.action, step.index if each else 0) for step in steps]
    if not each:
        chains = _chains(names)
        names = [(chains[at], action, 0) for at, action, _ in names]
    groups: dict[_Name, list[StepView]] = defaultdict(list)
    for name, step in zip(names, steps, strict=True):
        groups[name].append(step)
    kept, left_out = _nearest(groups)
    links = _links(steps, names, kept)
    places = _places(kept, links)
    boxes = [_box(groups[name], places[name]) for name in kept]
    edges = list(_edges(links, places, {name: all(step.state in _DONE for step in groups[name]) for name in kept}))
    width = max((x for x, _ in places.values()), default=0) + _WIDTH + _EDGE
    height = max((y for _, y in places.values()), default=0) + _HEIGHT + _EDGE
    return Graph(width, height, boxes, edges, len(groups) < len(steps), left_out)


def layers(steps: Sequence[StepView]) -> list[int]:
    """Of each step, how many must be done one after the other before it."""
    found: list[int] = []
    highest = _Highest(found, len(steps))
    for step in steps:
        before = -1
        for one in step.after:
            before = max(before, found[one] if isinstance(one, int) else highest.of(*one))
        found.append(before + 1)
    return found


class _Highest:
    """The highest value in a range of a list that grows (a segment tree): ranges may be long and many."""

    def __init__(self, values: Sequence[int], size: int) -> None:
        """`size`: how long the list will be at most."""
        self._values = values
        self._known = 0  # of the values, those that are in the tree: none before a range is asked for
        self._size = max(1, size)
        self._tree = [-1] * (2 * self._size)

    def _put(self, at: int, value: int) -> None:
        at += self._size
        while at and self._tree[at] < value:
            self._tree[at] = value
            at //= 2

    def of(self, first: int, end: int) -> int:
        for at in range(self._known, len(self._values)):
            self._put(at, self._values[at])
        self._known = len(self._values)
        low, high, best = first + self._size, end + self._size, -1
        while low < high:
            if low & 1:
                best = max(best, self._tree[low])
                low += 1
            if high & 1:
                high -= 1
                best = max(best, self._tree[high])
            low //= 2
            high //= 2
        return best


def _chains(names: Sequence[_Name]) -> dict[int, int]:
    """Successive layers of the same actions are one: layer -> the first of those that are folded with it."""
    actions: dict[int, set[str]] = defaultdict(set)
    for at, action, _ in names:
        actions[at].add(action)
    found: dict[int, int] = {}
    for at in sorted(actions):
        found[at] = found[at - 1] if at - 1 in actions and actions[at - 1] == actions[at] else at
    return found


def _nearest(
    groups: dict[_Name, list[StepView]],
) -> tuple[list[_Name], int]:
    """Those that are drawn, and how many steps are not: what is to be looked at first, and what stands around it."""
    ordered = sorted(groups)
    if len(ordered) <= MOST_BOXES:
        return ordered, 0
    first = next((at for at, name in enumerate(ordered) if any(s.state not in _DONE for s in groups[name])), 0)
    begin = max(0, min(first - MOST_BOXES // 4, len(ordered) - MOST_BOXES))
    kept = ordered[begin : begin + MOST_BOXES]
    return kept, sum(map(len, groups.values())) - sum(len(groups[name]) for name in kept)


def _links(steps: Sequence[StepView], names: Sequence[_Name], kept: Iterable[_Name]) -> set[tuple[_Name, _Name]]:
    """Which box comes before which. A range that many steps name is looked through once for each box."""
    drawn = set(kept)
    seen: set[tuple[int, int, _Name]] = set()
    runs = _runs(names)
    found = set()
    for step, name in zip(steps, names, strict=True):
        if name not in drawn:
            continue
        for one in step.after:
            first, end = (one, one + 1) if isinstance(one, int) else one
            if (first, end, name) in seen:
                continue
            seen.add((first, end, name))
            at = first
            while at < end:
                before = names[at]
                if before in drawn and before[0] < name[0]:  # what is folded may stand side by side
                    found.add((before, name))
                at = runs[at]
    return found


def _runs(names: Sequence[object]) -> list[int]:
    """Of each place, where the run of equal names that it is in ends."""
    ends = [0] * len(names)
    for at in range(len(names) - 1, -1, -1):
        last = at + 1 == len(names) or names[at + 1] != names[at]
        ends[at] = at + 1 if last else ends[at + 1]
    return ends


def _places(kept: Sequence[_Name], links: set[tuple[_Name, _Name]]) -> dict[_Name, tuple[int, int]]:
    """Columns in the order of layers; in a column, each box near what it comes after."""
    columns: dict[int, list[_Name]] = defaultdict(list)
    for name in kept:
        columns[name[0]].append(name)
    before: dict[_Name, list[_Name]] = defaultdict(list)
    for one, other in links:
        before[other].append(one)
    tallest = max(map(len, columns.values()), default=1)
    middle: dict[_Name, float] = {}
    places = {}
    for column, layer in enumerate(sorted(columns)):
        wanted = {
            name: sum(middle[one] for one in before[name]) / len(before[name]) if before[name] else 0.0
            for name in columns[layer]
        }
        ordered = sorted(columns[layer], key=lambda name: (wanted[name], name))
        top = (tallest - len(ordered)) / 2
        for number, name in enumerate(ordered):
            middle[name] = top + number
            places[name] = (
                _EDGE + column * (_WIDTH + _ACROSS),
                _EDGE + round((top + number) * (_HEIGHT + _DOWN)),
            )
    return places


def _box(steps: Sequence[StepView], place: tuple[int, int]) -> Box:
    counts = Counter(step.state for step in steps)
    state = min(counts, key=lambda word: _RANK.get(word, 0))
    chosen = next(step for step in steps if step.state == state)
    first = steps[0]
    if len(steps) == 1:
        title, detail = f"{first.index} {first.action}", state
        if first.progress is not None and state == "running":
            detail += f" {first.progress.fraction:.0%}"
    else:
        title = f"{len(steps):,} x {first.action}"
        detail = ", ".join(f"{number:,} {word}" for word, number in sorted(counts.items(), key=lambda c: _RANK[c[0]]))
    whole = f"{title}: {detail}"
    return Box(*place, _cut(title, _TEXT), _cut(detail, _TEXT + 4), state, chosen.index, len(steps), whole)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _edges(
    links: set[tuple[_Name, _Name]],
    places: Mapping[_Name, tuple[int, int]],
    done: Mapping[_Name, bool],
) -> Iterator[Edge]:
    """Where several boxes all come after the same several ones, their edges meet in one point in between."""
    before: dict[_Name, list[_Name]] = defaultdict(list)
    for one, other in sorted(links):
        before[other].append(one)
    meeting: dict[tuple[_Name, ...], list[_Name]] = defaultdict(list)
    for other, some in before.items():
        meeting[tuple(some)].append(other)
    for ones, others in meeting.items():
        if len(ones) < 3 or len(others) < 3:
            for other in others:
                yield from (Edge(_curve(_right(places[one]), _left(places[other])), done[one]) for one in ones)
            continue
        heights = [places[name][1] for name in (*ones, *others)]
        x = min(places[other][0] for other in others) - _ACROSS // 2
        middle = x, (min(heights) + max(heights) + _HEIGHT) // 2
        yield from (Edge(_curve(_right(places[one]), middle), done[one]) for one in ones)
        all_done = all(done[one] for one in ones)
        yield from (Edge(_curve(middle, _left(places[other])), all_done) for other in others)


def _right(place: tuple[int, int]) -> tuple[int, int]:
    return place[0] + _WIDTH, place[1] + _HEIGHT // 2


def _left(place: tuple[int, int]) -> tuple[int, int]:
    return place[0], place[1] + _HEIGHT // 2


def _curve(one: tuple[int, int], other: tuple[int, int]) -> str:
    (x1, y1), (x2, y2) = one, other
    if y1 == y2 and x2 - x1 <= _ACROSS:
        return f"M{x1} {y1}H{x2}"
    bend = min((x2 - x1) // 2, 28)
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"


# -- a plan's time line ---------------------------------------------------------------------------


class Bar(NamedTuple):
    x: float  # thousandths of the whole time
    width: float
    attempt: Attempt


class Row(NamedTuple):
    step: int
    action: str
    bars: Sequence[Bar]
    nodes: Sequence[str]
    seconds: float  # that its attempts took
    state: str  # of the last


class TimeLine(NamedTuple):
    begin_ms: int
    end_ms: int
    rows: Sequence[Row]
    left_out: int  # steps that have run and are not drawn


def time_line(tries: Sequence[Attempt]) -> TimeLine | None:
    """None: nothing has run. Of many steps, those that did not simply go well and those that took longest."""
    if not tries:
        return None
    begin = min(one.started_ms for one in tries)
    end = max(begin + 1, *(one.ended_ms for one in tries))
    steps: dict[int, list[Attempt]] = defaultdict(list)
    for one in tries:
        steps[one.step].append(one)
    rows = [_row(some, begin, end - begin) for some in steps.values()]
    if len(rows) > MOST_ROWS:
        rows.sort(key=lambda row: (row.state == "succeeded" and len(row.bars) == 1, -row.seconds))
        rows = sorted(rows[:MOST_ROWS], key=lambda row: row.step)
    return TimeLine(begin, end, rows, len(steps) - len(rows))


def _row(tries: Sequence[Attempt], begin: int, length: int) -> Row:
    bars = []
    for one in tries:
        x = (one.started_ms - begin) * 1000 / length
        width = max(4.0, (one.ended_ms - one.started_ms) * 1000 / length)
        bars.append(Bar(round(min(x, 1000 - width), 1), round(width, 1), one))
    seconds = sum(max(0, one.ended_ms - one.started_ms) for one in tries) / 1000
    names = list(dict.fromkeys(one.node for one in tries if one.node))
    return Row(tries[0].step, tries[0].action, bars, names, seconds, tries[-1].outcome)


# -- charts over the last hour --------------------------------------------------------------------


class Column(NamedTuple):
    """One minute: heights from the bottom, thousandths of the chart."""

    x: int
    good: float
    bad: float  # on top of it
    minute: Minute


class Chart(NamedTuple):
    columns: Sequence[Column]
    line: str  # SVG path data, of a second figure; empty: none
    top: float  # what the chart's height stands for


def chart(
    minutes: Sequence[Minute],
    good: Callable[[Minute], float],
    bad: Callable[[Minute], float] = lambda _: 0,
    *,
    line: Callable[[Minute], float] | None = None,
    least: float = 1,
) -> Chart:
    """Columns, a minute each; and a line over them. `least`: what the height stands for at least."""
    second = [line(one) for one in minutes] if line is not None else []
    top = _round_up(max([least, *(good(one) + bad(one) for one in minutes), *second]))
    columns = [
        Column(at, round(good(one) * 1000 / top, 1), round(bad(one) * 1000 / top, 1), one)
        for at, one in enumerate(minutes)
    ]
    points = [f"{at + 0.5:g} {1000 - value * 1000 / top:.0f}" for at, value in enumerate(second)]
    return Chart(columns, f"M{'L'.join(points)}" if points else "", top)


def _round_up(value: float) -> float:
    """To 1, 2 or 5 with zeros."""
    size = 1.0
    while size * 10 <= value:
        size *= 10
    return next(size * step for step in (1, 2, 5, 10) if size * step >= value)
