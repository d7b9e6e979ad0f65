"""What a plan's view says while the plan is under way: what holds it up, how far it is, how its sub-plans are."""

from __future__ import annotations

import time
from pathlib import Path

from chargehand.client import Client
from chargehand.config.load import load
from chargehand.decoding import decode
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store.plans import ChildCounts
from chargehand.wire import STEPS_A_PART
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
NO_ROOM = "step 0 waits for room under the limit of action 'waits_for'"


def test_nobody_is_active(client: Client) -> None:
    plan = client.plan("nothing")
    plan.add("nothing")
    view = view_of(client, client.submit(plan))
    assert view.state == "submitted"
    assert view.waits == ["no orchestrator is active, so nothing is decided"]


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
            lambda: view_of(client, names[1]).waits == [NO_ROOM],
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


def test_what_steps_wait_for(running: Program, client: Client, place: Path) -> None:
    """For a node that is away, a queue that nobody serves, a free thread, an event, a time, their sub-plans."""
    plan = client.plan("stuck")
    plan.add("where", node="node-z")
    plan.add("where", node="node-z")
    plan.add("urgent", path=str(place / "urgent"), text="x")
    plan.add("waits", path=str(place / "waits"))
    plan.add("Polls", path=str(place / "polls"), times=2, seconds=3_600.0)
    plan.add("tries_in_an_hour", path=str(place / "tries"), flag="/nowhere")
    plan.add("bulk", path=str(place / "lines"), count=3, rate="1/h")
    name = client.submit(plan)
    counts = {"queued": 3, "suspended": 3, "retrying": 1}
    until("all wait", lambda: view_of(client, name).counts == counts)
    until("one sub-plan has ended", lambda: (view_of(client, name).steps[6].children or ChildCounts(0, 0, 0)).succeeded)
    waits = view_of(client, name).waits
    assert waits[:2] == [
        "steps 0, 1 wait for node 'node-z': it is away",
        "step 2 waits for a worker: none serves 'urgent'",
    ]
    assert waits[2] == "step 3 waits for an event (chargehand plan event)"
    assert waits[3].startswith("step 4 waits for an event, or until 20")
    assert waits[4].startswith("step 5 waits for the next attempt, at 20")
    client.halt(name)
    until("it is halted", lambda: view_of(client, name).state == "halted")
    assert view_of(client, name).waits == []


def test_all_threads_are_busy(running: Program, client: Client, place: Path) -> None:
    plan = client.plan("busy")
    for number in range(7):
        plan.add("held", path=str(place / "lines"), text=str(number), gate=str(place / "gate"))
    name = client.submit(plan)
    busy = "2 steps in the queue 'default', 5 of its 5 threads busy"
    until("two wait", lambda: [wait.partition(": ")[2] for wait in view_of(client, name).waits] == [busy])
    (place / "gate").touch()
    assert client.wait(name, 30) is PlanState.SUCCEEDED


def test_somebody_is_to_decide(running: Program, client: Client) -> None:
    plan = client.plan("fails")
    plan.add("fails_until", path="/nowhere")
    name = client.submit(plan)
    assert client.wait(name, 30) is PlanState.PAUSED
    assert view_of(client, name).waits == [
        (
            "it is paused: step 0 (fails_until) failed, and somebody is to decide "
            "(FileNotFoundError: /nowhere is not there yet)"
        )
    ]


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


def test_a_large_plan_is_read_part_by_part(running: Program, client: Client) -> None:
    """Its definition lies in Redis in three parts; what its steps have left is read with it, apart from it, or not."""
    plan = client.plan("work")
    for number in range(2 * STEPS_A_PART):
        plan.add("echo", value=f"{number:032}")
    plan.add("echo", value="last")
    name = client.submit(plan)
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    view = view_of(client, name)
    assert [step.index for step in view.steps] == list(range(2 * STEPS_A_PART + 1))
    assert {step.state for step in view.steps} == {"succeeded"}
    assert [decode(step.result.output) for step in view.steps[1_998:] if step.result] == [
        f"{1_998:032}",
        f"{1_999:032}",
        "last",
    ]
    bare = client.read(name, results=False)
    assert bare is not None
    assert {step.result for step in bare.steps} == {None}
    assert client.results(name, [1_999]) == {1_999: view.steps[1_999].result}
    assert client.results(name, []) == client.results("of-no-plan", [0]) == {}
