"""The executor's core with one orchestrator and one worker: what an author of actions relies on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from chargehand.client import Client, SubmitRefused
from chargehand.plan.life import PlanState
from chargehand.planner import Plan
from chargehand.store.keys import Keys
from chargehand.store.lease import report_death
from chargehand.store.plans import PlanView
from support.plans import view_of
from support.programs import Program, StartProgram, lives, until, write_config, written
from support.server import Server

COMMANDS = """
[[action]]
name = "say"
argv = ["/bin/sh", "-c", "echo \\"$1\\"; echo heard >&2", "sh", "{text}"]
params.text = { type = "string", pattern = "[a-z ]+" }

[[action]]
name = "fail"
argv = ["/bin/sh", "-c", "echo no such host >&2; exit 3"]

[[action]]
name = "linger"
argv = ["/bin/sh", "-c", "sleep 600 & echo $! > {path}; wait"]
params.path = { type = "string" }
timeout = "400ms"

[[action]]
name = "missing"
argv = ["/no/such/program"]

[[worker]]
name = "worker"
queues = ["default"]
threads = 5
"""


@pytest.fixture
def extra() -> str:
    return COMMANDS


@pytest.fixture
def executor(start_program: StartProgram) -> tuple[Program, Program]:
    orchestrator = start_program("orchestrator", extra=COMMANDS)
    worker = start_program("worker", extra=COMMANDS)
    return orchestrator.ready(), worker.ready()


def run(client: Client, action: str, expect: PlanState = PlanState.SUCCEEDED, **inputs: Any) -> PlanView:
    plan = client.plan(action)
    plan.add(action, **inputs)
    return end(client, plan, expect)


def end(client: Client, plan: Plan, expect: PlanState = PlanState.SUCCEEDED) -> PlanView:
    name = client.submit(plan)
    assert client.wait(name, 30) is expect
    return view_of(client, name)


def output(view: PlanView, step: int = -1) -> Any:
    result = view.steps[step].result
    assert result is not None
    return msgspec.json.decode(result.output)


def error(view: PlanView, step: int = -1) -> tuple[str, str]:
    failure = view.steps[step].error
    assert failure is not None
    return failure.kind, failure.message


@pytest.mark.usefixtures("executor")
class TestPlans:
    def test_outputs_flow_and_join(self, client: Client) -> None:
        assert output(run(client, "fan_out", width=50)) == sum(range(50))

    def test_part_of_an_output(self, client: Client) -> None:
        plan = client.plan("parts")
        first = plan.add("echo", value={"list": [1, 2, {"three": 3}]})
        plan.add("echo", value={"got": first["list"][2]["three"], "all": [first, 1]})
        assert output(end(client, plan)) == {"got": 3, "all": [{"list": [1, 2, {"three": 3}]}, 1]}

    def test_missing_part_of_an_output_says_so(self, client: Client) -> None:
        plan = client.plan("parts")
        plan.add("echo", value=plan.add("echo", value={"a": 1})["b"])
        assert error(end(client, plan, PlanState.PAUSED)) == (
            "BadInput",
            "the output of step 0 has no ['b']: KeyError: 'b'",
        )

    def test_sequence_and_concurrence(self, client: Client, place: Path) -> None:
        run(client, "in_order", path=str(place / "lines"))
        lines = (place / "lines").read_text().split()
        assert lines[0] == "a"
        assert set(lines[1:3]) == {"b", "c"}
        assert lines[3] == "d"

    def test_empty_plan_succeeds(self, client: Client) -> None:
        assert end(client, client.plan("nothing at all")).total == 0

    def test_large_plan_goes_in_parts(self, client: Client, server: Server) -> None:
        plan = client.plan("large")
        numbers = [plan.add("echo", value=n) for n in range(5_000)]
        plan.add("add", numbers=numbers)
        view = end(client, plan)
        assert output(view) == sum(range(5_000))
        line = server.line()
        assert line.call("LLEN", Keys("default").plan(view.plan)) == 2 + 6, "definition, meta and six parts"

    def test_failure_pauses_the_plan_and_resume_goes_on(self, client: Client, place: Path) -> None:
        plan = client.plan("resumed")
        first = plan.add("note", path=str(place / "lines"), text="first")
        second = plan.add("fails_until", path=str(place / "flag"))
        plan.add("echo", value=[first, second])
        view = end(client, plan, PlanState.PAUSED)
        assert error(view, 1)[0] == "FileNotFoundError"
        assert [step.state for step in view.steps] == ["succeeded", "failed", "waiting"]
        (place / "flag").touch()
        client.resume(view.plan)
        until("it succeeds", lambda: view_of(client, view.plan).state == "succeeded")
        assert client.output(view.plan) == ["first", "there"]
        assert (place / "lines").read_text().split() == ["first"], "what had succeeded did not run again"

    def test_independent_branches_go_on_after_a_failure(self, client: Client, place: Path) -> None:
        plan = client.plan("branches")
        plan.add("exits")
        with plan.sequence():
            for text in "abc":
                plan.add("note", path=str(place / "lines"), text=text)
        view = end(client, plan, PlanState.PAUSED)
        assert (place / "lines").read_text().split() == ["a", "b", "c"]
        assert error(view, 0) == ("SystemExit", "the action called exit(3)")


@pytest.mark.usefixtures("executor")
class TestAttempts:
    def test_retries_with_backoff(self, client: Client, place: Path) -> None:
        view = run(client, "third_time", path=str(place / "tries"))
        assert output(view) == 3
        assert view.steps[0].attempt == 3
        assert error(view, 0) == ("RuntimeError", "try 2"), "the last error stays visible"

    def test_only_after_errors_that_are_worth_it(self, client: Client, place: Path) -> None:
        view = run(client, "picky", PlanState.PAUSED, path=str(place / "tries"))
        assert error(view) == ("ValueError", "wrong for ever")
        assert len((place / "tries").read_text().split()) == 3

    def test_not_after_a_time_out_that_is_not(self, client: Client, place: Path) -> None:
        view = run(client, "too_long_once", PlanState.PAUSED, path=str(place / "tries"))
        assert error(view) == ("timeout", "timeout after 0.3 s")
        assert len((place / "tries").read_text().split()) == 1

    def test_time_out_of_a_thread(self, client: Client) -> None:
        assert error(run(client, "too_long", PlanState.PAUSED)) == ("timeout", "timeout after 0.5 s")

    def test_time_out_of_async(self, client: Client) -> None:
        assert error(run(client, "too_long_async", PlanState.PAUSED)) == ("timeout", "timeout after 0.5 s")

    def test_async(self, client: Client) -> None:
        assert output(run(client, "soon", value=41)) == 41

    def test_output_too_large(self, client: Client) -> None:
        kind, message = error(run(client, "huge", PlanState.PAUSED))
        assert kind == "output too large"
        assert "the most is 1,048,576" in message

    def test_output_that_is_no_json(self, client: Client) -> None:
        assert error(run(client, "not_json", PlanState.PAUSED))[0] == "TypeError"

    def test_threads_go_on_after_time_outs(self, client: Client) -> None:
        plan = client.plan("many")
        for _ in range(10):
            plan.add("too_long")
        end(client, plan, PlanState.PAUSED)
        assert output(run(client, "echo", value="still here")) == "still here"


@pytest.mark.usefixtures("executor")
class TestCommands:
    def test_output(self, client: Client) -> None:
        assert output(run(client, "say", text="good morning")) == {
            "exit": 0,
            "stdout": "good morning\n",
            "stderr": "heard\n",
        }

    def test_parameter_is_one_argument_and_checked(self, client: Client) -> None:
        with pytest.raises(Exception, match=r"parameter 'text': '\$\(reboot\)'; expected a match of its pattern"):
            run(client, "say", text="$(reboot)")

    def test_outputs_of_steps_are_checked_too(self, client: Client) -> None:
        plan = client.plan("sneaky")
        plan.add("say", text=plan.add("echo", value="$(reboot)"))
        assert error(end(client, plan, PlanState.PAUSED))[0] == "BadInput"

    def test_exit_code_and_last_words(self, client: Client) -> None:
        assert error(run(client, "fail", PlanState.PAUSED)) == ("exit", 'exit 3: "no such host"')

    def test_missing_program(self, client: Client) -> None:
        assert error(run(client, "missing", PlanState.PAUSED)) == (
            "cannot start",
            "/no/such/program: No such file or directory",
        )

    def test_time_out_ends_the_whole_group(self, client: Client, place: Path) -> None:
        view = run(client, "linger", PlanState.PAUSED, path=str(place / "pid"))
        assert error(view) == ("timeout", "timeout after 0.4 s")
        grandchild = int((place / "pid").read_text())
        until("its child is gone", lambda: not lives(grandchild))


@pytest.mark.usefixtures("executor")
class TestSubmission:
    def test_same_key_is_one_plan(self, client: Client, place: Path) -> None:
        def submit(text: str) -> str:
            plan = client.plan("keyed")
            plan.add("note", path=str(place / "lines"), text=text)
            return client.submit(plan, key="nightly-2026-11-24")

        first = submit("once")
        assert submit("once") == first
        client.wait(first, 30)
        assert submit("once") == first
        assert (place / "lines").read_text().split() == ["once"]
        with pytest.raises(SubmitRefused, match="exists with other content"):
            submit("twice")

    def test_unknown_and_wrong_inputs_are_refused_by_name(self, client: Client) -> None:
        plan = client.plan("wrong")
        with pytest.raises(Exception, match="there is no action 'nope'"):
            plan.add("nope")
        with pytest.raises(Exception, match="action 'nap' needs the parameter 'seconds'"):
            plan.add("nap")
        with pytest.raises(Exception, match="action 'nap' has no parameter 'minutes'"):
            plan.add("nap", seconds=1.0, minutes=2)
        with pytest.raises(Exception, match="parameter 'seconds': Expected `float`, got `str`"):
            plan.add("nap", seconds="long")

    def test_plan_that_depends_on_the_future_is_rejected(self, client: Client, server: Server) -> None:
        """Another language's client may write anything."""
        keys = Keys("default")
        line = server.line()
        line.call(
            "XADD", keys.inbox, "*", "e",
            b'["submit","loop",{"label":"x","policies":[["echo"]],"total":2,"steps":[[0,{},[1]],[0,{},[0]]],"format":1}]',
        )  # fmt: skip
        line.call("RPUSH", keys.plan("loop"), b'{"label":"x","policies":[["echo"]],"total":2}', b"{}")
        assert client.wait("loop", 20) is PlanState.REJECTED
        view = client.read("loop", steps=False)
        assert view is not None
        assert view.error is not None
        assert "can depend on earlier steps only" in view.error.message

    def test_garbage_in_the_inbox_harms_nobody(self, client: Client, server: Server) -> None:
        line = server.line()
        keys = Keys("default")
        for garbage in (b"", b"nonsense", b'["unheard of",1]', b'["finish","no such plan",7,1]', b'["submit","x",5]'):
            line.call("XADD", keys.inbox, "*", "e", garbage)
        line.call("XADD", keys.inbox, "*", "another field", "1")
        assert output(run(client, "echo", value=1)) == 1
        assert line.call("LLEN", keys.strange) >= 4

    def test_full_inbox_refuses_and_says_why(self, client: Client, executor: tuple[Program, Program]) -> None:
        orchestrator, _ = executor
        orchestrator.stop()
        settings = msgspec.structs.replace(
            client._settings,
            orchestrator=msgspec.structs.replace(client._settings.orchestrator, max_inbox=100),
        )
        with Client(settings, client._actions) as small:

            def submit() -> None:
                plan = small.plan("one")
                plan.add("nothing")
                small.submit(plan)

            for _ in range(100):
                submit()
            with pytest.raises(SubmitRefused, match="the inbox holds 100 events"):
                submit()


