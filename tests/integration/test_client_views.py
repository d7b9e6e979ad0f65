"""What a plan's view says while the plan is under way: what holds it up, how far it is, how its sub-plans are."""

from __future__ import annotations

import time
from pathlib import Path

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from support.plans import view_of
from support.programs import Program, StartProgram, until, write_config
from support.server import Server

ONE_AT_ONCE = """
[[action]]
name = "waits_for"
argv = ["/bin/sh", "-c", "touch {path}.begun; until [ -e {path} ]; do sleep 0.02; done"]
params.path = { type = "string" }
limit = 1
"""
NO_ROOM = "for room under the limit of action 'waits_for'"


def test_nobody_is_active(client: Client) -> None:
    plan = client.plan("nothing")
    plan.add("nothing")
    view = view_of(client, client.submit(plan))
    assert view.state == "submitted"
    assert view.waits == ["the orchestrator has not looked at it yet: is one active? (chargehand status)"]


def test_room_under_a_limit(start_program: StartProgram, place: Path, server: Server) -> None:
    """Told of the plan that has none, and still told after a takeover."""
    first = start_program("orchestrator", extra=ONE_AT_ONCE).ready()
    start_program("worker", extra=ONE_AT_ONCE).ready()
    settings = load(write_config(place, server.url, node="client", extra=ONE_AT_ONCE)).settings
    with Client(settings, load_actions(settings).actions) as client:
        names = []
        for flag in ("a", "b"):
            plan = client.plan("waits_for")
            plan.add("waits_for", path=str(place / flag))
            names.append(client.submit(plan))
            until("it is accepted", lambda: view_of(client, names[-1]).state == "running")
        until("the first runs", (place / "a.begun").exists)
        until(
            "the second waits",
            lambda: view_of(client, names[1]).waits == ["for room under the limit of action 'waits_for'"],
        )
        assert view_of(client, names[0]).waits == []
        first.kill()
        start_program("orchestrator", node="node-b", extra=ONE_AT_ONCE).ready()
        assert view_of(client, names[1]).waits == [NO_ROOM]
        assert not (place / "b.begun").exists()
        for flag in ("a", "b"):
            (place / flag).touch()
        for name in names:
            assert client.wait(name, 30) is PlanState.SUCCEEDED
        assert view_of(client, names[1]).waits == []


def test_progress_of_steps_and_plan(running: Program, client: Client, place: Path) -> None:
    plan = client.plan("work")
    plan.add("nothing")
    plan.add("tells", gate=str(place / "gate"))
    name = client.submit(plan)
    until("it told", lambda: view_of(client, name).steps[1].progress is not None)
    until("one is done with", lambda: view_of(client, name).counts.get("succeeded") == 1)
    view = view_of(client, name)
    progress = view.steps[1].progress
    assert progress is not None
    assert (progress.fraction, progress.message) == (0.5, "half way")
    assert view.progress == 0.75
    (place / "gate").touch()
    client.wait(name, 20)
    assert view_of(client, name).progress == 1.0


def test_counts_of_sub_plans_while_they_run(running: Program, client: Client, place: Path) -> None:
    plan = client.plan("bulk")
    plan.add("bulk", path=str(place / "lines"), count=20, limit=1, seconds=0.1)
    name = client.submit(plan)

    def some_are_done() -> bool:
        counts = view_of(client, name).steps[0].children
        return counts is not None and 0 < counts.succeeded < 20

    until("some are done", some_are_done)
    children = client.children(name, 0)
    assert children.total == 20
    assert sum(children.counts.values()) == 20
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    children = client.children(name, 0, first=5, most=3)
    assert children.counts == {"succeeded": 20}
    assert [child.plan for child in children.plans] == [f"{name}.0.{number}" for number in (5, 6, 7)]
    assert {child.parent for child in children.plans} == {(name, 0)}


def test_children_of_the_latest_generation(running: Program, client: Client, place: Path) -> None:
    """Of a step that was tried again, each item's latest sub-plan: those that had succeeded were not started again."""
    plan = client.plan("some_fail")
    plan.add("some_fail", path=str(place / "lines"), count=6, gate=str(place / "gate"))
    name = client.submit(plan)
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    children = client.children(name, 0)
    assert children.counts == {"succeeded": 6}
    assert [child.plan for child in children.plans] == [
        f"{name}.0.{number}" + (".1" if number % 3 == 0 else "") for number in range(6)
    ]


def test_times_from_now_are_counted_by_the_clock_of_redis(running: Program, client: Client, server: Server) -> None:
    line = server.line()
    seconds, _ = line.call("TIME")
    line.close()
    plan = client.plan("nothing", start_at="1h", start_before=7_200)
    plan.add("nothing")
    view = view_of(client, client.submit(plan))
    assert abs(view.start_at_ms - (int(seconds) + 3_600) * 1000) < 60_000
    assert view.start_before_ms - view.start_at_ms == 3_600_000
    assert view.submitted_ms <= time.time() * 1000
