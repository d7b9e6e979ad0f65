"""A plan is cancelled: what runs of it is asked to end, and is ended when the grace is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store import submission
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.membership import Member, beat, register
from chargehand.wire import Cancelled, Halted, Reverted, step_key
from support.plans import submit, view_of
from support.programs import Program, StartProgram, lives, until, written

KEYS = Keys("default")
LONG = 600_000  # ms of grace: it never comes to force

COMMANDS = """
[[action]]
name = "polite"
argv = ["/bin/sh", "-c", "trap 'echo bye >> {path}; exit 0' TERM; echo up >> {path}; while :; do sleep 0.05; done"]
params.path = { type = "string" }

[[action]]
name = "heeds"
argv = ["/bin/sh", "-c", "echo $$ >> {path}; exec sleep 600"]
params.path = { type = "string" }

[[action]]
name = "stubborn"
argv = ["/bin/sh", "-c", "trap '' TERM; setsid sleep 600 & echo $! >> $1; echo $$ >> $1; wait; wait", "sh", "{path}"]
params.path = { type = "string" }
"""


@pytest.fixture
def extra() -> str:
    return COMMANDS


def cancel(line: Line, plan: str, grace_ms: int = LONG) -> None:
    submission.ask(line, KEYS, Cancelled(plan, grace_ms))


def error(client: Client, plan: str, step: int = 0) -> tuple[str, str, str]:
    view = view_of(client, plan)
    failure = view.steps[step].error
    assert failure is not None
    return view.steps[step].state, failure.kind, failure.message


@pytest.mark.usefixtures("orchestrator", "worker")
class TestHowCodeEnds:
    def test_thread_that_looks(self, client: Client, place: Path, line: Line) -> None:
        path = place / "lines"
        name = submit(client, "stops_when_asked", path=str(path))
        until("it runs", lambda: written(path))
        cancel(line, name)
        assert client.wait(name, 30) is PlanState.CANCELLED
        assert written(path) == ["started", "asked"]
        assert error(client, name) == ("cancelled", "cancelled", "put away")

    def test_what_succeeds_within_the_grace_has_succeeded(self, client: Client, place: Path, line: Line) -> None:
        path = place / "lines"
        name = submit(client, "stops_when_asked", path=str(path), finishes=True)
        until("it runs", lambda: written(path))
        cancel(line, name)
        client.wait(name, 30)
        view = view_of(client, name)
        assert view.steps[0].state == "succeeded"
        assert client.output(name) == "all done"

    def test_thread_that_does_not_look_is_ended_after_the_grace(self, client: Client, place: Path, line: Line) -> None:
        path = place / "lines"
        name = submit(client, "stops_by_force", path=str(path))
        until("it runs", lambda: written(path))
        cancel(line, name, grace_ms=300)
        assert client.wait(name, 30) is PlanState.CANCELLED
        assert written(path) == ["started", "ended"]
        assert error(client, name)[1:] == (
            "cancelled",
            "cancelled: it did not end by itself in time, and was ended",
        )

    def test_less_patience_than_before(self, client: Client, place: Path, line: Line) -> None:
        path = place / "lines"
        name = submit(client, "stops_by_force", path=str(path))
        until("it runs", lambda: written(path))
        cancel(line, name)
        until("it is asked", lambda: submission.plan_state(line, KEYS, name) is PlanState.CANCELLING)
        cancel(line, name, grace_ms=0)
        assert client.wait(name, 30) is PlanState.CANCELLED
        assert written(path) == ["started", "ended"]

    def test_async_is_cancelled_at_once(self, client: Client, place: Path, line: Line) -> None:
        path = place / "lines"
        name = submit(client, "cancelled_async", path=str(path))
        until("it runs", lambda: written(path))
        cancel(line, name)
        assert client.wait(name, 30) is PlanState.CANCELLED
        assert written(path) == ["started", "ended"]
        assert error(client, name)[1] == "cancelled"

    def test_async_that_goes_on_is_ended_after_the_grace(self, client: Client, place: Path, line: Line) -> None:
        path = place / "lines"
        name = submit(client, "stubborn_async", path=str(path))
        until("it runs", lambda: written(path))
        cancel(line, name, grace_ms=300)
        assert client.wait(name, 30) is PlanState.CANCELLED
        until("its code has ended", lambda: written(path) == ["started", "asked", "ended"])

    def test_command_gets_a_signal(self, client: Client, place: Path, line: Line) -> None:
        path = place / "lines"
        name = submit(client, "heeds", path=str(path))
        until("it runs", lambda: written(path))
        cancel(line, name)
        assert client.wait(name, 30) is PlanState.CANCELLED
        assert error(client, name)[1:] == ("cancelled", "cancelled: signal: killed by SIGTERM")
        assert not lives(int(written(path)[0]))

    def test_command_that_ends_well_on_the_signal_has_succeeded(self, client: Client, place: Path, line: Line) -> None:
        path = place / "lines"
        name = submit(client, "polite", path=str(path))
        until("it runs", lambda: written(path) == ["up"])
        cancel(line, name)
        client.wait(name, 30)
        view = view_of(client, name)
        assert view.steps[0].state == "succeeded"
        assert written(path) == ["up", "bye"]

    def test_stubborn_command_is_killed_with_its_tree(self, client: Client, place: Path, line: Line) -> None:
        path = place / "lines"
        name = submit(client, "stubborn", path=str(path))
        until("it runs", lambda: len(written(path)) == 2)
        cancel(line, name, grace_ms=300)
        assert client.wait(name, 30) is PlanState.CANCELLED
        assert [pid for pid in written(path) if lives(int(pid))] == []

    def test_halted(self, client: Client, place: Path, line: Line) -> None:
        """The plan has ended at once; its code is ended too."""
        path = place / "lines"
        name = submit(client, "stops_by_force", path=str(path))
        until("it runs", lambda: written(path))
        submission.ask(line, KEYS, Halted(name))
        assert client.wait(name, 30) is PlanState.HALTED
        until("its code has ended", lambda: written(path) == ["started", "ended"])
        until("nobody owns it", lambda: line.call("KEYS", KEYS.own("*").replace("{", "\\{")) == [])


def test_what_waits_behind_it_in_the_same_worker_never_starts(
    orchestrator: Program, worker: Program, client: Client, place: Path, line: Line
) -> None:
    """Five run, the others wait on the queue or in hand; those of other plans go on."""
    path = place / "lines"
    plan = client.plan("many")
    for number in range(20):
        plan.add("held", path=str(path), text=str(number), gate=str(place / "gate"))
    name = client.submit(plan)
    until("five run", lambda: len(written(path)) == 5)
    other = submit(client, "echo", value="other")
    cancel(line, name, grace_ms=0)
    assert client.wait(name, 30) is PlanState.CANCELLED
    assert client.wait(other, 30) is PlanState.SUCCEEDED
    assert len(written(path)) == 5
    view = view_of(client, name)
    assert {step.state for step in view.steps} <= {"cancelled", "waiting"}


def test_cancel_over_a_takeover(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path, line: Line
) -> None:
    """The active orchestrator dies after it was asked and before the step has ended."""
    path = place / "lines"
    plan = client.plan("two")
    with plan.sequence():
        plan.add("stops_by_force", path=str(path))
        plan.add("note", path=str(path), text="never")
    name = client.submit(plan)
    until("it runs", lambda: written(path))
    cancel(line, name, grace_ms=4_000)
    until("it is being cancelled", lambda: submission.plan_state(line, KEYS, name) is PlanState.CANCELLING)
    orchestrator.kill()
    start_program("orchestrator", node="node-b").ready()
    assert client.wait(name, 30) is PlanState.CANCELLED
    assert written(path) == ["started", "ended"]


def test_asked_while_nobody_is_active(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path, line: Line
) -> None:
    path = place / "lines"
    name = submit(client, "stops_when_asked", path=str(path))
    until("it runs", lambda: written(path))
    orchestrator.kill()
    cancel(line, name)
    start_program("orchestrator", node="node-b").ready()
    assert client.wait(name, 30) is PlanState.CANCELLED
    assert written(path) == ["started", "asked"]


def test_what_was_not_heard_is_found_by_the_next_beat(
    worker: Program, orchestrator: Program, client: Client, place: Path, line: Line
) -> None:
    """The mark alone, without the message."""
    path = place / "lines"
    name = submit(client, "stops_when_asked", path=str(path))
    until("it runs", lambda: written(path))
    line.call("HSET", KEYS.stopped, name, LONG)
    until("it is asked", lambda: written(path) == ["started", "asked"])


def test_listens_again_after_its_connection_was_lost(worker: Program, line: Line) -> None:
    def listeners() -> int:
        count: int = line.call("PUBSUB", "NUMSUB", KEYS.stop_channel)[1]
        return count

    until("it listens", lambda: listeners() == 1)
    before = line.call("CLIENT", "LIST", "TYPE", "pubsub")
    assert line.call("CLIENT", "KILL", "TYPE", "pubsub") == 1
    until("it listens again", lambda: listeners() == 1 and line.call("CLIENT", "LIST", "TYPE", "pubsub") != before)


def test_suspended_step_is_told(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path, line: Line
) -> None:
    """A class with `cancel` is called, with what it saved; the active orchestrator dies before."""
    path = place / "lines"
    name = submit(client, "Polls", path=str(path), times=7, seconds=600.0)
    until("it is suspended", lambda: (view := client.read(name)) is not None and view.steps[0].state == "suspended")
    orchestrator.kill()
    cancel(line, name, grace_ms=100)
    start_program("orchestrator", node="node-b").ready()
    assert client.wait(name, 30) is PlanState.CANCELLED
    assert written(path) == [f"{name} 7", "cancelled at 6"]


def test_suspended_function_is_not_told(
    orchestrator: Program, worker: Program, client: Client, place: Path, line: Line
) -> None:
    path = place / "lines"
    name = submit(client, "waits", path=str(path))
    until("it is suspended", lambda: (view := client.read(name)) is not None and view.steps[0].state == "suspended")
    cancel(line, name)
    assert client.wait(name, 30) is PlanState.CANCELLED
    assert written(path) == ["0 started"]


class TestUndoing:
    def test_steps_are_undone_in_reverse_with_their_outputs(
        self,
        orchestrator: Program,
        worker: Program,
        start_program: StartProgram,
        client: Client,
        place: Path,
        line: Line,
    ) -> None:
        """What a step gave is given to its revert, and stays what it was."""
        plan = client.plan("make")
        with plan.sequence():
            for number in range(3):
                plan.add("Makes", path=str(place / f"made {number}"))
            plan.add("fails_until", path="/nowhere")
        name = client.submit(plan)
        assert client.wait(name, 30) is PlanState.PAUSED
        assert all((place / f"made {number}").exists() for number in range(3))
        orchestrator.kill()
        submission.ask(line, KEYS, Reverted(name))
        start_program("orchestrator", node="node-b").ready()
        until("it is reverted", lambda: submission.plan_state(line, KEYS, name) is PlanState.REVERTED)
        assert not any((place / f"made {number}").exists() for number in range(3))
        assert [written(place / f"made {number}.log") for number in range(3)] == [["removed True"]] * 3
        assert client.output(name, 1) == {"made": str(place / "made 1")}
        view = view_of(client, name)
        assert [step.state for step in view.steps] == [*["reverted"] * 3, "failed"]

    def test_by_its_rescue(self, orchestrator: Program, worker: Program, client: Client, place: Path) -> None:
        plan = client.plan("make")
        with plan.sequence():
            plan.add("Makes", path=str(place / "made"))
            plan.add("reverts_its_plan")
        name = client.submit(plan)
        assert client.wait(name, 30) is PlanState.REVERTED
        assert not (place / "made").exists()

    def test_revert_cannot_suspend(self, orchestrator: Program, worker: Program, client: Client, line: Line) -> None:
        plan = client.plan("make")
        with plan.sequence():
            plan.add("UndoSuspends")
            plan.add("fails_until", path="/nowhere")
        name = client.submit(plan)
        assert client.wait(name, 30) is PlanState.PAUSED
        submission.ask(line, KEYS, Reverted(name))
        until("it has failed", lambda: (view := client.read(name)) is not None and view.steps[0].error is not None)
        assert error(client, name)[1:] == (
            "Misused",
            "'UndoSuspends:revert' undoes a step, in one go: it cannot suspend or start sub-plans",
        )


def test_beat_names_what_is_stopped(line: Line) -> None:
    """Only what the caller owns."""
    member = Member("worker", "node-a", "worker", 1, 0, "0")
    register(line, KEYS, "w1", member, "machine")
    for plan in ("p", "q/r", "x"):
        line.call("HSET", KEYS.own("w1"), step_key(plan, 3, 1), "entry")
    line.call("HSET", KEYS.stopped, "p", 10_000, "q/r", 0, "other", 5)
    answer = beat(line, KEYS, "w1", member, "machine")
    assert answer.stopped == {"p/3/1": 10_000, "q/r/3/1": 0}
    assert answer.owned == {"p/3/1", "q/r/3/1", "x/3/1"}
