"""Looking for plans: by state, action, label and time, the newest first, and never by going through all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.keys import Keys
from support.programs import Program, StartProgram, until
from support.server import Server

KEYS = Keys("default")


def submit(client: Client, action: str, *labels: str, **inputs: Any) -> str:
    plan = client.plan(action, labels=labels)
    plan.add(action, **inputs)
    return client.submit(plan)


def found(client: Client, **wanted: Any) -> list[str]:
    return [view.plan for view in client.search(**wanted)]


def test_by_action_label_and_state(running: Program, start_program: StartProgram, client: Client) -> None:
    """The indexes are written by the commits that make the plans, so a successor finds what its predecessor indexed."""

    def succeeded(action: str, *labels: str) -> str:
        """One after another: those that have ended are listed by when they did."""
        name = submit(client, action, *labels)
        assert client.wait(name, 20) is PlanState.SUCCEEDED
        return name

    first = succeeded("nothing", "nightly", "rack 7")
    second = succeeded("nothing", "nightly")
    third = succeeded("where", "rack 7")
    running.kill()
    paused = submit(client, "fails_until", "nightly", path="/nowhere")
    assert found(client, labels=["nightly"]) == [paused, second, first], "one that is not accepted yet comes first"
    start_program("orchestrator", node="node-b").ready()
    assert client.wait(paused, 20) is PlanState.PAUSED
    assert found(client, action="nothing") == [second, first]
    assert found(client, labels=["nightly"]) == [paused, second, first]
    assert found(client, labels=["nightly", "rack 7"]) == [first]
    assert found(client, labels=["nightly"], state="paused") == [paused]
    assert found(client, labels=["nightly"], action="nothing", most=1) == [second]
    assert found(client, state="succeeded") == [third, second, first]
    assert found(client) == [paused, third, second, first]
    assert found(client, labels=["weekly"]) == []
    assert found(client, action="rack 7") == []
    assert found(client, state="halted") == []


def test_by_time_of_submission(running: Program, client: Client) -> None:
    start = datetime.now(UTC) - timedelta(hours=1)
    first = submit(client, "nothing")
    client.wait(first, 20)
    between = datetime.now(UTC) + timedelta(milliseconds=1)
    until("the next millisecond", lambda: datetime.now(UTC) > between + timedelta(milliseconds=1))
    second = submit(client, "nothing")
    client.wait(second, 20)
    kinds: list[dict[str, object]] = [{}, {"action": "nothing"}, {"state": "succeeded"}]
    for kind in kinds:
        assert found(client, since=start, until=between, **kind) == [first]
        assert found(client, since=between, **kind) == [second]
        assert found(client, since=start, **kind) == [second, first]
        assert found(client, until=start, **kind) == []


def test_pages(running: Program, client: Client) -> None:
    """More plans than a page of an index, many of the same moment: each once, the newest first."""
    plans = []
    for number in range(1_300):
        plan = client.plan("nothing", labels=["even" if number % 2 == 0 else "odd"])
        plan.add("nothing")
        plans.append(plan)
    names = client.submit_all(plans)
    for name in names[::100]:
        client.wait(name, 60)
    until("all have ended", lambda: len(found(client, state="succeeded", most=2_000)) == 1_300)
    assert sorted(found(client, action="nothing", most=2_000)) == sorted(names)
    assert sorted(found(client, labels=["odd"], state="succeeded", most=2_000)) == sorted(names[1::2])
    assert sorted(found(client, most=2_000)) == sorted(names)
    latest = found(client, action="nothing", most=10)
    views = client.search(action="nothing", most=1_300)
    assert latest == [view.plan for view in views[:10]]
    submitted = [view.submitted_ms for view in views]
    assert submitted == sorted(submitted, reverse=True)


def test_sub_plans_are_left_out_unless_asked_for(running: Program, client: Client, place: Path) -> None:
    name = submit(client, "bulk", path=str(place / "lines"), count=30)
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    assert found(client) == [name]
    assert found(client, state="succeeded") == [name]
    assert len(found(client, children=True)) == 31
    assert found(client, action="child") == []
    assert len(found(client, action="child", children=True)) == 30


def test_the_narrowest_index_is_walked(running: Program, client: Client, server: Server) -> None:
    """A rare label among many plans costs a look at its own plans, whatever else is asked for."""
    plans = []
    for _ in range(600):
        plan = client.plan("nothing")
        plan.add("nothing")
        plans.append(plan)
    for name in client.submit_all(plans)[::50]:
        client.wait(name, 60)
    rare = submit(client, "nothing", "rare")
    client.wait(rare, 20)
    line = server.line()
    try:

        def commands() -> int:
            rows = line.call("INFO", "commandstats").decode().splitlines()
            return sum(int(row.partition("calls=")[2].partition(",")[0]) for row in rows if "lrange" in row)

        before = commands()
        assert found(client, labels=["rare"], state="succeeded", action="nothing") == [rare]
        assert commands() - before == 1, "one plan was read"
    finally:
        line.close()
