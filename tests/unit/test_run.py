"""A plan in the orchestrator's memory: which steps are ready, whatever depends on whatever."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from chargehand.plan.life import DONE, StepEvent
from chargehand.plan.run import PlanRun
from chargehand.plan.spans import Spans
from chargehand.wire import Definition, Policy, Step


def definition(steps: list[Step]) -> Definition:
    return Definition(label="any", policies=[Policy(action="any")], total=len(steps), steps=steps)


def of(plan: Definition, state: bytes | None = None) -> PlanRun:
    run = PlanRun("plan", plan, state)
    run.extend(plan.steps)
    return run


@st.composite
def edges(draw: st.DrawFn, step: int) -> int | tuple[int, int]:
    low = draw(st.integers(0, step - 1))
    high = draw(st.integers(low + 1, step))
    return low if high == low + 1 else (low, high)


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    """Ranges of every length, that nest, overlap and repeat."""
    total = draw(st.integers(2, 70))
    return definition([Step(0), *(Step(0, after=draw(st.lists(edges(step), max_size=3))) for step in range(1, total))])


def before(step: Step) -> set[int]:
    found: set[int] = set()
    for edge in step.after:
        found.update((edge,) if isinstance(edge, int) else range(*edge))
    return found


@given(plan=definitions(), seed=st.integers(0, 2**32))
def test_a_step_is_ready_once_all_before_it_have_finished(plan: Definition, seed: int) -> None:
    """In whatever order they finish, and if the plan is read again in the middle."""
    random = Random(seed)
    run = of(plan)
    done: set[int] = set()
    while run.left:
        expected = {index for index, step in enumerate(plan.steps) if before(step) <= done} - done
        assert sorted(run.ready) == sorted(expected)
        step = random.choice(sorted(run.ready))
        run.ready.remove(step)
        run.advance(step, StepEvent.QUEUED)
        run.advance(step, StepEvent.SUCCEEDED)
        done.add(step)
        if random.random() < 0.1:
            run = of(plan, bytes(run.state))
    assert all(state in DONE for state in run.state[1:])


@given(data=st.data(), size=st.integers(1, 300))
def test_ranges_are_found_by_what_is_in_them(data: st.DataObject, size: int) -> None:
    firsts = data.draw(st.lists(st.integers(0, size - 1), max_size=30))
    ranges = [range(first, data.draw(st.integers(first + 1, size))) for first in firsts]
    spans: Spans[int] = Spans(size)
    for index, one in enumerate(ranges):
        spans.add(one.start, one.stop, index)
    for number in range(size):
        assert sorted(spans.at(number)) == [index for index, one in enumerate(ranges) if number in one]
