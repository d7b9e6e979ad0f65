"""What becomes of a plan when a step has failed for good: it pauses, goes on without it, or fails."""

from __future__ import annotations

from pathlib import Path

from chargehand.client import Client
from chargehand.plan.life import PlanState
from support.commands import Done, chargehand
from support.plans import view_of
from support.programs import Program, StartProgram, until, write_config
from support.server import Server


def test_skip(running: Program, client: Client, place: Path) -> None:
    """The plan goes on without it, and says so."""
    plan = client.plan("some")
    with plan.sequence():
        plan.add("skippable", path="/nowhere")
        plan.add("note", path=str(place / "lines"), text="after")
    name = client.submit(plan)
    assert client.wait(name, 20) is PlanState.SUCCEEDED
    assert (place / "lines").read_text() == "after\n"
    view = view_of(client, name)
    assert view.counts == {"succeeded": 1, "skipped": 1}
    assert view.steps[0].error is not None
    assert view.steps[0].error.kind == "FileNotFoundError"


def test_output_of_a_skipped_step_is_missed_by_name(running: Program, client: Client) -> None:
    plan = client.plan("some")
    plan.add("echo", value=plan.add("skippable", path="/nowhere"))
    name = client.submit(plan)
    assert client.wait(name, 20) is PlanState.PAUSED
    view = view_of(client, name)
    assert view.steps[1].error is not None
    assert "the output of step 0 is not there" in view.steps[1].error.message


def test_fail(running: Program, start_program: StartProgram, client: Client, place: Path) -> None:
    """Nothing new starts, what runs is waited for, and the plan ends as failed, over a takeover too."""
    plan = client.plan("some")
    with plan.sequence():
        plan.add("note", path=str(place / "long"), text="x", seconds=3.0)
        plan.add("note", path=str(place / "never"), text="x")
    plan.add("fatal", path="/nowhere")
    name = client.submit(plan)
    until("it is failing", lambda: (found := client.read(name)) is not None and found.state == "failing")
    running.kill()
    start_program("orchestrator", node="node-b").ready()
    assert client.wait(name, 20) is PlanState.FAILED
    assert not (place / "never").exists()
    view = view_of(client, name)
    assert [step.state for step in view.steps] == ["succeeded", "waiting", "failed"]


def test_somebody_skips_a_failed_step(
    running: Program, start_program: StartProgram, client: Client, place: Path, server: Server
) -> None:
    """Of two that failed, one after the other; the orchestrator dies between."""
    plan = client.plan("some")
    with plan.sequence():
        with plan.concurrence():
            for _ in range(2):
                plan.add("fails_until", path="/nowhere")
        plan.add("note", path=str(place / "lines"), text="after")
    name = client.submit(plan)
    assert client.wait(name, 20) is PlanState.PAUSED
    config = write_config(place, server.url, node="reader")

    def skip(*steps: str) -> Done:
        return chargehand("plan", "skip", name, *steps, config=config)

    refused = skip("2")
    assert (refused.returncode, refused.stderr) == (
        1,
        f"chargehand: step 2 of plan {name} is waiting: only a step that failed can be skipped\n",
    )
    assert skip("0").returncode == 0
    until("one is skipped", lambda: (view := client.read(name)) is not None and view.counts.get("skipped") == 1)
    until("it is paused again", lambda: (view := client.read(name)) is not None and view.state == "paused")
    running.kill()
    start_program("orchestrator", node="node-b").ready()
    assert not (place / "lines").exists()
    assert skip("1").stdout == f"{name} goes on without step 1\n"
    until("it succeeded", lambda: (view := client.read(name)) is not None and view.state == "succeeded")
    assert (place / "lines").read_text() == "after\n"
