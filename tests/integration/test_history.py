"""The history of a plan: who submitted it, each state, each attempt (node, worker, times, error), what people asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargehand.client import Client, NotPossible
from chargehand.plan.life import PlanState
from support.plans import view_of
from support.programs import StartProgram, until, written


def test_of_a_plan_that_simply_ran(start_program: StartProgram, client: Client) -> None:
    start_program("orchestrator").ready()
    worker = start_program("worker").ready()
    plan = client.plan("chain")
    plan.add("chain", length=2)
    name = client.submit(plan)
    client.wait(name, 20)
    moments = client.history(name)
    assert [(one.what, one.text, one.step) for one in moments] == [
        ("submitted", "", None),
        ("succeeded", "", 0),
        ("succeeded", "", 1),
        ("plan", "succeeded", None),
    ]
    view = view_of(client, name)
    assert moments[0].by == view.by
    assert moments[0].ms == view.submitted_ms
    for one in moments[1:3]:
        assert (one.attempt, one.node, one.worker) == (1, "node-a", worker.incarnation)
        assert 0 < one.started_ms <= one.ms


def test_of_everything_that_can_happen_over_a_takeover(
    start_program: StartProgram, client: Client, place: Path
) -> None:
    """What was written before the active orchestrator died stands beside what its successor writes."""
    first = start_program("orchestrator").ready()
    worker = start_program("worker").ready()
    lines, flag = place / "lines", place / "flag"
    plan = client.plan("much")
    plan.add("waits", path=str(lines))
    plan.add("fails_until", path=str(flag))
    plan.add("held", path=str(place / "held"), text="x", gate=str(place / "gate"))
    name = client.submit(plan)
    until("it runs", lambda: written(place / "held"))
    until("one failed", lambda: view_of(client, name).counts.get("failed"))
    worker.kill()
    first.kill()
    start_program("orchestrator", node="node-b").ready()
    start_program("worker", node="node-b").ready()
    (place / "gate").touch()
    client.send_event(name, 0, "go", {"speed": 3})
    assert client.wait(name, 30) is PlanState.PAUSED
    flag.touch()
    client.resume(name)
    until("it ended", lambda: view_of(client, name).state == "succeeded")
    moments = client.history(name)
    told = [(one.what, one.text, one.step, one.attempt) for one in moments]
    assert told[0] == ("submitted", "", None, 0)
    assert told[-1] == ("plan", "succeeded", None, 0)
    assert [one for one in told if one[0] == "plan"] == [
        ("plan", "paused", None, 0),
        ("plan", "running", None, 0),
        ("plan", "succeeded", None, 0),
    ]
    by_kind = {one.what: one for one in moments}
    assert {one.what for one in moments} == {
        *("submitted", "plan", "asked", "suspended", "event", "failed", "lost", "succeeded")
    }
    failed = by_kind["failed"]
    assert (failed.step, failed.attempt, failed.node, failed.worker) == (1, 1, "node-a", worker.incarnation)
    assert failed.error is not None
    assert failed.error.kind == "FileNotFoundError"
    assert 0 < failed.started_ms <= failed.error.ended_ms
    lost = by_kind["lost"]
    assert (lost.step, lost.attempt, lost.worker) == (2, 1, worker.incarnation)
    event = by_kind["event"]
    assert (event.step, event.text, event.by) == (0, "go", moments[0].by)
    asked = by_kind["asked"]
    assert (asked.text, asked.by) == ("resume", moments[0].by)
    attempts = {one.step: (one.attempt, one.node) for one in moments if one.what == "succeeded"}
    assert attempts == {0: (2, "node-b"), 1: (2, "node-b"), 2: (2, "node-b")}


def test_of_a_plan_that_does_not_exist(client: Client) -> None:
    with pytest.raises(NotPossible, match=r"^there is no plan 'nope' \(chargehand plan list\)$"):
        client.history("nope")
