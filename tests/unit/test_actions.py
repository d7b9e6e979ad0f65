"""Declaring actions: options, inputs, the phases of a class, and what a step's code may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, cast

import msgspec
import pytest

from chargehand import Lock, Plan, Retry, StepContext, action, current_step, shared
from chargehand.actions import Action, ActionError, BadInput, ClassAction, lookup, registered
from chargehand.context import Children, Event, Misused, Spawn, SubPlan, SubPlansFailed, Suspend
from chargehand.planner import Plan as SamePlan


def context(**more: Any) -> StepContext:
    return StepContext("p", 0, 1, "node-a", "w", **more)


# -- options --------------------------------------------------------------------------------------


def test_options_become_the_policy() -> None:
    @action(
        name="all",
        queue="hosts",
        timeout="30s",
        retry=Retry(3, backoff="500ms", max_backoff="1m"),
        on_lost="pause",
        exclusive=True,
        rescue="revert",
        limit=20,
        rate="100/m",
        reboots=True,
        singleton="reject",
        locks=["db", shared("net"), Lock("slots", most=3)],
        labels=["site-a"],
    )
    def everything() -> None: ...

    policy = everything.policy
    assert (policy.action, policy.queue, policy.timeout_ms) == ("all", "hosts", 30_000)
    assert (policy.attempts, policy.backoff_ms, policy.max_backoff_ms) == (3, 500, 60_000)
    assert (policy.on_lost, policy.exclusive, policy.rescue) == ("pause", True, "revert")
    assert (policy.limit, policy.rate, policy.reboots) == (20, (100, 60_000), True)
    assert (policy.revert, policy.cancels) == (False, False)
    options = everything.options
    assert options.locks == (Lock("db"), Lock("net", 0), Lock("slots", 3), Lock("action all"))
    assert (options.rejects, options.labels) == (True, ("site-a",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queu": "x"}, "action 'one': there is no option 'queu' (there are: exclusive, hooks, labels,"),
        ({"on_lost": "retry"}, "on_lost is 'rerun' or 'pause', not 'retry'"),
        ({"rescue": "retry"}, "rescue is 'pause', 'skip', 'fail' or 'revert', not 'retry'"),
        ({"exclusive": "yes"}, "exclusive is True or False, not 'yes'"),
        ({"reboots": 1}, "reboots is True or False, not 1"),
        ({"limit": 0}, "limit is the most of its steps that run at once, 1 or more, not 0"),
        ({"limit": True}, "limit is the most of its steps that run at once, 1 or more, not True"),
        ({"rate": "10"}, 'rate: \'10\' is no rate; write a count, "/" and one of ms, s, m, h, d, like "10/s"'),
        ({"rate": "0/s"}, "rate: '0/s' is no rate"),
        ({"rate": 10}, "rate: '10' is no rate"),
        ({"singleton": "wait"}, "singleton is True, False or 'reject', not 'wait'"),
        ({"locks": "db"}, "locks is a list, as ['db']"),
        ({"locks": [1]}, "a lock is a name, Lock(...) or shared(...), not 1"),
        ({"locks": [""]}, "a lock's name has 1 to 200 printable characters, not ''"),
        ({"locks": [Lock("a", -1)]}, "lock 'a': most is how many hold it at once, not -1"),
        ({"labels": "x"}, "labels is a list, as ['x']"),
        ({"labels": ["a\nb"]}, "a label has 1 to 200 printable characters, not 'a\\nb'"),
        ({"hooks": {"broken": "x"}}, "there is no plan state 'broken' for a hook (there are: scheduled, waiting,"),
        ({"retry": 3}, "retry is Retry(...), not 3"),
        ({"retry": Retry(0)}, "attempts counts the first one too, so it is 1 or more, not 0"),
        ({"retry": Retry(backoff="soon")}, "backoff: 'soon' is no duration"),
        (
            {"retry": Retry(on=cast(Any, "ValueError"))},
            "Retry(on=...) takes exception classes, not 'ValueError'",
        ),
        (
            {"retry": Retry(unless=cast(Any, (ValueError, 3)))},
            "Retry(unless=...) takes exception classes, not 3",
        ),
    ],
)
def test_options_that_say_nothing(options: dict[str, Any], message: str) -> None:
    def one() -> None: ...

    with pytest.raises(ActionError) as refused:
        action(**options)(one)
    assert str(refused.value).startswith("action 'one': ")
    assert message in str(refused.value)


# -- inputs ---------------------------------------------------------------------------------------


class Host(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern="^[a-z]+$")]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 22


@dataclass
class Package:
    name: str
    version: str | None = None


class Colour(Enum):
    RED = "red"


@pytest.fixture
def typed() -> Any:
    @action(name="typed")
    def typed(
        host: Host,
        packages: list[Package] = [],  # noqa: B006 - never changed
        count: Annotated[int, msgspec.Meta(ge=1)] = 1,
        colour: Colour = Colour.RED,
        mode: Literal["fast", "safe"] = "safe",
    ) -> Any:
        return [type(host).__name__, [type(one).__name__ for one in packages], count, colour.name, mode]

    return typed


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "action 'typed' needs the parameter 'host'"),
        ({"host": {"name": "A"}}, "parameter 'host': Expected `str` matching regex '^[a-z]+$' - at `$.name`"),
        ({"host": {"name": "a", "port": 0}}, "parameter 'host': Expected `int` >= 1 - at `$.port`"),
        ({"host": {"name": "a", "prot": 1}}, "parameter 'host': Object contains unknown field `prot`"),
        ({"host": {}}, "parameter 'host': Object missing required field `name`"),
        ({"host": Host("a"), "packages": [{"version": "1"}]}, "parameter 'packages': Object missing required"),
        ({"host": Host("a"), "count": 0}, "parameter 'count': Expected `int` >= 1, got 0"),
        ({"host": Host("a"), "colour": "blue"}, "parameter 'colour': Invalid enum value 'blue'"),
        ({"host": Host("a"), "mode": "slow"}, "parameter 'mode': Invalid enum value 'slow'"),
        ({"host": Host("a"), "ports": 1}, "has no parameter 'ports' (it takes: host, packages, count, colour, mode)"),
    ],
)
def test_wrong_inputs_are_refused_when_a_plan_is_made(typed: Any, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        Plan("p").add(typed, **inputs)
    assert message in str(refused.value)


def test_typed_inputs_arrive_as_their_types(typed: Any) -> None:
    plan = Plan("p")
    plan.add(typed, host={"name": "a"}, packages=[{"name": "x"}, Package("y", "2")], colour="red")
    plan.add(typed, host=Host("b", 2222), count=3, mode="fast")
    given = [msgspec.json.decode(step.input) for step in plan.definition().steps]
    assert (given[0]["host"], given[0]["colour"]) == ({"name": "a", "port": 22}, "red")
    assert typed.run(given[0], context()) == ["Host", ["Package", "Package"], 1, "RED", "safe"]
    assert typed.run(given[1], context()) == ["Host", [], 3, "RED", "fast"]


def test_an_output_of_the_wrong_type_is_refused_where_it_arrives(typed: Any) -> None:
    with pytest.raises(BadInput, match="parameter 'host': Expected `object`, got `int`"):
        typed.run({"host": 3}, context())


def test_strings_of_a_command_line(typed: Any) -> None:
    checked = typed.check({"host": {"name": "a", "port": "80"}, "count": "3"}, unknown_yet=lambda _: False, loose=True)
    assert checked == {"host": Host("a", 80), "count": 3}
    again = typed.check(checked, unknown_yet=lambda _: False)
    assert again == checked


def test_signatures_that_cannot_be_called_by_name() -> None:
    @action
    def stars(*hosts: str) -> None: ...

    @action
    def position(host: str, /) -> None: ...

    for one in (stars, position):
        with pytest.raises(ActionError, match=r"parameter 'hosts?' cannot be given by name"):
            Plan("p").add(one)

    @action
    def unknown(host: Unknown) -> None: ...  # type: ignore[name-defined] # noqa: F821 - that is the case

    with pytest.raises(ActionError, match="a type in its signature cannot be resolved: name 'Unknown'"):
        Plan("p").add(unknown)


# -- classes --------------------------------------------------------------------------------------


def test_phases_are_found_by_name() -> None:
    @action(name="deploy", queue="hosts", limit=3, rate="1/s", timeout="1m", retry=Retry(2))
    class Deploy:
        def plan(self, plan: Plan) -> None: ...
        def run(self) -> None: ...
        def cancel(self) -> None: ...
        def finalize(self) -> None: ...
        def revert(self, output: Any) -> None: ...

    assert isinstance(Deploy, ClassAction)
    assert (Deploy.plans, Deploy.runs) == (True, True)
    assert (Deploy.policy.revert, Deploy.policy.cancels, Deploy.policy.limit) == (True, True, 3)
    actions = dict(registered)
    assert lookup(actions, "deploy") is Deploy
    for phase, takes_output in (("finalize", False), ("revert", True), ("plan", False)):
        found = lookup(actions, f"deploy:{phase}")
        assert found is not None
        assert found is lookup(actions, f"deploy:{phase}"), "made once"
        assert found.takes_output == takes_output
        policy = found.policy
        assert (policy.action, policy.queue, policy.attempts) == (f"deploy:{phase}", "hosts", 2)
        assert (policy.limit, policy.rate, policy.revert, policy.cancels) == (0, (0, 0), False, False)
        assert policy.timeout_ms == (0 if phase == "plan" else 60_000)
    assert lookup(actions, "deploy:undo") is None
    assert lookup(actions, "nobody:revert") is None
    assert isinstance(Deploy(), Deploy.function), "calling it makes an instance, as in a unit test"  # type: ignore[arg-type]


def test_a_function_has_only_the_phase_of_planning() -> None:
    @action
    def runs() -> None: ...

    @action
    def plans(plan: SamePlan) -> None: ...

    assert (runs.phase("plan"), runs.phase("revert"), plans.phase("revert")) == (None, None, None)
    assert plans.phase("plan") is not None


def _empty() -> type:
    class One:
        pass

    return One


def _only_revert() -> type:
    class One:
        def plan(self, plan: Plan) -> None: ...
        def revert(self) -> None: ...

    return One


def _arguments() -> type:
    class One:
        def __init__(self, site: str) -> None: ...
        def run(self) -> None: ...

    return One


def _async_plan() -> type:
    class One:
        async def plan(self, plan: Plan) -> None: ...

    return One


def _plan_of_nothing() -> type:
    class One:
        def plan(self) -> None: ...

    return One


def _event() -> type:
    class One:
        def run(self) -> None: ...
        def event(self, name: str) -> None: ...

    return One


def _cancel() -> type:
    class One:
        def run(self) -> None: ...
        def cancel(self, why: str) -> None: ...

    return One


def _finalize() -> type:
    class One:
        def run(self, site: str) -> None: ...
        def finalize(self, site: str, host: str) -> None: ...

    return One


def _output() -> type:
    class One:
        def run(self, output: str) -> None: ...
        def revert(self, output: str) -> None: ...

    return One


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty, "the class has neither run() nor plan()"),
        (_only_revert, "the class has revert(), and no run() that it belongs to"),
        (_arguments, "the class is made anew for each attempt, so its __init__ can take no arguments"),
        (_async_plan, "plan() cannot be async"),
        (_plan_of_nothing, "plan() takes the plan first: def plan(self, plan: Plan, ...)"),
        (_event, "event() takes the event's name and data, not (name)"),
        (_cancel, "cancel() takes nothing, not (why)"),
        (_finalize, "finalize() takes 'host'; it gets what run() takes (site), and 'output'"),
        (_output, "run() has an input 'output', and revert() is given its output by that name"),
    ],
)
def test_classes_whose_phases_do_not_fit(make: Any, message: str) -> None:
    with pytest.raises(ActionError) as refused:
        action(make())
    assert str(refused.value) == f"action 'One': {message}"


def test_a_class_that_only_plans_does_not_run() -> None:
    @action
    class Plans:
        def plan(self, plan: Plan) -> None:
            plan.run()

    assert not registered["Plans"].runs
    with pytest.raises(ActionError, match=r"action 'Plans' has no run\(\)"):
        registered["Plans"].run({}, context())
    with pytest.raises(ActionError, match=r"but action 'Plans' has no run\(\)"):
        Plan("p").add(Plans)
    with pytest.raises(ActionError, match="but no action plans here"):
        Plan("p").run()


def test_later_phases_take_what_they_need() -> None:
    @action
    class Deploy:
        step: StepContext

        def run(self, site: str, count: int = 1) -> None: ...

        def revert(self, output: Any, site: str) -> Any:
            return [site, output, self.step.plan]

        def finalize(self, **inputs: Any) -> Any:
            return inputs

    revert, finalize = (lookup(registered, f"Deploy:{word}") for word in ("revert", "finalize"))
    assert revert is not None
    assert finalize is not None
    assert revert.run({"site": "a", "count": 3, "output": 7}, context()) == ["a", 7, "p"]
    assert finalize.run({"site": "a", "count": 3, "output": 7}, context()) == {"site": "a", "count": 3, "output": 7}


# -- the context ----------------------------------------------------------------------------------


def run(code: Any, **more: Any) -> Any:
    """What a function gives that is called as an action."""
    code.__name__ = "code"
    return Action(code).run({}, context(**more))


def test_no_step_outside_of_one() -> None:
    with pytest.raises(LookupError):
        current_step()


def test_suspending() -> None:
    asked = run(lambda: current_step().suspend({"job": 1}, wake="2s", event="tick"))
    assert isinstance(asked, Suspend)
    assert (asked.saved, asked.wake_ms, asked.event) == ({"job": 1}, 2_000, "tick")
    assert run(lambda: current_step().suspend()).wake_ms == 0
    assert run(lambda: current_step().suspend(wake=0)).wake_ms == 1, "0 would be for ever"


def test_what_is_asked_for_must_be_returned() -> None:
    def forgets() -> int:
        current_step().suspend()
        return 1

    def twice() -> Any:
        step = current_step()
        return [step.suspend(), step.spawn([])]

    def old() -> Any:
        return kept

    kept = run(lambda: current_step().spawn([]))
    assert isinstance(kept, Spawn)
    for code, message in (
        (forgets, r"what suspend\(...\) gives must be returned by the action"),
        (twice, r"suspend\(...\) or spawn\(...\) was called before; an attempt calls one of them, once"),
        (old, r"what spawn\(...\) gives must be returned by the action, in the attempt that called it"),
    ):
        with pytest.raises(Misused, match=message):
            run(code)

    async def forgets_too() -> None:
        current_step().suspend()

    with pytest.raises(Misused, match="must be returned"):
        asyncio.run(Action(forgets_too).run({}, context()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, r"spawn\(limit=0\): the most that run at once, 1 or more"),
        ({"rate": "fast"}, r"spawn\(rate='fast'\): 'fast' is no rate"),
        ({"rate": "1/s", "spread": "1h"}, r"spawn takes rate=... or spread=..., not both"),
        ({"spread": "1h"}, r"spawn\(spread=...\) needs items that have a length"),
    ],
)
def test_wrong_ways_to_spawn(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Misused, match=message):
        run(lambda: current_step().spawn(iter([]), **options))


def test_rates_of_sub_plans() -> None:
    assert run(lambda: current_step().spawn([], rate="30/m")).every_ms == 2_000
    items: list[Any] = [("x", {})] * 4
    assert run(lambda: current_step().spawn(items, spread="1m")).every_ms == 15_000


def test_progress_is_a_fraction() -> None:
    with pytest.raises(ValueError, match="progress is a fraction from 0 to 1, not 50"):
        run(lambda: current_step().progress(50))


class Results:
    """Stands behind a context."""

    cancelled = True

    def progress(self, fraction: float, message: str) -> None: ...

    def say(self, text: str) -> None: ...

    def results(self, *, failed: bool) -> Iterator[SubPlan]:
        assert failed
        yield SubPlan(7, "p.0.7", "failed", None, "ValueError: no")


def test_sub_plans_have_ended() -> None:
    def code() -> Any:
        raise AssertionError("it is not called again")

    well = Event("children", Children(12_000, 12_000, 0))
    assert run(code, event=well) == {"total": 12_000, "succeeded": 12_000, "failed": 0}
    badly = Event("children", Children(12_000, 11_997, 3))
    with pytest.raises(SubPlansFailed) as failed:
        run(code, event=badly, services=Results())
    assert str(failed.value) == "3 of 12,000 sub-plans failed (first: p.0.7: ValueError: no)"


def test_cancelled_is_what_the_worker_says() -> None:
    assert run(lambda: current_step().cancelled, services=Results()) is True
    assert run(lambda: current_step().cancelled) is False
