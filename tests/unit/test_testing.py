"""The in-process executor: every feature of plans and actions, by the real director and the worker's own code."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chargehand import Children, Plan, Retry, StepContext, action, current_step
from chargehand.actions import ActionError, BadInput, registered
from chargehand.commands import CommandAction
from chargehand.config.settings import ActionSettings, Parameter
from chargehand.context import Cancelled, SubPlansFailed, Unretriable
from chargehand.testing import Executor, Failed, Runaway

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def executor() -> Executor:
    return Executor(now=START)


@pytest.fixture
def echo() -> Any:
    @action(name="echo")
    def echo(value: Any = None) -> Any:
        return value

    return echo


@pytest.fixture
def broken() -> Any:
    """Fails until its switch is set."""

    class Switch:
        works = False

    @action(name="broken")
    def broken() -> str:
        if not Switch.works:
            raise ConnectionError("nobody answers")
        return "works"

    broken.switch = Switch  # type: ignore[attr-defined] # for the tests
    return broken


def states(executor: Executor, label: str) -> list[str]:
    return [one.state for one in executor.executions(label)]


# -- running --------------------------------------------------------------------------------------


def test_outputs_go_from_step_to_step(executor: Executor, echo: Any) -> None:
    plan = Plan("p")
    first = plan.add(echo, value={"a": [1, 2]})
    plan.add(echo, value=[first["a"][1], first])
    done = executor.run(plan)
    assert done.state == "succeeded"
    assert done.outputs == [{"a": [1, 2]}, [2, {"a": [1, 2]}]]
    assert done.output == done.result() == done.outputs[-1]
    assert [one.action for one in done.steps] == ["echo", "echo"]


def test_a_wrong_input_is_refused_at_once(executor: Executor) -> None:
    @action
    def one(count: int) -> int:
        return count

    with pytest.raises(BadInput, match="parameter 'count'"):
        executor.run(one, count="many")
    with pytest.raises(ActionError, match="there is no action 'two'"):
        executor.run("two")


def test_a_failure_says_where_it_was(executor: Executor, broken: Any) -> None:
    done = executor.run(broken)
    assert done.state == "paused"
    assert done.error == "ConnectionError: nobody answers"
    with pytest.raises(Failed) as failed:
        done.result()
    assert "<plan p1 (broken): paused, ConnectionError: nobody answers>" in str(failed.value)
    assert 'raise ConnectionError("nobody answers")' in str(failed.value)


def test_retries_wait_by_the_executors_clock(executor: Executor) -> None:
    @action(retry=Retry(4, backoff="10s"))
    def flaky() -> int:
        if current_step().tries < 3:
            raise ConnectionError
        return current_step().tries

    begun = executor.now
    done = executor.run(flaky)
    assert done.output == 3
    assert [one.outcome for one in done.attempts] == ["failed", "failed", "failed", "succeeded"]
    assert [one.number for one in done.attempts] == [1, 2, 3, 4]
    assert timedelta(seconds=35) <= executor.now - begun <= timedelta(seconds=140)


@pytest.mark.parametrize(
    ("retry", "error", "attempts"),
    [
        (Retry(3, on=(ConnectionError, TimeoutError)), ConnectionError, 3),
        (Retry(3, on=ConnectionError), BrokenPipeError, 3),
        (Retry(3, on=(ConnectionError,)), ValueError, 1),
        (Retry(3, unless=ValueError), ValueError, 1),
        (Retry(3, unless=ValueError), KeyError, 3),
        (Retry(3, on=OSError, unless=(PermissionError,)), PermissionError, 1),
        (Retry(3), Unretriable, 1),
    ],
)
def test_only_some_errors_are_worth_another_attempt(
    executor: Executor, retry: Retry, error: type[Exception], attempts: int
) -> None:
    @action(retry=retry)
    def fails() -> None:
        raise error("no")

    done = executor.run(fails)
    assert (done.state, len(done.attempts)) == ("paused", attempts)


def test_a_paused_plan_can_be_resumed_and_its_steps_retried_or_skipped(executor: Executor, broken: Any) -> None:
    first, second, third = (executor.run(broken) for _ in range(3))
    broken.switch.works = True
    executor.resume(first)
    executor.retry(second, 0)
    executor.skip(third, 0)
    assert [one.result() for one in (first, second, third)] == ["works", "works", None]
    assert third.steps[0].state == "skipped"
    with pytest.raises(ValueError, match="plan p1 is succeeded: only a paused plan can be resumed"):
        executor.resume(first)
    with pytest.raises(ValueError, match="step 0 of plan p4 is suspended: only a step that failed can be retried"):
        executor.retry(executor.submit(Approval, what="x"), 0)


def test_rescue(executor: Executor, echo: Any) -> None:
    for rescue in ("skip", "fail"):

        @action(name=rescue, rescue=rescue)
        def fails() -> None:
            raise ValueError("no")

    def one(name: str) -> Plan:
        plan = Plan(name)
        with plan.sequence():
            plan.add(registered[name])
            plan.add(echo, value="after")
        return plan

    assert executor.run(one("skip")).outputs == [None, "after"]
    failed = executor.run(one("fail"))
    assert (failed.state, [step.state for step in failed.steps]) == ("failed", ["failed", "waiting"])


def test_async_actions(executor: Executor) -> None:
    @action
    async def waits(text: str) -> list[Any]:
        await asyncio.sleep(0)
        return [text, current_step().plan]

    assert executor.run(waits, text="x").output == ["x", "p1"]


def test_from_within_an_event_loop(executor: Executor) -> None:
    """As where a test is itself `async def`."""

    @action
    async def waits() -> str:
        await asyncio.sleep(0)
        return "done"

    async def inner() -> Any:
        return executor.run(waits).output

    assert asyncio.run(inner()) == "done"


def test_what_steps_say_and_how_far_they_are(executor: Executor) -> None:
    @action
    def tells() -> None:
        step = current_step()
        step.say("begun")
        step.progress(0.5, "half")
        step.progress(1)
        step.say("done")

    done = executor.run(tells)
    assert done.said == ["begun", "done"]
    assert done.progress == {0: [(0.5, "half"), (1.0, "")]}


def test_nodes(executor: Executor) -> None:
    @action
    def where() -> str:
        return current_step().node

    plan = Plan("p")
    plan.add(where)
    plan.add(where, node=["node-b", "node-c"])
    assert executor.run(plan).outputs == ["node-a", "node-b", "node-c"]


def test_a_step_that_runs_for_ever(executor: Executor) -> None:
    @action
    def polls() -> Any:
        return current_step().suspend(wake="1s")

    with pytest.raises(Runaway, match=r"step 0 of plan p1 \(polls\) has run 1,000 times"):
        executor.run(polls)


# -- suspended ------------------------------------------------------------------------------------


@action(name="approval")
class Approval:
    """Waits for an answer, and reminds every hour."""

    step: StepContext

    def run(self, what: str) -> Any:
        return self.step.suspend({"reminders": 0}, wake="1h", event="remind")

    def event(self, name: str, data: Any) -> Any:
        if name == "remind":
            self.step.say("still waiting")
            return self.step.suspend({"reminders": self.step.saved["reminders"] + 1}, wake="1h", event="remind")
        return [self.step.inputs["what"], name, data, self.step.saved["reminders"]]

    def cancel(self) -> None:
        self.step.say("withdrawn")


def test_events_and_the_clock(executor: Executor) -> None:
    asked = executor.submit(Approval, what="holiday")
    assert (asked.state, asked.steps[0].state) == ("running", "suspended")
    executor.advance("2.5h")
    assert asked.said == ["still waiting"] * 2
    executor.send(asked, "approved", {"by": "ada"})
    assert asked.result() == ["holiday", "approved", {"by": "ada"}, 2]
    assert [one.event for one in asked.attempts] == [None, "remind", "remind", "approved"]
    with pytest.raises(ValueError, match=r"of <plan p1 .* 0 steps are suspended"):
        executor.send(asked, "approved")


def test_an_event_that_comes_too_early_is_kept(executor: Executor) -> None:
    plan = Plan("p", start_at="1m")
    plan.add(Approval, what="x")
    asked = executor.submit(plan)
    executor.send(asked, "approved", step=0)
    assert asked.state == "scheduled"
    executor.advance("1m")
    assert asked.result() == ["x", "approved", None, 0]


def test_a_function_is_called_again(executor: Executor) -> None:
    @action
    def polls(job: str) -> Any:
        step = current_step()
        if step.event is None:
            return step.suspend(1, wake="2s")
        if step.saved < 3:
            return step.suspend(step.saved + 1, wake="2s")
        return [job, step.event.name, step.saved, step.attempt]

    begun = executor.now
    assert executor.run(polls, job="x").output == ["x", "wake", 3, 4]
    assert executor.now - begun == timedelta(seconds=6)


def test_a_suspended_step_is_told_before_it_is_cancelled(executor: Executor) -> None:
    asked = executor.submit(Approval, what="x")
    executor.cancel(asked)
    assert (asked.state, asked.said) == ("cancelled", ["withdrawn"])
    with pytest.raises(ValueError, match="plan p1 is cancelled: only a plan that is under way can be cancelled"):
        executor.cancel(asked)


def test_halted(executor: Executor) -> None:
    asked = executor.submit(Approval, what="x")
    executor.halt(asked)
    assert (asked.state, asked.said) == ("halted", [])


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_cancelled_while_it_runs(executor: Executor, kind: str) -> None:
    def cancel() -> None:
        executor.cancel(executor.executions()[0], grace=5)

    if kind == "thread":

        @action(name="long")
        def long() -> str:
            cancel()
            if current_step().cancelled:
                raise Cancelled("cleaned up")
            return "not cancelled"
    else:

        @action(name="long")
        async def longer() -> str:
            cancel()
            await asyncio.Event().wait()
            return "not cancelled"

    done = executor.run("long")
    assert (done.state, done.attempts[0].outcome) == ("cancelled", "cancelled")


def test_one_that_succeeds_in_the_grace_has_succeeded(executor: Executor, echo: Any) -> None:
    @action
    def stubborn() -> str:
        executor.cancel(executor.executions()[0])
        return "done all the same"

    plan = Plan("p")
    plan.add(echo, value=plan.add(stubborn))
    done = executor.run(plan)
    assert done.state == "cancelled"
    assert [step.state for step in done.steps] == ["succeeded", "waiting"]


# -- phases ---------------------------------------------------------------------------------------


def test_all_phases_of_a_class(executor: Executor) -> None:
    calls: list[Any] = []

    @action(name="deploy", rescue="revert")
    class Deploy:
        def plan(self, plan: Plan, sites: list[str]) -> None:
            with plan.sequence():
                for site in sites:
                    plan.run(site=site)

        def run(self, site: str) -> str:
            calls.append(("run", site))
            if site == "bad":
                raise ValueError("no such site")
            return site.upper()

        def finalize(self, site: str, output: str) -> None:
            calls.append(("finalize", site, output))

        def revert(self, output: str, site: str) -> None:
            calls.append(("revert", site, output))

    assert executor.run(Deploy, sites=["a", "b"]).state == "succeeded"
    assert calls == [("run", "a"), ("run", "b"), ("finalize", "a", "A"), ("finalize", "b", "B")]
    calls.clear()
    done = executor.run(Deploy, sites=["a", "b", "bad", "c"])
    assert done.state == "reverted"
    assert calls == [("run", "a"), ("run", "b"), ("run", "bad"), ("revert", "b", "B"), ("revert", "a", "A")]
    assert [one.action for one in done.attempts][-2:] == ["deploy:revert", "deploy:revert"]
    calls.clear()
    waits = executor.submit(executor.plan("p"))
    assert waits.state == "succeeded", "a plan without steps has nothing to do"


def test_somebody_reverts(executor: Executor, broken: Any) -> None:
    undone: list[str] = []

    @action
    class Undoable:
        def run(self) -> str:
            return "done"

        def revert(self) -> None:
            undone.append("undone")

    plan = Plan("p")
    with plan.sequence():
        plan.add(Undoable)
        plan.add(broken)
    done = executor.run(plan)
    assert (done.state, undone) == ("paused", [])
    executor.revert(done)
    assert (done.state, undone) == ("reverted", ["undone"])
    assert done.outputs == ["done", None], "a revert leaves the output of what it undid"


def test_a_revert_that_fails(executor: Executor, broken: Any) -> None:
    @action(retry=Retry(2))
    class Rigid:
        def run(self) -> str:
            return "done"

        def revert(self) -> None:
            raise OSError("it stays")

    plan = Plan("p")
    with plan.sequence():
        plan.add(Rigid)
        plan.add(broken)
    done = executor.run(plan)
    executor.revert(done)
    executor.finish()
    assert done.state == "failed"
    assert done.error == "not reverted: not all of it could be undone: the revert of step 0 failed"
    assert [one.outcome for one in done.attempts] == ["succeeded", "failed", "failed", "failed"]


# -- sub-plans ------------------------------------------------------------------------------------


def test_bulk(executor: Executor, echo: Any) -> None:
    @action
    def bulk(count: int) -> Any:
        return current_step().spawn((echo, {"value": number}) for number in range(count))

    done = executor.run(bulk, count=250)
    assert done.output == {"total": 250, "succeeded": 250, "failed": 0}
    assert [child.output for child in done.children] == list(range(250))


def test_none_at_all(executor: Executor) -> None:
    @action
    def bulk() -> Any:
        return current_step().spawn([])

    assert executor.run(bulk).output == {"total": 0, "succeeded": 0, "failed": 0}


def test_only_what_failed_is_started_again(executor: Executor, echo: Any) -> None:
    @action
    def picky(number: int, again: bool) -> int:
        if number % 3 == 0 and not again:
            raise ValueError(f"number {number}")
        return number

    @action(retry=Retry(2, on=SubPlansFailed))
    def bulk() -> Any:
        again = current_step().tries > 0
        return current_step().spawn((picky, {"number": number, "again": again}) for number in range(7))

    done = executor.run(bulk)
    assert done.output == {"total": 7, "succeeded": 7, "failed": 0}
    assert len(executor.executions("picky")) == 10
    assert done.attempts[1].error == ("sub-plans failed: 3 of 7 sub-plans failed (first: p1.0.0: ValueError: number 0)")


def test_a_class_hears_how_its_sub_plans_ended(executor: Executor) -> None:
    @action(name="half")
    def half(number: int) -> int:
        if number % 2:
            raise ValueError("odd")
        return number * 10

    @action
    class Rolling:
        step: StepContext

        def run(self) -> Any:
            return self.step.spawn([(half, {"number": number}) for number in range(4)])

        def event(self, name: str, data: Any) -> Any:
            assert isinstance(data, Children)
            assert data == self.step.children
            every = [(one.number, one.state, one.output, one.error) for one in self.step.results()]
            return [name, data, every, [one.number for one in self.step.results(failed=True)]]

    name, ended, every, failed = executor.run(Rolling).output
    assert (name, ended, failed) == ("children", [4, 2, 2], [1, 3])
    assert every == [
        [0, "succeeded", 0, ""],
        [1, "failed", None, "ValueError: odd"],
        [2, "succeeded", 20, ""],
        [3, "failed", None, "ValueError: odd"],
    ]


@pytest.mark.parametrize("how", [{"rate": "2/s"}, {"spread": "2s"}])
def test_sub_plans_over_time(executor: Executor, echo: Any, how: dict[str, Any]) -> None:
    @action
    def bulk() -> Any:
        return current_step().spawn([(echo, {"value": number}) for number in range(4)], **how)

    done = executor.run(bulk)
    begun = [child.attempts[0].at - START for child in done.children]
    assert begun == [timedelta(seconds=number / 2) for number in range(4)]


def test_cancelling_reaches_sub_plans(executor: Executor) -> None:
    @action
    def bulk() -> Any:
        return current_step().spawn([(Approval, {"what": "x"})] * 3)

    done = executor.submit(bulk)
    executor.cancel(done)
    assert done.state == "cancelled"
    assert [(child.state, child.said) for child in done.children] == [("cancelled", ["withdrawn"])] * 3


# -- plans beside plans ---------------------------------------------------------------------------


def test_scheduled_and_planned_when_it_starts(executor: Executor, echo: Any) -> None:
    planned: list[datetime] = []

    @action
    def nightly(plan: Plan, count: int) -> None:
        planned.append(executor.now)
        for number in range(count):
            plan.add(echo, value=number)

    plan = executor.plan("nightly", start_at=START + timedelta(hours=3))
    plan.add(nightly, count=2)
    later = executor.submit(plan)
    assert (later.state, planned) == ("scheduled", [])
    executor.finish()
    assert (later.state, planned) == ("succeeded", [START + timedelta(hours=3)])
    assert [child.outputs for child in later.children] == [[0, 1]]


def test_one_that_could_not_start_in_time(executor: Executor, echo: Any) -> None:
    holder = executor.submit(_plan(Approval, {"what": "x"}, locks=["db"]))
    late = executor.submit(_plan(echo, {}, locks=["db"], start_before="1m"))
    assert late.state == "waiting"
    executor.advance("2m")
    assert (late.state, holder.state) == ("failed", "running")


def test_chains(executor: Executor, echo: Any, broken: Any) -> None:
    first = executor.submit(Approval, what="x")
    second = executor.submit(_plan(echo, {"value": 2}, after=[first.id]))
    assert second.state == "waiting"
    executor.send(first, "approved")
    assert (first.state, second.state) == ("succeeded", "succeeded")
    cancelled = executor.submit(Approval, what="x")
    fails = executor.submit(_plan(echo, {}, after=[cancelled.id]))
    runs = executor.submit(_plan(echo, {}, after=[cancelled.id], after_failure="run"))
    executor.cancel(cancelled)
    assert (fails.state, runs.state) == ("failed", "succeeded")


def test_a_singleton_waits_its_turn_or_is_refused(executor: Executor) -> None:
    @action(singleton=True)
    class Waits:
        step: StepContext

        def run(self) -> Any:
            return self.step.suspend()

        def event(self, name: str, data: Any) -> Any:
            return data

    first, second = executor.submit(Waits), executor.submit(Waits)
    assert (first.state, second.state) == ("running", "waiting")
    executor.send(first, "go", 1)
    assert (first.output, second.state) == (1, "running")
    third = executor.submit(_plan(Waits, {}, busy="reject"))
    assert (third.state, "action Waits" in third.error) == ("failed", True)


def test_shared_locks(executor: Executor, echo: Any) -> None:
    from chargehand import shared

    readers = [executor.submit(_plan(Approval, {"what": "x"}, locks=[shared("db")])) for _ in range(2)]
    writer = executor.submit(_plan(echo, {}, locks=["db"]))
    assert [one.state for one in [*readers, writer]] == ["running", "running", "waiting"]
    for one in readers:
        executor.send(one, "approved")
    assert writer.state == "succeeded"


def test_hooks_are_told_of_the_plan_and_its_state(executor: Executor, broken: Any) -> None:
    told: list[tuple[str, str, str]] = []

    @action
    def notify(plan: str, state: str, channel: str = "ops") -> None:
        told.append((plan, state, channel))

    @action(hooks={"paused": (notify, {"channel": "pager"}), "ended": "notify"})
    def fragile() -> None:
        if not broken.switch.works:
            raise ValueError("no")

    done = executor.run(_plan(fragile, {}, actions=registered))
    assert told == [("p1", "paused", "pager")]
    broken.switch.works = True
    executor.resume(done)
    assert told[1:] == [("p1", "succeeded", "ops")]
    assert states(executor, "notify") == ["succeeded", "succeeded"]


def _plan(what: Any, inputs: dict[str, Any], **options: Any) -> Plan:
    plan = Plan("p", **options)
    plan.add(what, **inputs)
    return plan


# -- something else instead -----------------------------------------------------------------------


def test_something_else_runs_instead(echo: Any, broken: Any) -> None:
    @action(retry=Retry(2))
    def patch(host: str, packages: list[str]) -> str:
        raise AssertionError("not in a test")

    asked: list[str] = []

    def pretend(host: str) -> str:
        asked.append(host)
        if len(asked) == 1:
            raise ConnectionError
        return f"{host} patched"

    executor = Executor(instead={patch: pretend, "broken": {"fine": True}})
    done = executor.run(patch, host="a", packages=[])
    assert (done.output, asked) == ("a patched", ["a", "a"])
    assert executor.run(broken).output == {"fine": True}
    with pytest.raises(BadInput, match="parameter 'packages'"):
        executor.run(patch, host="a", packages=3)
    with pytest.raises(ActionError, match="there is no action 'nobody'"):
        Executor(instead={"nobody": 1})

    @action
    def plans(plan: Plan) -> None: ...

    with pytest.raises(ActionError, match="'plans' plans its steps itself"):
        Executor(instead={plans: 1})


def test_commands_are_not_run() -> None:
    usage = CommandAction(ActionSettings(name="usage", argv=["/usr/bin/df", "{path}"], params={"path": Parameter()}))
    actions = {"usage": usage}
    done = Executor(actions=actions).run("usage", path="/")
    assert done.error.startswith("not run: no command is run here (['/usr/bin/df', '/']); say what it gives:")
    given = {"exit": 0, "stdout": "17%", "stderr": ""}
    assert Executor(actions=actions, instead={"usage": given}).run("usage", path="/").output == given
    assert Executor(actions=actions, instead={"usage": lambda path: path}).run("usage", path="/").output == "/"


def test_the_clock_is_the_real_one_unless_another_is_given() -> None:
    before = datetime.now(UTC)
    assert before - timedelta(milliseconds=1) <= Executor().now <= datetime.now(UTC)
    with pytest.raises(ValueError, match="has no time zone"):
        Executor(now=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused
