"""A plan's graph, its time line and the charts: where things stand in them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.console.drawing import MOST_BOXES, MOST_ROWS, chart, graph, layers, time_line
from chargehand.console.views import Attempt
from chargehand.store.plans import StepView
from chargehand.store.stats import Minute


def step(index: int, *after: int | tuple[int, int], action: str = "work", state: str = "waiting") -> StepView:
    return StepView(index, action, "default", state, 1, list(after))


@st.composite
def plans(draw: st.DrawFn) -> list[StepView]:
    """Steps that depend on earlier ones, by number and by range."""
    made = []
    for index in range(draw(st.sampled_from([1, 5, 20, 70]))):
        after: list[int | tuple[int, int]] = []
        for _ in range(draw(st.integers(0, 2)) if index else 0):
            first = draw(st.integers(0, index - 1))
            end = draw(st.integers(first + 1, index))
            after.append(first if draw(st.booleans()) else (first, end))
        made.append(
            step(index, *after, action=draw(st.sampled_from("ab")), state=draw(st.sampled_from(["waiting", "failed"])))
        )
    return made


@settings(max_examples=50)
@given(plans())
def test_a_step_stands_right_of_all_it_comes_after(steps: list[StepView]) -> None:
    found = layers(steps)
    for one in steps:
        before = [index for named in one.after for index in (range(*named) if isinstance(named, tuple) else (named,))]
        assert found[one.index] == max((found[index] + 1 for index in before), default=0)


@settings(max_examples=50)
@given(plans())
def test_every_step_is_drawn_or_counted_and_no_two_boxes_share_a_place(steps: list[StepView]) -> None:
    drawn = graph(steps)
    assert sum(box.steps for box in drawn.boxes) + drawn.left_out == len(steps)
    assert len({(box.x, box.y) for box in drawn.boxes}) == len(drawn.boxes)
    assert all(box.x + 176 <= drawn.width and box.y + 40 <= drawn.height for box in drawn.boxes)
    assert drawn.folded == (len(drawn.boxes) < len(steps) - drawn.left_out)


def test_a_small_plan_is_drawn_step_by_step() -> None:
    drawn = graph([step(0), step(1, 0), step(2, 0), step(3, (1, 3))])
    assert [box.title for box in drawn.boxes] == ["0 work", "1 work", "2 work", "3 work"]
    assert len(drawn.edges) == 4
    assert not drawn.folded


def test_edges_of_all_to_all_meet_in_one_point() -> None:
    first = [step(n, state="succeeded") for n in range(3)]
    drawn = graph([*first, *(step(n, (0, 3)) for n in range(3, 7))])
    assert len(drawn.edges) == 3 + 4
    assert all(edge.done for edge in drawn.edges)
    assert len(graph([*first, *(step(n, 0, 2) for n in range(3, 5))]).edges) == 4


def test_many_steps_of_one_action_side_by_side_are_one_box() -> None:
    wide = [step(0, state="succeeded"), *(step(n, 0, action="host", state="succeeded") for n in range(1, 1000))]
    wide[500] = step(500, 0, action="host", state="failed")
    wide.append(step(1000, (1, 1000), action="report"))
    drawn = graph(wide)
    assert [box.whole for box in drawn.boxes] == [
        "0 work: succeeded",
        "999 x host: 1 failed, 998 succeeded",
        "1000 report: waiting",
    ]
    assert drawn.boxes[1].state == "failed"
    assert drawn.boxes[1].step == 500
    assert drawn.boxes[1].detail.endswith("…")


def test_a_long_chain_of_one_action_is_one_box() -> None:
    drawn = graph([step(0), *(step(n, n - 1) for n in range(1, 5000))])
    assert [box.steps for box in drawn.boxes] == [5000]


def test_of_very_many_boxes_those_around_what_is_not_done_are_drawn() -> None:
    steps = [step(0, action="a", state="succeeded")]
    steps += [step(n, n - 1, action="ab"[n % 2], state="succeeded" if n < 900 else "waiting") for n in range(1, 1000)]
    drawn = graph(steps)
    assert len(drawn.boxes) == MOST_BOXES
    assert drawn.left_out == 1000 - MOST_BOXES
    assert any(box.step == 900 for box in drawn.boxes)


def test_the_time_line_holds_all_attempts() -> None:
    tries = [
        Attempt(0, "a", 1, 1000, 2000, "node-a", "failed"),
        Attempt(0, "a", 2, 3000, 5000, "node-b", "succeeded"),
        Attempt(1, "b", 1, 5000, 5000, "node-a", "succeeded"),
    ]
    line = time_line(tries)
    assert line is not None
    assert (line.begin_ms, line.end_ms, line.left_out) == (1000, 5000, 0)
    first, second = line.rows
    assert [(bar.x, bar.width) for bar in first.bars] == [(0, 250), (500, 500)]
    assert (first.nodes, first.seconds, first.state) == (["node-a", "node-b"], 3.0, "succeeded")
    assert [(bar.x, bar.width) for bar in second.bars] == [(996, 4)]  # what took no time is seen all the same


def test_of_many_steps_those_that_failed_and_took_longest_are_on_the_time_line() -> None:
    tries = [Attempt(n, "a", 1, 0, n, "", "failed" if n == 3 else "succeeded") for n in range(1000)]
    line = time_line(tries)
    assert line is not None
    assert [row.step for row in line.rows] == [3, *range(1000 - MOST_ROWS + 1, 1000)]
    assert line.left_out == 1000 - MOST_ROWS


def test_nothing_has_run() -> None:
    assert time_line([]) is None


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=60))
def test_no_column_is_higher_than_its_chart(values: list[tuple[int, int]]) -> None:
    minutes = [Minute(n * 60_000, steps=good, failed=bad) for n, (good, bad) in enumerate(values)]
    made = chart(minutes, lambda one: one.steps, lambda one: one.failed)
    assert all(column.good + column.bad <= 1000.2 for column in made.columns)
    assert made.top >= max(1, *(good + bad for good, bad in values))
