"""Two agents, one Redis: one active, one passive, both READY and both pinging; whoever fails, the other takes over.

In each: the plan that runs meanwhile finishes, and no step's result is counted twice.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from support.nodes import Node, StartNode
from support.plans import view_of
from support.programs import freeze, thaw, until, written
from support.server import Server


@pytest.fixture
def pair(start_node: StartNode) -> tuple[Node, Node]:
    """(active, passive)"""
    nodes = (start_node("node-a"), start_node("node-b"))
    for node in nodes:
        node.until_whole()
    active = next(node for node in nodes if node.status.startswith("active"))
    passive = next(node for node in nodes if node is not active)
    return active, passive


def submit(client: Client, path: Path, steps: int = 60) -> str:
    """Steps of 0.1 s that leave a line each, and one that depends on all of them."""
    plan = client.plan("work")
    done = [plan.add("note", path=str(path), text=str(step), seconds=0.1) for step in range(steps)]
    plan.add("echo", value=done)
    return client.submit(plan)


def finished(client: Client, plan: str, path: Path, *, again: bool = False) -> None:
    """It succeeded, each result stands once; each step ran once, or (with its worker lost) at least once."""
    assert client.wait(plan, 60) is PlanState.SUCCEEDED
    view = view_of(client, plan)
    assert view.counts == {"succeeded": view.total}
    assert all(step.result is not None and step.result.attempt == step.attempt for step in view.steps)
    lines = path.read_text().split()
    assert set(lines) == {str(step) for step in range(view.total - 1)}
    if not again:
        assert len(lines) == view.total - 1


def running(path: Path, lines: int = 5) -> None:
    until("steps run", lambda: len(written(path)) >= lines)


def test_one_active_one_passive_both_ready_both_pinging(pair: tuple[Node, Node]) -> None:
    active, passive = pair
    assert active.status == "active (epoch 1); workers 1/1; 0 steps queued"
    assert passive.status == f"passive (waiting on lock, held by {active.name}, epoch 1); workers 1/1"
    for node in pair:
        node.history.clear()
        node.until("pinging", lambda node: sum("WATCHDOG" in message for message in node.history) > 1)
        assert not any("READY" in message for message in node.history), "READY is said once"


def test_active_orchestrator_killed(pair: tuple[Node, Node], client: Client, place: Path) -> None:
    active, passive = pair
    plan = submit(client, place / "lines")
    running(place / "lines")
    active.kill_child("orchestrator")
    until("somebody active", lambda: "active" in {active.state(), passive.state()})
    finished(client, plan, place / "lines")
    until("both back", lambda: sorted([active.state(), passive.state()]) == ["active", "passive"])
    assert active.agent.poll() is None


def test_active_agent_killed(pair: tuple[Node, Node], client: Client, place: Path) -> None:
    active, passive = pair
    plan = submit(client, place / "lines")
    running(place / "lines")
    active.kill()
    until("nothing of the node lives", lambda: active.processes() == [], timeout=5.0)
    passive.until_status("active (epoch 2)")
    finished(client, plan, place / "lines", again=True)


def test_killed_agent_comes_back_and_reports_its_dead(pair: tuple[Node, Node], client: Client, place: Path) -> None:
    """With the node back before the heartbeats lapse, what its workers held runs again at once."""
    active, _ = pair
    plan = submit(client, place / "lines")
    running(place / "lines")
    active.kill()
    active.start()
    active.until_whole()
    until("the dead are reported", lambda: "death_delivered" in active.log.read_text())
    finished(client, plan, place / "lines", again=True)


def test_active_agent_stopped(pair: tuple[Node, Node], client: Client, place: Path) -> None:
    active, passive = pair
    plan = submit(client, place / "lines")
    running(place / "lines")
    assert active.stop() == 0
    active_words = [message["STATUS"] for message in active.history if "STATUS" in message]
    assert active.processes() == []
    passive.until_status("active (epoch 2)")
    finished(client, plan, place / "lines")
    assert active_words[0].startswith("starting")


def test_orchestrator_frozen_for_longer_than_the_ttl(
    pair: tuple[Node, Node], client: Client, place: Path, server: Server
) -> None:
    """The agent's watchdog (3 s) is longer than the ttl (2 s): the lease is lost before the child is replaced."""
    active, passive = pair
    plan = submit(client, place / "lines")
    running(place / "lines")
    pid = active.child("orchestrator")["pid"]
    freeze(pid)
    passive.until_status("active (epoch 2)")
    thaw(pid)
    active.until_status(f"passive (waiting on lock, held by {passive.name}, epoch 2)")
    assert active.child("orchestrator")["pid"] == pid, "it steps down in place"
    active.until_logged("deposed: epoch 1")
    finished(client, plan, place / "lines")


def test_worker_killed_with_steps_running(pair: tuple[Node, Node], client: Client, place: Path) -> None:
    """Its agent lives, so its steps run again at once: long before a heartbeat (8 s) could lapse."""
    active, passive = pair
    plan = client.plan("work")
    for step in range(10):  # both workers are full
        plan.add("note", path=str(place / "lines"), text=str(step), seconds=3.0)
    name = client.submit(plan)
    running(place / "lines", 10)
    active.kill_child("worker")
    until("the steps run again", lambda: len(written(place / "lines")) == 15)
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    view = view_of(client, name)
    assert sum(step.attempt == 2 and step.losses == 1 for step in view.steps) == 5
    assert "silent" not in active.log.read_text() + passive.log.read_text()


def test_step_aimed_at_a_node_waits_for_it(pair: tuple[Node, Node], client: Client) -> None:
    _, passive = pair
    passive.stop()
    plan = client.plan("aimed")
    plan.add("where", node=passive.name)
    name = client.submit(plan)
    until("accepted", lambda: (view := client.read(name)) is not None and view.state == "running")
    passive.start()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    assert client.output(name) == passive.name


def test_stopping_agent_does_not_take_the_lock_back(pair: tuple[Node, Node]) -> None:
    """It stands aside while another can take it, for the whole time that its own steps need."""
    active, passive = pair
    active.stop()
    log = active.log.read_text()
    assert log.count("active: epoch") == 1, log
    passive.until_status("active (epoch 2)")


def test_handover_under_load(pair: tuple[Node, Node], client: Client) -> None:
    """A stop in the midst of much work: the lock goes to the other before the work is done, and nothing is lost."""
    active, passive = pair
    plan = client.plan("much")
    for _ in range(60_000):
        plan.add("nothing")
    name = client.submit(plan)
    until(
        "it is under way", lambda: (view := client.read(name, steps=False)) and view.counts.get("succeeded", 0) > 3_000
    )
    active.agent.terminate()
    passive.until_status("active (epoch 2)")
    view = view_of(client, name, steps=False)
    assert view.state == "running"
    assert client.wait(name, 180) is PlanState.SUCCEEDED
    assert active.stop() == 0
