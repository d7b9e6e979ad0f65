"""A worker frozen until it was reaped, and a step that kills its workers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.keys import Keys
from chargehand.store.lease import report_death
from support.plans import view_of
from support.programs import Program, StartProgram, until, written
from support.server import Server

KEYS = Keys("default")


def test_frozen_until_reaped_then_resumed(
    start_program: StartProgram, client: Client, server: Server, place: Path
) -> None:
    """Its finish is stale, its take and beat are GONE, and it registers anew."""
    orchestrator = start_program("orchestrator").ready()
    frozen = start_program("worker", node="node-a", name="frozen").ready()
    plan = client.plan("work")
    for step in range(5):
        plan.add("note", path=str(place / "lines"), text=str(step), seconds=1.0)
    name = client.submit(plan)
    until("all five run", lambda: len(written(place / "lines")) == 5)
    frozen.freeze()
    start_program("worker", node="node-b", name="other").ready()
    assert client.wait(name, 60) is PlanState.SUCCEEDED, "they ran on the other worker"
    assert f"reaping {frozen.incarnation}: silent for too long, it owned 5 steps" in orchestrator.log.read_text()
    view = view_of(client, name)
    before = [step.result for step in view.steps]

    frozen.thaw()
    line = server.line()
    until("it is a member again", lambda: line.call("HEXISTS", KEYS.members, f"{frozen.incarnation}.1"))
    until("it says so", lambda: f"gone: {frozen.incarnation} was reaped" in frozen.log.read_text())
    view = view_of(client, name)
    assert [step.result for step in view.steps] == before, "nothing of the late results counts"
    assert all(step.attempt == 2 and step.losses == 1 for step in view.steps)
    assert line.call("KEYS", KEYS.own("*")) == []

    plan = client.plan("after")
    plan.add("where", node="node-a")
    assert client.wait(client.submit(plan), 30) is PlanState.SUCCEEDED, "it serves again"
    assert frozen.running


def test_poison_step_pauses_its_plan_and_takes_no_other_with_it(
    start_program: StartProgram, client: Client, server: Server, place: Path
) -> None:
    start_program("orchestrator").ready()
    plan = client.plan("poison")
    plan.add("kills_its_worker", path=str(place / "kills"))
    poison = client.submit(plan)
    plan = client.plan("innocent")
    for step in range(20):
        plan.add("note", path=str(place / "lines"), text=str(step), seconds=0.2)
    innocent = client.submit(plan)
    line = server.line()

    def died_or_done(worker: Program) -> bool:
        view = client.read(innocent, steps=False)
        return not worker.running or (view is not None and view.state == "succeeded")

    for _ in range(6):  # three deaths, and whoever is left finishes the rest
        worker = start_program("worker", node="node-a")
        until("it died or all is done", partial(died_or_done, worker))
        if worker.running:
            break
        report_death(line, KEYS, worker.incarnation)
    assert client.wait(poison, 30) is PlanState.PAUSED
    assert client.wait(innocent, 30) is PlanState.SUCCEEDED
    view = view_of(client, poison)
    assert view.steps[0].error is not None
    assert view.steps[0].error.message == "its worker died 3 times"
    assert (place / "kills").read_text().split() == ["killed"] * 3
    others = view_of(client, innocent)
    assert max(step.losses for step in others.steps) <= 2
