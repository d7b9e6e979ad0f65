"""Making plans: order, outputs, inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from chargehand import Plan, action
from chargehand.actions import ActionError, BadInput, registered
from chargehand.wire import MAX_INPUT


@pytest.fixture(autouse=True)
def only_these() -> Iterator[None]:
    before = dict(registered)
    yield
    registered.clear()
    registered.update(before)


@pytest.fixture
def work(only_these: None) -> Any:
    @action(name="work")
    def work(value: Any = None, count: int = 1) -> Any:
        return value

    return work


def after(plan: Plan) -> list[list[int | tuple[int, int]]]:
    return [list(step.after) for step in plan.definition().steps]


def given(plan: Plan, step: int = -1) -> Any:
    return msgspec.json.decode(plan.definition().steps[step].input)


def test_without_blocks_everything_runs_at_once(work: Any) -> None:
    plan = Plan("p")
    for _ in range(3):
        plan.add(work)
    assert after(plan) == [[], [], []]


def test_sequence(work: Any) -> None:
    plan = Plan("p")
    with plan.sequence():
        for _ in range(3):
            plan.add(work)
    assert after(plan) == [[], [0], [1]]


def test_concurrence_within_a_sequence(work: Any) -> None:
    plan = Plan("p")
    with plan.sequence():
        plan.add(work)
        with plan.concurrence():
            plan.add(work)
            with plan.sequence():
                plan.add(work)
                plan.add(work)
        plan.add(work)
    plan.add(work)
    assert after(plan) == [[], [0], [0], [2], [1, 3], []]


def test_empty_blocks_do_not_break_the_order(work: Any) -> None:
    plan = Plan("p")
    with plan.sequence():
        plan.add(work)
        with plan.concurrence():
            pass
        plan.add(work)
    assert after(plan) == [[], [0]]


def test_outputs_make_order(work: Any) -> None:
    plan = Plan("p")
    first = plan.add(work)
    plan.add(work)
    plan.add(work, value={"deep": [first["a"][0]]})
    assert after(plan) == [[], [], [0]]
    assert given(plan) == {"value": {"deep": [{"$ref": 0, "path": ["a", 0]}]}}


def test_many_neighbouring_outputs_are_a_range(work: Any) -> None:
    plan = Plan("p")
    outputs = [plan.add(work)["size"] for _ in range(1_000)]
    plan.add(work, value=outputs)
    assert after(plan)[-1] == [(0, 1_000)]
    assert given(plan) == {"value": {"$refs": [0, 1_000], "path": ["size"]}}
    plan.add(work, value=outputs[::-1])
    assert given(plan)["value"][0] == {"$ref": 999, "path": ["size"]}


def test_planning_action_is_planned_in_place(work: Any) -> None:
    @action(name="inner")
    def inner(plan: Plan, width: int) -> Any:
        return plan.add(work, value=[plan.add(work) for _ in range(width)])

    plan = Plan("p")
    with plan.sequence():
        plan.add(work)
        result = plan.add(inner, width=2)
        plan.add(work, value=result)
    assert after(plan) == [[], [0], [0], [(0, 3)], [(1, 4)]]


def test_policy_stands_once(work: Any) -> None:
    plan = Plan("p")
    for _ in range(10):
        plan.add(work)
    assert [policy.action for policy in plan.definition().policies] == ["work"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"value": {"$ref": 1}}, r"the key '\$ref' begins with '\$'"),
        ({"value": object()}, "object cannot be written as JSON"),
        ({"value": "x" * MAX_INPUT}, "the most is 262,144"),
        ({"count": "many"}, "parameter 'count': Expected `int`, got `str`"),
        ({"other": 1}, r"has no parameter 'other' \(it takes: value, count\)"),
    ],
)
def test_refused_inputs(work: Any, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Plan("p").add(work, **inputs)


def test_output_of_another_plan_is_refused(work: Any) -> None:
    stranger = Plan("other").add(work)
    with pytest.raises(BadInput, match="belongs to another plan"):
        Plan("p").add(work, value=stranger)


def test_output_cannot_be_looked_into(work: Any) -> None:
    with pytest.raises(TypeError, match="not known while planning"):
        list(Plan("p").add(work))


def test_two_actions_of_one_name_are_refused(work: Any) -> None:
    def other() -> None: ...

    with pytest.raises(ActionError, match="two actions are named 'work'"):
        action(name="work")(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "no spaces"}, "name 'no spaces' may hold only"),
        ({"queue": "@node"}, "queue '@node' may hold only"),
        ({"timeout": "5"}, "timeout: .* is no duration"),
        ({"timeout": -1}, "timeout: -1 s is negative"),
        ({"on_lost": "retry"}, "on_lost is 'rerun' or 'pause', not 'retry'"),
    ],
)
def test_refused_declarations(options: dict[str, Any], message: str) -> None:
    def anything() -> None: ...

    with pytest.raises(ActionError, match=message):
        action(**options)(anything)
