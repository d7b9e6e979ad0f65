"""A suspended step keeps no thread, and goes on by an event or by itself, whatever dies meanwhile."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from msgspec import Raw

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store import submission
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.lease import report_death
from chargehand.wire import Sent, encode
from support.plans import step_of, submit
from support.programs import Program, StartProgram, until, written

KEYS = Keys("default")


def send(line: Line, plan: str, name: str, data: Any = None, *, step: int = 0, optional: bool = False) -> None:
    submission.ask(line, KEYS, Sent(plan, step, name, Raw(encode(data)), optional=optional))


def suspended(client: Client, plan: str, step: int = 0) -> None:
    until("it is suspended", lambda: step_of(client, plan, step).state == "suspended")


def test_event_after_a_takeover(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path, line: Line
) -> None:
    """A function is called again with its inputs, what it saved, and the event. Then nothing saved is left."""
    path = str(place / "lines")
    plan = client.plan("two")
    with plan.sequence():
        plan.add("waits", path=path)
        plan.add("note", path=path, text="after")
    name = client.submit(plan)
    suspended(client, name)
    assert line.call("HKEYS", KEYS.outputs(name)) == [b"saved 0"]
    orchestrator.kill()
    start_program("orchestrator", node="node-b").ready()
    send(line, name, "approved", {"who": "ada"})
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.output(name, 0) == {
        "event": "approved",
        "data": {"who": "ada"},
        "saved": {"began": 1},
        "path": path,
    }
    assert (place / "lines").read_text().splitlines() == ["0 started", "0 approved", "after"]
    assert set(line.call("HKEYS", KEYS.outputs(name))) == {b"0", b"1"}


def test_suspended_steps_keep_no_thread(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path
) -> None:
    """Fifty that poll beside each other on five threads; the active orchestrator is killed in their middle."""
    path = place / "lines"
    plans = []
    for _ in range(50):
        plan = client.plan("poll")
        plan.add("Polls", path=str(path), times=4, seconds=0.5)
        plans.append(plan)
    names = client.submit_all(plans)
    until("some have gone on", lambda: len(written(path)) >= 75)
    orchestrator.kill()
    start_program("orchestrator", node="node-b").ready()
    assert all(client.wait(name, 60) is PlanState.SUCCEEDED for name in names)
    lines = Counter(path.read_text().splitlines())
    assert lines == {f"{name} {left}": 1 for name in names for left in (4, 3, 2, 1, 0)}
    assert {client.output(name) for name in names} == {"poll"}


def test_event_that_comes_early_is_kept_and_an_optional_one_is_not(
    orchestrator: Program, worker: Program, client: Client, place: Path, line: Line
) -> None:
    plan = client.plan("two")
    with plan.sequence():
        plan.add("held", path=str(place / "held"), text="x", gate=str(place / "gate"))
        plan.add("waits", path=str(place / "lines"))
    name = client.submit(plan)
    until("it is accepted", lambda: submission.plan_state(line, KEYS, name))
    send(line, name, "maybe", step=1, optional=True)
    send(line, name, "early", 7, step=1)
    until("both are dealt with", lambda: line.call("XLEN", KEYS.inbox) == 0)
    (place / "gate").touch()
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    output = client.output(name)
    assert (output["event"], output["data"]) == ("early", 7)


def test_worker_dies_while_a_step_goes_on(
    orchestrator: Program, worker: Program, start_program: StartProgram, client: Client, place: Path, line: Line
) -> None:
    """Another worker goes on with the same event and the same saved state."""
    path, gate = place / "lines", place / "gate"
    name = submit(client, "Resumes", path=str(path), gate=str(gate))
    suspended(client, name)
    send(line, name, "go", 42)
    until("it goes on", lambda: written(path))
    worker.kill()
    start_program("worker", node="node-c").ready()
    report_death(line, KEYS, worker.incarnation)
    until("it goes on elsewhere", lambda: len(written(path)) == 2)
    gate.touch()
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.output(name) == 42
    assert path.read_text().splitlines() == ["go 42", "go 42"]


def test_failure_of_a_step_that_goes_on_is_tried_again_with_its_event(
    orchestrator: Program, worker: Program, client: Client, line: Line
) -> None:
    name = submit(client, "Slips")
    suspended(client, name)
    send(line, name, "go", [1])
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.output(name) == ["go", [1], "kept"]


def test_async(orchestrator: Program, worker: Program, client: Client, line: Line) -> None:
    name = submit(client, "waits_async")
    suspended(client, name)
    send(line, name, "go", "data")
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.output(name) == "data"


def test_too_much_to_save_is_a_failure(orchestrator: Program, worker: Program, client: Client) -> None:
    name = submit(client, "saves_too_much")
    assert client.wait(name, 30) is PlanState.PAUSED
    error = step_of(client, name).error
    assert error is not None
    assert error.kind == "output too large"
    assert error.message == "what it saves is 1,048,579 bytes, the most is 1,048,576"
