"""A step that reboots its node has succeeded when the node is back with another boot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from chargehand.client import Client
from chargehand.linux.boot import boot_id
from chargehand.plan.life import PlanState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.lease import report_death
from support.plans import view_of
from support.programs import Program, StartProgram, until, written

KEYS = Keys("default")

COMMAND = """
[[action]]
name = "reboot"
argv = ["/bin/sh", "-c", "echo again >> $1; exec sleep 600", "sh", "{path}"]
params.path = { type = "string" }
reboots = true
"""


@pytest.fixture
def extra() -> str:
    return COMMAND


def reboot(line: Line, worker: Program) -> None:
    """What a reboot leaves: the process is gone, and what it last said of itself names a boot that is over."""
    worker.kill()
    member = msgspec.json.decode(line.call("HGET", KEYS.members, worker.incarnation))
    assert member["boot"] == boot_id()
    line.call("HSET", KEYS.members, worker.incarnation, msgspec.json.encode({**member, "boot": "the boot before"}))


@pytest.mark.parametrize(
    ("action", "output"),
    [
        ("reboots", {"rebooted": True}),
        ("reboot", {"exit": None, "stdout": "", "stderr": "", "rebooted": True}),
    ],
)
def test_rebooted(
    start_program: StartProgram, client: Client, place: Path, line: Line, action: str, output: dict[str, Any]
) -> None:
    """It does not run again; the next step runs on the node. The active orchestrator went down with it."""
    orchestrator = start_program("orchestrator", node="node-r").ready()
    worker = start_program("worker", node="node-r", extra=COMMAND).ready()
    path = place / "lines"
    given = {"path": str(path)} | ({"gate": str(place / "gate")} if action == "reboots" else {})
    plan = client.plan("maintain")
    with plan.sequence():
        plan.add(action, node="node-r", **given)
        plan.add("where", node="node-r")
    name = client.submit(plan)
    until("it runs", lambda: written(path))
    reboot(line, worker)
    orchestrator.kill()
    start_program("orchestrator", node="node-b").ready()
    report_death(line, KEYS, worker.incarnation)
    start_program("worker", node="node-r", extra=COMMAND).ready()
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.output(name, 0) == output
    assert client.output(name, 1) == "node-r"
    assert len(path.read_text().splitlines()) == 1


def test_only_its_worker_died(start_program: StartProgram, client: Client, place: Path, line: Line) -> None:
    """In the same boot it runs again."""
    start_program("orchestrator").ready()
    worker = start_program("worker", node="node-r").ready()
    path, gate = place / "lines", place / "gate"
    plan = client.plan("maintain")
    plan.add("reboots", node="node-r", path=str(path), gate=str(gate))
    name = client.submit(plan)
    until("it runs", lambda: written(path))
    worker.kill()
    report_death(line, KEYS, worker.incarnation)
    start_program("worker", node="node-r").ready()
    until("it runs again", lambda: len(written(path)) == 2)
    gate.touch()
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert client.output(name) == "did not reboot"
    assert path.read_text().splitlines() == ["attempt 1", "attempt 2"]


def test_another_node_takes_it(start_program: StartProgram, client: Client, place: Path, line: Line) -> None:
    """Its queue is not that of one node: another neither repeats the reboot nor believes in it."""
    start_program("orchestrator").ready()
    worker = start_program("worker", node="node-r").ready()
    path = place / "lines"
    plan = client.plan("maintain")
    plan.add("reboots", path=str(path), gate=str(place / "gate"))
    name = client.submit(plan)
    until("it runs", lambda: written(path))
    reboot(line, worker)
    report_death(line, KEYS, worker.incarnation)
    start_program("worker", node="node-b").ready()
    assert client.wait(name, 30) is PlanState.PAUSED
    (step,) = view_of(client, name).steps
    assert step.error is not None
    assert step.error.message.startswith(
        "it went down with node-r, to reboot it, and node-b cannot tell whether that was"
    )
    assert written(path) == ["attempt 1"]