def test_on_lost_pause(executor: tuple[Program, Program], client: Client, place: Path, server: Server) -> None:
    """Work that must not run twice: its worker dies, the plan pauses and says that it may have run."""
    _, worker = executor
    plan = client.plan("careful")
    plan.add("once", path=str(place / "lines"), seconds=60.0)
    name = client.submit(plan)
    until("it runs", lambda: written(place / "lines"))
    worker.kill()
    report_death(server.line(), Keys("default"), worker.incarnation)
    assert client.wait(name, 30) is PlanState.PAUSED
    view = view_of(client, name)
    assert error(view) == ("lost", f"its worker {worker.incarnation} died: it may have run")
    assert (place / "lines").read_text().split() == ["once"]


def test_worker_with_a_broken_module_is_degraded_and_serves(
    start_program: StartProgram, client: Client, place: Path
) -> None:
    (place / "broken_module.py").write_text("import a_module_that_does_not_exist\n")
    start_program("orchestrator", extra=COMMANDS).ready()
    config = write_config(place, client._settings.redis.url or "", node="node-a", extra=COMMANDS)
    text = config.read_text().replace('"site_actions"', '"broken_module"')
    config.write_text(text.replace("path = [", f'path = ["{place}", '))
    worker = Program(place, config, "worker")
    try:
        worker.ready()
        degraded = worker.fields["X_CHARGEHAND_DEGRADED"]
        assert degraded.startswith('cannot import module "broken_module": ModuleNotFoundError')
        assert output(run(client, "say", text="still here"))["stdout"] == "still here\n"
    finally:
        worker.stop()


def test_prefetch_does_not_hoard(start_program: StartProgram, client: Client) -> None:
    """Many short steps, then slow ones: the slow ones are shared between two workers, not kept by one."""
    start_program("orchestrator", extra=COMMANDS).ready()
    workers = [start_program("worker", node=node, extra=COMMANDS).ready() for node in ("node-a", "node-b")]
    assert len(workers) == 2
    plan = client.plan("warm")
    for _ in range(2_000):
        plan.add("nothing")
    end(client, plan)
    plan = client.plan("slow")
    for _ in range(20):
        plan.add("nap", seconds=1.0)
    view = end(client, plan)
    nodes = [step.result.node for step in view.steps if step.result is not None]
    assert {nodes.count("node-a"), nodes.count("node-b")} == {10}
