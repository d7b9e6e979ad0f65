"""Undo: backwards over what succeeded, a step after all that was built upon it."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.plan.life import StepState
from chargehand.plan.run import PlanRun
from chargehand.plan.undo import Undo
from chargehand.wire import Definition, Policy, Step

_OVER = [StepState.SUCCEEDED, StepState.SUCCEEDED, StepState.SUCCEEDED, StepState.SKIPPED, StepState.CANCELLED]


def _run(steps: list[Step], states: str) -> PlanRun:
    definition = Definition("x", [Policy("with", revert=True), Policy("without")], len(steps), steps)
    run = PlanRun("p", definition, b"v" + states.encode())
    run.extend(steps)
    return run


def test_the_last_step_goes_first() -> None:
    run = _run([Step(0), Step(0, after=[0]), Step(0, after=[1])], "sss")
    undo = Undo(run)
    assert [*undo.ready] == [2]
    undo.ready.clear()
    run.state[3] = StepState.REVERTED
    undo.done(2)
    assert [*undo.ready] == [1]


def test_what_has_nothing_to_undo_is_passed_over() -> None:
    run = _run([Step(0), Step(1, after=[0]), Step(0, after=[1])], "ssf")
    assert [*Undo(run).ready] == [0]


def test_what_is_being_undone_or_was_spoiled_is_still_built_upon_what_it_needs() -> None:
    steps = [Step(0), Step(0, after=[0])]
    for letter in "vyu":
        assert not Undo(_run(steps, f"s{letter}")).ready


def test_a_range_that_many_depend_on_is_free_when_all_of_them_are() -> None:
    steps = [*[Step(0)] * 30, Step(0, after=[(0, 30)]), Step(0, after=[(0, 30)])]
    run = _run(steps, "s" * 32)
    undo = Undo(run)
    assert [*undo.ready] == [30, 31]
    for step in (30, 31):
        assert len(undo.ready) == 2
        run.state[step + 1] = StepState.REVERTED
        undo.done(step)
    assert [*undo.ready][2:] == [*range(30)]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_each_is_undone_once_after_all_that_was_built_upon_it(seed: int) -> None:
    """And one made from the states in between says the same as the one that went along."""
    draw = Random(seed)
    steps: list[Step] = []
    for index in range(draw.randint(1, 25)):
        after: list[int | tuple[int, int]] = []
        if index:
            after += [draw.randrange(index) for _ in range(draw.randint(0, 2))]
            if draw.random() < 0.3:
                low = draw.randrange(index)
                after.append((low, draw.randint(low + 1, index)))
        steps.append(Step(draw.randint(0, 1), after=after))
    run = _run(steps, "".join(chr(draw.choice(_OVER)) for _ in steps))
    wanted = {
        index for index, step in enumerate(steps) if step.policy == 0 and run.state[index + 1] == StepState.SUCCEEDED
    }
    undo, done, running = Undo(run), set[int](), set[int]()
    while undo.ready or running:
        if undo.ready and draw.random() < 0.6:
            step = undo.ready.popleft()
            assert step not in done | running
            running.add(step)
            run.state[step + 1] = StepState.UNDOING
        elif running:
            step = draw.choice(sorted(running))
            running.discard(step)
            done.add(step)
            run.state[step + 1] = StepState.REVERTED
            undo.done(step)
        assert sorted(Undo(run).ready) == sorted(undo.ready)
    assert done == wanted
