"""Beyond running: finalize, revert, hooks, a step tried again, a plan halted. The active orchestrator dies in each."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from chargehand.client import Client, WaitTimeout
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from support.commands import chargehand
from support.counting import Log, nothing_held
from support.faults import lines_of
from support.orchestrators import Orchestrators
from support.plans import is_in, view_of
from support.programs import until, write_config, written
from support.server import Server

KEYS = Keys("default")
EXTRA = """
[[action]]
name = "called-command"
argv = ["/bin/sh", "-c", "echo $1:$2 >> $3", "sh", "{state}", "{plan}", "{path}"]
params.plan = { type = "string", pattern = "^[A-Za-z0-9-]+$" }
params.state = { type = "string" }
params.path = { type = "string" }

[[action]]
name = "hooked-command"
argv = ["/usr/bin/test", "-e", "{flag}"]
params.flag = { type = "string" }
labels = ["by-command"]
locks = ["flags", { name = "slots", most = 2 }]
hooks.paused = "noticed"
hooks.ended = { action = "called-command", inputs = { path = "PLACE/calls" } }
"""

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def extra(place: Path) -> str:
    return EXTRA.replace("PLACE", str(place))


@pytest.fixture
def gates(place: Path) -> Path:
    """What `Builds` waits for: the files `run`, `finalize` and `revert` in it."""
    made = place / "gates"
    made.mkdir()
    return made


def becomes(client: Client, plan: str, state: PlanState) -> None:
    word = state.name.lower()
    until(f"plan {plan} is {word}", partial(is_in, client, plan, word), timeout=60)


def steps(client: Client, plan: str) -> list[str]:
    return [step.state for step in view_of(client, plan).steps]


def one_by_one(*texts: str) -> list[str]:
    return [f"{sign}{text}" for text in texts for sign in "+-"]


# -- finalize -------------------------------------------------------------------------------------


def test_finalize(orchestrators: Orchestrators, client: Client, log: Log, gates: Path, line: Line) -> None:
    """After everything else of the plan, one after another, with the inputs and the output of the run; a death in
    the run and one in the first finalize.
    """
    plan = client.plan("build")
    plan.add("Builds", path=log.path, names=["a", "b"], gates=str(gates))
    plan.add("stays", path=log.path, text="beside", gate=str(gates / "beside"))
    plan.add("Builds", path=log.path, names=["c"], gates=str(gates))
    name = client.submit(plan)
    log.until_started(3)
    orchestrators.kill_active()
    (gates / "run").touch()
    until("all are built", lambda: len([word for word in log.words if word.startswith("-run")]) == 3)
    assert not [text for text in log.started if text.startswith("finalize")], "one step of the plan still runs"
    (gates / "beside").touch()
    log.until_started(5)
    orchestrators.kill_active()
    assert steps(client, name) == [*["succeeded"] * 4, "running", "waiting", "waiting"]
    (gates / "finalize").touch()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    assert log.words[-6:] == one_by_one("finalize:a", "finalize:b", "finalize:c")
    assert [client.output(name, step) for step in (4, 5, 6)] == [[one, f"{log.path}.{one}"] for one in "abc"]
    log.once_each(["run:a", "run:b", "run:c", "beside", "finalize:a", "finalize:b", "finalize:c"])
    assert {step.attempt for step in view_of(client, name).steps} == {1}
    nothing_held(line, KEYS)


def test_finalize_waits_for_a_step_that_failed(
    orchestrators: Orchestrators, client: Client, log: Log, gates: Path, place: Path, line: Line
) -> None:
    plan = client.plan("build")
    plan.add("Builds", path=log.path, names=["a"], gates=str(gates))
    plan.add("fails_until", path=str(place / "flag"))
    name = client.submit(plan)
    (gates / "run").touch()
    (gates / "finalize").touch()
    assert client.wait(name, 30) is PlanState.PAUSED
    orchestrators.kill_active()
    assert log.words == one_by_one("run:a")
    client.skip(name, [1])
    becomes(client, name, PlanState.SUCCEEDED)
    assert steps(client, name) == ["succeeded", "skipped", "succeeded"]
    assert log.words == one_by_one("run:a", "finalize:a")
    nothing_held(line, KEYS)


# -- revert ---------------------------------------------------------------------------------------


def made(log: Log) -> set[str]:
    return {path.suffix[1:] for path in log.file.parent.glob(f"{log.file.name}.*")}


def test_revert(orchestrators: Orchestrators, client: Client, log: Log, gates: Path, place: Path, line: Line) -> None:
    """Asked for while nobody is active, and a death in the first of the reverts, which are in the opposite order."""
    plan = client.plan("build")
    with plan.sequence():
        plan.add("Builds", path=log.path, names=["a", "slips", "c"], gates=str(gates))
        plan.add("fails_until", path="/nowhere")
    name = client.submit(plan)
    (gates / "run").touch()
    assert client.wait(name, 30) is PlanState.PAUSED
    assert made(log) == {"a", "slips", "c"}
    with orchestrators.nobody_active():
        client.revert(name)
    log.until_started(4)
    orchestrators.kill_active()
    assert steps(client, name)[:3] == ["succeeded", "succeeded", "undoing"]
    (gates / "revert").touch()
    becomes(client, name, PlanState.REVERTED)
    assert log.words == one_by_one("run:a", "run:slips", "run:c", "revert:c", "revert:slips", "revert:a")
    assert made(log) == set()
    assert steps(client, name) == [*["reverted"] * 3, "failed", *["waiting"] * 3]
    assert client.output(name, 1) == {"made": f"{log.path}.slips"}, "what it gave when it ran"
    told = [(one.what, one.text, one.step) for one in client.history(name) if one.what in {"plan", "asked", "failed"}]
    assert told == [
        ("failed", "", 3),
        ("plan", "paused", None),
        ("asked", "revert", None),
        ("plan", "reverting", None),
        ("failed", "", 1),
        ("plan", "reverted", None),
    ]
    nothing_held(line, KEYS)


def test_revert_of_a_plan_that_runs(
    orchestrators: Orchestrators, client: Client, log: Log, gates: Path, line: Line
) -> None:
    """What runs is ended first, and what waited never starts; then what had succeeded is undone."""
    plan = client.plan("build")
    with plan.sequence():
        plan.add("Builds", path=log.path, names=["a", "b"], gates=str(gates))
        plan.add("stays", path=log.path, text="held", gate=str(gates / "never"))
        plan.add("stays", path=log.path, text="never")
    name = client.submit(plan)
    (gates / "run").touch()
    log.until_started(3)
    with orchestrators.nobody_active():
        client.revert(name)
    (gates / "revert").touch()
    becomes(client, name, PlanState.REVERTED)
    assert log.words == [*one_by_one("run:a", "run:b"), "+held", *one_by_one("revert:b", "revert:a")]
    assert steps(client, name)[:4] == ["reverted", "reverted", "cancelled", "waiting"]
    nothing_held(line, KEYS, ended=[name])


def test_revert_of_a_plan_with_a_suspended_step(
    orchestrators: Orchestrators, client: Client, log: Log, line: Line
) -> None:
    """It is told that it is cancelled, and has nothing to be undone: it has not succeeded."""
    plan = client.plan("ask")
    with plan.sequence():
        plan.add("Asks", path=log.path, name="a")
        plan.add("Asks", path=log.path, name="b")
    name = client.submit(plan)
    until("it is suspended", lambda: steps(client, name)[0] == "suspended")
    client.send_event(name, 0, "answer", "yes")
    until("the next is suspended", lambda: steps(client, name)[1] == "suspended")
    with orchestrators.nobody_active():
        client.revert(name)
    becomes(client, name, PlanState.REVERTED)
    assert log.words == one_by_one("asks:a", "asks:b", "cancel:b", "revert:a:yes")
    assert steps(client, name) == ["reverted", "cancelled"]
    assert view_of(client, name).steps[1].result is None
    nothing_held(line, KEYS)


def test_rescue_by_reverting(orchestrators: Orchestrators, client: Client, log: Log, gates: Path, line: Line) -> None:
    """A step that fails for good has its plan undone; deaths before it fails and while the plan is undone."""
    plan = client.plan("build")
    with plan.sequence():
        plan.add("Builds", path=log.path, names=["a", "b"], gates=str(gates))
        plan.add("undoes_its_plan", path=log.path, gate=str(gates / "fail"))
    name = client.submit(plan)
    (gates / "run").touch()
    log.until_started(3)
    orchestrators.kill_active()
    (gates / "fail").touch()
    log.until_started(4)
    orchestrators.kill_active()
    (gates / "revert").touch()
    assert client.wait(name, 60) is PlanState.REVERTED
    assert log.words == one_by_one("run:a", "run:b", "fails", "revert:b", "revert:a")
    assert made(log) == set()
    nothing_held(line, KEYS)


def test_what_cannot_be_undone_is_told(
    orchestrators: Orchestrators, client: Client, log: Log, gates: Path, line: Line
) -> None:
    """And what it was built upon stays as it is; what has nothing to do with it is undone."""
    plan = client.plan("build")
    with plan.sequence():
        plan.add("Builds", path=log.path, names=["a"], gates=str(gates))
        plan.add("Sticks")
        plan.add("fails_until", path="/nowhere")
    plan.add("Builds", path=log.path, names=["b"], gates=str(gates))
    name = client.submit(plan)
    (gates / "run").touch()
    assert client.wait(name, 30) is PlanState.PAUSED
    client.revert(name)
    log.until_started(3)
    until("it has failed", lambda: steps(client, name)[1] == "spoiled")
    orchestrators.kill_active()
    (gates / "revert").touch()
    assert client.wait(name, 60) is PlanState.FAILED
    view = view_of(client, name)
    assert [step.state for step in view.steps][:4] == ["succeeded", "spoiled", "failed", "reverted"]
    assert view.error is not None
    assert view.error.message == "not all of it could be undone: the revert of step 1 failed"
    assert view.steps[1].error is not None
    assert (view.steps[1].error.kind, view.steps[1].error.message) == ("PermissionError", "glued")
    assert made(log) == {"a"}
    nothing_held(line, KEYS)


# -- hooks ----------------------------------------------------------------------------------------


def hooks_of(client: Client, plan: str) -> list[str]:
    """The plans of its hooks, the first one first."""
    found = [view.plan for view in client.search(labels=["hook"]) if view.plan.startswith(f"{plan}.hook")]
    return sorted(found, key=lambda one: int(one.rpartition(".")[2].partition("-")[0]))


def test_hooks(orchestrators: Orchestrators, client: Client, log: Log, place: Path, line: Line) -> None:
    """Python for each state, a command beside it; the orchestrator dies before each state is reached."""
    calls = place / "calls"
    state_hooks = {word: ("called", {"path": log.path}) for word in ("running", "paused", "succeeded", "failed")}
    plan = client.plan("hooked", hooks={**state_hooks, "ended": ("called-command", {"path": str(calls)})})
    plan.add("fails_until", path=str(place / "flag"))
    plan.add("stays", path=log.path, text="work", gate=str(place / "gate"))
    name = client.submit(plan)
    log.until_started(2)
    until("it has failed", lambda: "failed" in steps(client, name))
    orchestrators.kill_active()
    (place / "gate").touch()
    becomes(client, name, PlanState.PAUSED)
    log.until_started(3)
    orchestrators.kill_active()
    (place / "flag").touch()
    with orchestrators.nobody_active():
        client.resume(name)
    becomes(client, name, PlanState.SUCCEEDED)
    log.until_started(5)
    until("the command was called", lambda: written(calls))
    for hook in hooks_of(client, name):
        assert client.wait(hook, 30) is PlanState.SUCCEEDED
    log.once_each(["work", *(f"{word}:{name}" for word in ("running", "paused", "succeeded")), f"running:{name}"])
    assert lines_of(calls) == {f"succeeded:{name}": 1}
    assert len(hooks_of(client, name)) == 5
    nothing_held(line, KEYS)


def test_hooks_of_an_action(orchestrators: Orchestrators, client: Client, place: Path, line: Line) -> None:
    """Every plan with a step of it has them; the hook is there whoever dies in between, once a state."""
    plan = client.plan("any")
    plan.add("hooked", flag="/nowhere")
    name = client.submit(plan)
    assert client.wait(name, 30) is PlanState.PAUSED
    orchestrators.kill_active()
    with orchestrators.nobody_active():
        client.cancel(name)
    becomes(client, name, PlanState.CANCELLED)
    until("both were called", lambda: len(hooks_of(client, name)) == 2)
    assert [client.wait(hook, 30) for hook in hooks_of(client, name)] == [PlanState.SUCCEEDED] * 2
    assert [client.output(hook) for hook in hooks_of(client, name)] == [[name, "paused"], [name, "cancelled"]]
    assert view_of(client, hooks_of(client, name)[0]).by == f"plan {name}"
    nothing_held(line, KEYS)


def test_hooks_of_a_command(
    orchestrators: Orchestrators, client: Client, server: Server, place: Path, line: Line
) -> None:
    """The same of one declared in TOML, with Python and another command as its hooks; its label finds the plan."""
    plan = client.plan("any")
    plan.add("hooked-command", flag=str(place / "flag"))
    name = client.submit(plan)
    assert client.wait(name, 30) is PlanState.PAUSED
    assert sorted(lock.name for lock in plan.definition().locks) == ["flags", "slots"]
    listed = chargehand("plan", "list", "--label", "by-command", config=write_config(place, server.url, node="person"))
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [name]
    orchestrators.kill_active()
    (place / "flag").touch()
    with orchestrators.nobody_active():
        client.resume(name)
    becomes(client, name, PlanState.SUCCEEDED)
    until("both were called", lambda: len(hooks_of(client, name)) == 2)
    noticed, called = hooks_of(client, name)
    assert [client.wait(hook, 30) for hook in (noticed, called)] == [PlanState.SUCCEEDED] * 2
    assert client.output(noticed) == [name, "paused"]
    assert lines_of(place / "calls") == {f"succeeded:{name}": 1}
    nothing_held(line, KEYS)


# -- people ---------------------------------------------------------------------------------------


def test_retry_of_a_step(orchestrators: Orchestrators, client: Client, log: Log, place: Path, line: Line) -> None:
    """Of two steps that failed one is tried again, and the other stays as it is; a death before and one after."""
    plan = client.plan("two")
    with plan.sequence():
        with plan.concurrence():
            plan.add("fails_until", path=str(place / "flag-0"))
            plan.add("fails_until", path=str(place / "flag-1"))
        plan.add("stays", path=log.path, text="after")
    name = client.submit(plan)
    assert client.wait(name, 30) is PlanState.PAUSED
    orchestrators.kill_active()
    (place / "flag-0").touch()
    client.retry(name, [0])
    until("one has succeeded", lambda: steps(client, name) == ["succeeded", "failed", "waiting"])
    becomes(client, name, PlanState.PAUSED)
    orchestrators.kill_active()
    (place / "flag-1").touch()
    with orchestrators.nobody_active():
        client.retry(name, [1])
    becomes(client, name, PlanState.SUCCEEDED)
    assert [step.attempt for step in view_of(client, name).steps] == [2, 2, 1]
    assert log.words == one_by_one("after")
    nothing_held(line, KEYS)


def test_who_waits_after_a_resume_hears_what_comes_of_it(
    orchestrators: Orchestrators, client: Client, place: Path, server: Server
) -> None:
    """Not that the plan is paused, as it is until an orchestrator hears of it; whoever has asked for it."""
    other = Client(load(write_config(place, server.url, node="other")).settings)
    plan = client.plan("one")
    plan.add("fails_until", path=str(place / "flag"))
    name = client.submit(plan)
    assert client.wait(name, 30) is PlanState.PAUSED
    client.resume(name)
    assert client.decided(name, 30)
    assert client.wait(name, 30) is PlanState.PAUSED, "it has failed once more"
    with orchestrators.nobody_active():
        (place / "flag").touch()
        client.resume(name)
        assert not client.decided(name, 0.2)
        for one in (client, other):
            with pytest.raises(WaitTimeout):
                one.wait(name, 0.5)
    assert other.wait(name, 30) is PlanState.SUCCEEDED
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.decided(name, 0.0)
    other.close()


def test_retry_of_a_step_while_others_run(
    orchestrators: Orchestrators, client: Client, log: Log, place: Path, line: Line
) -> None:
    """A step that waits minutes for its next try is tried at once; the plan runs all the time."""
    plan = client.plan("two")
    plan.add("tries_in_an_hour", path=log.path, flag=str(place / "flag"))
    plan.add("stays", path=log.path, text="held", gate=str(place / "gate"))
    name = client.submit(plan)
    until("it waits for its next try", lambda: steps(client, name) == ["retrying", "running"])
    orchestrators.kill_active()
    (place / "flag").touch()
    client.retry(name, [0])
    until("it has succeeded", lambda: steps(client, name) == ["succeeded", "running"])
    (place / "gate").touch()
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert sorted(log.started) == ["held", "try", "try"]
    nothing_left_but_the_timer(line)


def nothing_left_but_the_timer(line: Line) -> None:
    """Of the try in an hour, which says nothing any more when it rings."""
    assert [timer[:1] for timer in line.call("ZRANGE", KEYS.timers, 0, -1)] in ([], [b"r"])


def test_halt(orchestrators: Orchestrators, client: Client, log: Log, place: Path, line: Line) -> None:
    """At once and for good while steps hang, asked for while nobody is active; what they do then counts no more."""
    plan = client.plan("hangs")
    with plan.sequence():
        with plan.concurrence():
            for number in range(8):  # more than there are threads
                plan.add("stays", path=log.path, text=str(number), gate=str(place / "gate"))
        plan.add("stays", path=log.path, text="after")
    name = client.submit(plan)
    log.until_started(5)
    with orchestrators.nobody_active():
        client.halt(name)
    assert client.wait(name, 30) is PlanState.HALTED
    orchestrators.kill_active()
    until("their code has ended", lambda: not line.call("KEYS", KEYS.own("*").replace("{", "\\{")))
    (place / "gate").touch()
    other = client.plan("other")
    for number in range(8):
        other.add("stays", path=log.path, text=f"other-{number}")
    assert client.wait(client.submit(other), 30) is PlanState.SUCCEEDED
    assert len([text for text in log.started if not text.startswith("other")]) == 5
    assert "after" not in log.started
    view = view_of(client, name)
    assert view.state == "halted"
    assert {step.state for step in view.steps} == {"cancelled", "waiting"}
    assert not any(step.result for step in view.steps)
    nothing_held(line, KEYS, ended=[name])
