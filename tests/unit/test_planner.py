"""Making plans: order, outputs, inputs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec import Meta

from chargehand import Lock, Plan, StepContext, action, shared
from chargehand.actions import ActionError, BadInput, registered
from chargehand.options import HookAction
from chargehand.subplans import child_definition
from chargehand.wire import MAX_INPUT, Definition, encode


@pytest.fixture
def work() -> Any:
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


def test_outputs_and_order_are_joined(work: Any) -> None:
    plan = Plan("x")
    with plan.sequence():
        with plan.concurrence():
            first = [plan.add(work) for _ in range(4)]
        with plan.concurrence():
            second = [plan.add(work, value=first[2]) for _ in range(3)]
            plan.add(work, value=[second[0], second[2]])
        plan.add(work, value=first[0])
    assert after(plan)[4:] == [[(0, 4)]] * 3 + [[(0, 5), 6], [0, (4, 8)]]


def test_what_waits_for_the_same_shares_it(work: Any) -> None:
    """So that thousands that follow thousands cost as much as one each."""
    plan = Plan("x")
    with plan.sequence():
        with plan.concurrence():
            for _ in range(1_000):
                plan.add(work)
        with plan.concurrence():
            for _ in range(1_000):
                with plan.sequence():
                    plan.add(work)
                    plan.add(work)
    waits = after(plan)
    assert waits[1_000] == [(0, 1_000)]
    assert len({id(step.after) for step in plan.definition().steps[1_000::2]}) == 1
    assert waits[1_001::2] == [[step] for step in range(1_000, 3_000, 2)]


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


def test_a_class_that_is_no_action_is_refused() -> None:
    class Deploy:
        def run(self) -> None: ...

    with pytest.raises(ActionError, match=r"<class '.*Deploy'> is no action: @action does not stand before it"):
        Plan("p").add(Deploy)


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


# -- options of a plan ----------------------------------------------------------------------------

NOW = 1_000_000


def definition(plan: Plan) -> Definition:
    return plan.definition("ada", now_ms=NOW)


def test_without_options_a_definition_carries_none(work: Any) -> None:
    plan = Plan("p")
    plan.add(work)
    assert set(msgspec.json.decode(encode(definition(plan)))) == {"label", "policies", "total", "steps", "by"}


def test_options_as_arguments_or_later(work: Any) -> None:
    def one(**options: Any) -> Plan:
        plan = Plan("p", **options)
        plan.add(work)
        return plan

    options: dict[str, Any] = {
        "labels": ["site-a", "site-a", "weekly"],
        "start_at": datetime(1970, 1, 1, 3, tzinfo=ZoneInfo("Europe/Berlin")),
        "start_before": "3h",
        "after": ["p1", "p2"],
        "after_failure": "run",
        "locks": ["db", shared("net")],
        "busy": "reject",
        "limit": 5,
    }
    later = one()
    for name, value in options.items():
        setattr(later, name, value)
    for plan in (one(**options), later):
        made = definition(plan)
        assert made.labels == ["site-a", "weekly"]
        assert made.start_at_ms == 7_200_000
        assert made.start_before_ms == NOW + 10_800_000
        assert (made.after, made.after_failure) == (["p1", "p2"], "run")
        assert (made.locks, made.busy, made.limit) == ([Lock("db"), Lock("net", 0)], "reject", 5)


def test_times_from_now_on_count_once(work: Any) -> None:
    """A plan that is submitted twice is the same plan."""
    plan = Plan("p", start_at=1.5)
    assert plan.definition(now_ms=NOW).start_at_ms == NOW + 1_500
    assert plan.definition(now_ms=NOW + 7).start_at_ms == NOW + 1_500


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_at": datetime(2026, 11, 24)}, "start_at: 2026-11-24 00:00:00 has no time zone"),  # noqa: DTZ001 - that is it
        ({"start_before": "soon"}, "start_before: 'soon' is no duration"),
        ({"start_at": -1}, "start_at: -1 s is negative"),
        (
            {"start_at": "2h", "start_before": "1h"},
            r"it could never start, for start_before \(1h\) is not after start_at \(2h\)",
        ),
        ({"after": "p1"}, r"after is a list of plan ids, as \['p1'\]"),
        ({"after_failure": "pause"}, "after_failure is 'fail' or 'run'"),
        ({"busy": "skip"}, "busy is 'reject' or 'wait'"),
        ({"limit": -1}, "limit is the most of its steps that stand at once, not -1"),
        ({"labels": "x"}, r"labels is a list, as \['x'\]"),
        ({"locks": [3]}, "a lock is a name"),
        ({"hooks": {"failing": "nobody"}}, "there is no action 'nobody'"),
        ({"hooks": {"fail": "nobody"}}, "there is no plan state 'fail'"),
    ],
)
def test_options_that_say_nothing(work: Any, options: dict[str, Any], message: str) -> None:
    plan = Plan("p", **options)
    plan.add(work)
    with pytest.raises(ActionError, match=message):
        definition(plan)


def test_actions_bring_their_locks_labels_and_hooks() -> None:
    @action
    def notify(plan: str, state: str, channel: str = "ops") -> None: ...

    hook: dict[str, HookAction] = {"failed": (notify, {"channel": "pager"}), "ended": notify}

    @action(singleton=True, labels=["a"], hooks=hook)
    def first() -> None: ...

    @action(locks=["db", shared("net")], labels=["b"], hooks=hook)
    def second() -> None: ...

    @action(locks=[shared("db"), Lock("net", 3)], singleton="reject")
    def third() -> None: ...

    plan = Plan("p", locks=[Lock("slots", 2)])
    for one in (first, first, second):
        plan.add(one)
    made = definition(plan)
    assert made.locks == [Lock("slots", 2), Lock("action first"), Lock("db"), Lock("net", 0)]
    assert (made.labels, made.busy) == (["a", "b"], "wait")
    assert [(one.states, bytes(one.input)) for one in made.hooks] == [
        ("F", b'{"channel":"pager"}'),
        ("".join(sorted("SFCVHX")), b"{}"),
    ]
    assert {made.policies[one.policy].action for one in made.hooks} == {"notify"}
    plan.add(third)
    made = definition(plan)
    assert made.locks[2:] == [Lock("db"), Lock("net", 3), Lock("action third")], "the strictest wins"
    assert made.busy == "reject"


def test_hooks_have_to_take_what_they_are_told(work: Any) -> None:
    plan = Plan("p", hooks={"failed": work})
    plan.add(work)
    with pytest.raises(BadInput, match="action 'work' has no parameter 'plan'"):
        definition(plan)


def test_what_a_hook_is_told_may_have_constraints(work: Any) -> None:
    """What it is called with is not known while planning, and is checked when it runs."""

    @action
    def page(plan: Annotated[str, Meta(min_length=1)], state: Literal["failed"]) -> None: ...

    plan = Plan("p", hooks={"failed": page})
    plan.add(work)
    (hook,) = definition(plan).hooks
    assert bytes(hook.input) == b"{}"


# -- nodes, finalize, planning later --------------------------------------------------------------


def test_one_step_a_node(work: Any) -> None:
    plan = Plan("p")
    with plan.sequence():
        first = plan.add(work, value=1)
        each = plan.add(work, node=["a", "b", "c"], value=first)
        plan.add(work, value=[one["x"] for one in each])
    assert after(plan) == [[], [0], [0], [0], [(1, 4)]]
    assert [step.node for step in plan.definition().steps] == [None, "a", "b", "c", None]
    assert plan.add(work, node=[]) == []


def test_a_planning_action_is_not_aimed() -> None:
    @action
    def plans(plan: Plan) -> None: ...

    with pytest.raises(ActionError, match=r"'plans' plans its steps itself: node=\.\.\. is for one that runs"):
        Plan("p").add(plans, node="a")


def test_finalize_comes_last_in_the_order_of_planning(work: Any) -> None:
    @action
    class Deploy:
        def run(self, site: str, how: Any = None) -> None: ...
        def finalize(self, output: Any, site: str) -> None: ...

    plan = Plan("p")
    made = plan.add(Deploy, site="a")
    plan.add(work, value=made)
    plan.add(Deploy, node=["n", "m"], site=made["name"], how="x")
    found = definition(plan)
    assert [found.policies[step.policy].action for step in found.steps] == [
        *("Deploy", "work", "Deploy", "Deploy"),
        *("Deploy:finalize",) * 3,
    ]
    assert [step.after for step in found.steps[4:]] == [[(0, 4)], [4], [5]]
    assert [step.node for step in found.steps[4:]] == [None, "n", "m"]
    assert [msgspec.json.decode(step.input) for step in found.steps[4:]] == [
        {"site": "a", "output": {"$ref": 0}},
        {"site": {"$ref": 0, "path": ["name"]}, "output": {"$ref": 2}},
        {"site": {"$ref": 0, "path": ["name"]}, "output": {"$ref": 3}},
    ]
    assert found.total == len(found.steps) == len(definition(plan).steps), "asked twice, it is the same"


def test_planning_is_left_to_a_worker(work: Any) -> None:
    @action(name="nightly", singleton=True)
    def nightly(plan: Plan, count: int) -> None:
        raise AssertionError("not here")

    for options in ({"plan_on": "worker"}, {"start_at": "1h"}):
        plan = Plan("p", **options)  # type: ignore[arg-type] # both are
        with pytest.raises(BadInput, match="parameter 'count': Expected `int`"):
            plan.add(nightly, count="x")
        with plan.sequence():
            plan.add(work)
            plan.add(nightly, count=2)
            plan.add(work)
        made = definition(plan)
        assert [made.policies[step.policy].action for step in made.steps] == ["work", "nightly:plan", "work"]
        assert made.locks == [Lock("action nightly")]
    with pytest.raises(AssertionError, match="not here"):
        Plan("p", start_at="1h", plan_on="client").add(nightly, count=2)


def test_the_output_of_an_action_that_added_nothing(work: Any) -> None:
    @action
    def nothing(plan: Plan) -> None: ...

    plan = Plan("p")
    output = plan.add(nothing)
    with pytest.raises(BadInput, match="<output of step 0> is of an action that added no step"):
        plan.add(work, value=output)


# -- sub-plans ------------------------------------------------------------------------------------


def child(item: Any, *, position: int = 0, **options: Any) -> Definition:
    step = StepContext("parent", 3, 1, "node-a", "w")
    spawn = step.spawn([item], **options)
    return child_definition(spawn, 0, item, context=step, actions=registered, position=position, now_ms=NOW)


def test_what_a_sub_plan_is_made_from(work: Any) -> None:
    made = child((work, {"value": 1, "node": "n"}))
    assert (made.label, made.parent, made.steps[0].node) == ("work", ("parent", 3), "n")
    assert child(("work", {})).label == "work"
    plan = Plan("own", locks=["db"], start_at=1)
    plan.add(work)
    plan.busy = "reject"
    assert child(plan).busy == "reject"
    made = child(plan, limit=4)
    assert made.busy == "wait", "for its turn among the others"
    assert made.locks == [Lock("db"), Lock("children parent.3", 4)]
    assert (made.label, made.parent, made.start_at_ms) == ("own", ("parent", 3), NOW + 1_000)


def test_rates_become_times(work: Any) -> None:
    assert [child((work, {}), rate="2/s", position=at).start_at_ms for at in range(3)] == [0, NOW + 500, NOW + 1_000]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (("nobody", {}), "sub-plan 0: there is no action 'nobody'"),
        (("work", {"other": 1}), "sub-plan 0: action 'work' has no parameter 'other'"),
        ("work", r"sub-plan 0: a sub-plan is a Plan or \(action, {input: value}\), not 'work'"),
        ((3, {}), "sub-plan 0: a sub-plan's action is an action or its name, not 3"),
        (("work", [1]), r"sub-plan 0: a sub-plan is a Plan or \(action, {input: value}\)"),
    ],
)
def test_items_that_are_none(work: Any, item: Any, message: str) -> None:
    with pytest.raises(ActionError, match=message):
        child(item)


def test_planning_on_a_worker_leaves_its_own_locks_to_its_plan(work: Any) -> None:
    @action(name="nightly", singleton="reject", locks=["db"])
    def nightly(plan: Plan) -> None:
        plan.add(work)

    phase = nightly.phase("plan")
    assert phase is not None
    step = StepContext("parent", 0, 1, "node-a", "w")
    spawn = phase.run({}, step)
    (item,) = spawn.items
    made = child_definition(spawn, 0, item, context=step, actions=registered, position=0, now_ms=NOW)
    assert (made.locks, made.busy) == ([], "wait")
    assert [made.policies[one.policy].action for one in made.steps] == ["work"]
