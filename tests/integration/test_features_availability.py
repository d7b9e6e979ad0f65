"""High availability: rows of docs/features.md that are about the nodes themselves, with work in flight on both."""

from __future__ import annotations

from pathlib import Path

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.store.keys import Keys
from chargehand.supervisor.asking import query
from support.faults import counted_once, lines_of, nothing_left
from support.nodes import StartNode
from support.plans import view_of
from support.programs import until
from support.server import Server

KEYS = Keys("default")


def test_reload_of_the_active(start_node: StartNode, client: Client, server: Server, place: Path) -> None:
    """A reload that replaces its worker stops no work and keeps the lease; a drain hands it over first.

    Then the new active orchestrator is killed, so that what was in flight from the start ends under a third epoch.
    """
    active = start_node("node-a")
    active.until_whole()
    other = start_node("node-b")
    other.until_whole()
    lines, gate = place / "lines", place / "gate"
    plan = client.plan("work")
    with plan.sequence():
        with plan.concurrence():
            for node in (active.name, other.name):
                plan.add("held", path=str(lines), text=node, gate=str(gate), node=node)
        plan.add("note", path=str(lines), text="after")
    name = client.submit(plan)
    until("both run", lambda: lines_of(lines).total() == 2)
    line = server.line()
    token = line.call("GET", KEYS.lease)
    pids = {child["name"]: child["pid"] for child in active.describe()["children"]}

    active.config.write_text(active.config.read_text() + '[[worker]]\nname = "worker"\nthreads = 2\n')
    assert query(active.runtime_dir / "agent.sock", "io.chargehand.Agent.Reload", timeout=30.0) == {
        "changed": ["worker"]
    }
    active.until("the new worker is there", lambda node: "workers 1/1" in node.status)
    more = client.plan("more")
    more.add("where", node=active.name)
    meanwhile = client.submit(more)
    assert client.wait(meanwhile, 30) is PlanState.SUCCEEDED, "the new one serves while the old one still runs a step"
    after = {child["pid"] for child in active.describe()["children"]}
    assert set(pids.values()) < after, "the old worker drains beside the new one, the orchestrator is the same"
    assert line.call("GET", KEYS.lease) == token
    assert active.status.startswith("active (epoch 1)")

    query(active.runtime_dir / "agent.sock", "io.chargehand.Agent.Drain", {"reason": "test"}, timeout=30.0)
    other.until_status("active (epoch 2)")
    active.until_status("draining (1 step still runs)")
    other.kill_child("orchestrator")
    other.until_status("active (epoch 3)")
    view = view_of(client, name)
    assert [step.state for step in view.steps] == ["running", "running", "waiting"]
    gate.touch()
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    active.until_status("drained (by ")
    nothing_left(line, KEYS)
    counted_once(line, KEYS, [name, meanwhile])
    line.close()
    assert lines_of(lines) == {active.name: 1, other.name: 1, "after": 1}
    view = view_of(client, name)
    assert [step.attempt for step in view.steps] == [1, 1, 1]
