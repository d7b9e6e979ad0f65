"""Ended plans go by age, by state and by count: in the background, a few at once, and never one that can still move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.keys import Keys
from support.commands import chargehand
from support.programs import StartProgram, until, write_config
from support.server import Server

KEYS = Keys("default")


def submit(client: Client, count: int, action: str = "nothing", **inputs: Any) -> list[str]:
    plans = []
    for _ in range(count):
        plan = client.plan("some")
        plan.add(action, **inputs)
        plans.append(plan)
    return [client.submit(plan) for plan in plans]


def traces(server: Server, plan: str) -> int:
    line = server.line()
    try:
        found: int = line.call("EXISTS", KEYS.plan(plan), KEYS.states(plan), KEYS.records(plan), KEYS.outputs(plan))
        return found
    finally:
        line.close()


def indexed(server: Server, state: str) -> list[str]:
    line = server.line()
    try:
        return [plan.decode() for plan in line.call("ZRANGE", KEYS.index(state), 0, -1)]
    finally:
        line.close()


def test_by_age(start_program: StartProgram, client: Client, server: Server) -> None:
    start_program("orchestrator", extra='[retention]\nsucceeded = "500ms"\n').ready()
    start_program("worker").ready()
    (paused,) = submit(client, 1, "fails_until", path="/nowhere")
    assert client.wait(paused, 20) is PlanState.PAUSED
    plans = submit(client, 250)
    for plan in plans:
        assert client.wait(plan, 20) is PlanState.SUCCEEDED
    until("all are gone", lambda: indexed(server, "S") == [], timeout=60)
    assert sum(traces(server, plan) for plan in plans) == 0
    assert indexed(server, "P") == [paused], "what can still be resumed is kept, however old"
    assert traces(server, paused) >= 2


def test_by_count_the_oldest_first(start_program: StartProgram, client: Client, server: Server) -> None:
    start_program("orchestrator", extra="[retention]\nmost = 20\n").ready()
    start_program("worker").ready()
    plans = submit(client, 170)
    for plan in plans:
        client.wait(plan, 20)
    until("twenty are left", lambda: len(indexed(server, "S")) == 20, timeout=60)
    left = indexed(server, "S")
    assert all(traces(server, plan) for plan in left)
    assert sum(traces(server, plan) for plan in plans if plan not in left) == 0
    views = client.list(state="succeeded", most=100)
    assert {view.plan for view in views} == set(left)


@pytest.mark.parametrize("state", ["succeeded", "paused"])
def test_listing_by_state(start_program: StartProgram, client: Client, state: str) -> None:
    start_program("orchestrator").ready()
    start_program("worker").ready()
    done = submit(client, 3)
    (paused,) = submit(client, 1, "fails_until", path="/nowhere")
    for plan in [*done, paused]:
        client.wait(plan, 20)
    found = [view.plan for view in client.list(state=state, most=50)]
    assert sorted(found) == sorted(done if state == "succeeded" else [paused])


def test_a_takeover_in_the_middle_loses_nothing_that_is_kept(
    start_program: StartProgram, client: Client, server: Server
) -> None:
    """Purging is a commit like any other: a successor goes on with it."""
    first = start_program("orchestrator", extra="[retention]\nmost = 5\n").ready()
    start_program("worker").ready()
    plans = submit(client, 400)
    for plan in plans[::40]:
        client.wait(plan, 20)
    first.kill()
    start_program("orchestrator", node="node-b", extra="[retention]\nmost = 5\n").ready()
    for plan in submit(client, 3):
        assert client.wait(plan, 30) is PlanState.SUCCEEDED
    until("five are left", lambda: len(indexed(server, "S")) == 5, timeout=60)
    assert all(traces(server, plan) for plan in indexed(server, "S"))


def export(place: Path, server: Server, *words: str) -> list[dict[str, Any]]:
    config = write_config(place, server.url, node="reader")
    done = chargehand("plan", "export", *words, config=config)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_export_before_they_go(start_program: StartProgram, client: Client, server: Server, place: Path) -> None:
    """Every plan once, whole, though hundreds ended in one moment."""
    start_program("orchestrator").ready()
    start_program("worker").ready()
    plans = []
    for number in range(450):
        plan = client.plan("some")
        plan.add("echo", value=number)
        plans.append(plan)
    names = client.submit_all(plans)
    (paused,) = submit(client, 1, "fails_until", path="/nowhere")
    for name in [*names, paused]:
        client.wait(name, 30)
    found = export(place, server)
    assert sorted(one["plan"] for one in found) == sorted([*names, paused])
    done = {one["plan"]: one["steps"][0]["result"]["output"] for one in found if one["state"] == "succeeded"}
    assert [done[name] for name in names] == list(range(450))
    (failed,) = export(place, server, "--state", "paused")
    assert failed["steps"][0]["error"]["kind"] == "FileNotFoundError"
    assert export(place, server, "--until", "1h") == []
    assert len(export(place, server, "--since", "1h", "--state", "succeeded")) == 450


def test_export_refuses_what_is_no_time(place: Path, server: Server) -> None:
    config = write_config(place, server.url, node="reader")
    done = chargehand("plan", "export", "--since", "yesterday", config=config)
    assert done.returncode == 2
    assert "'yesterday' is no time: write how long ago" in done.stderr
