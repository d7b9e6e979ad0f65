"""Change without restart: reload, restart of a child, step-down, drain; asked on the control socket."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from chargehand.client import Client
from chargehand.plan.life import PlanState
from chargehand.supervisor.asking import ControlError, query
from support.nodes import Node, StartNode
from support.plans import view_of
from support.programs import until, write_config, written
from support.server import free_port

GROUPS = '[[worker]]\nname = "worker"\nprocesses = {processes}\n[[worker]]\nname = "other"\nqueues = ["other"]\n'


def ask(node: Node, method: str, **parameters: Any) -> dict[str, Any]:
    return query(node.runtime_dir / "agent.sock", f"io.chargehand.Agent.{method}", parameters, timeout=30.0)


def rewrite(node: Node, old: str, new: str) -> None:
    text = node.config.read_text()
    assert old in text
    node.config.write_text(text.replace(old, new))


def pids(node: Node) -> dict[str, int]:
    return {child["name"]: child["pid"] for child in node.describe()["children"]}


def told(node: Node) -> list[str]:
    """What systemd was told, in order: assignments, one a line."""
    node.hear()
    return [f"{name}={value}" for message in node.history for name, value in message.items()]


def test_resize_while_500_steps_run(start_node: StartNode, client: Client, place: Path) -> None:
    """Nothing is lost, nothing runs twice, and the other children stay who they are."""
    node = start_node("node-a", extra=GROUPS.format(processes=1))
    node.until_whole("workers 2/2")
    before = pids(node)
    plan = client.plan("many")
    for number in range(500):
        plan.add("note", path=str(place / "lines"), text=str(number), seconds=0.01)
    name = client.submit(plan)
    until("some have run", lambda: len(written(place / "lines")) > 20)
    rewrite(node, "processes = 1", "processes = 3")
    assert sorted(ask(node, "Reload")["changed"]) == ["worker", "worker-1", "worker-2", "worker-3"]
    node.until("all are there", lambda node: "workers 4/4" in node.status)
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    lines = (place / "lines").read_text().split()
    assert sorted(lines, key=int) == [str(number) for number in range(500)], "each once"
    until(
        "the old one is gone", lambda: set(pids(node)) == {"orchestrator", "other", "worker-1", "worker-2", "worker-3"}
    )
    after = pids(node)
    assert after["orchestrator"] == before["orchestrator"]
    assert after["other"] == before["other"]
    view = view_of(client, name)
    assert {step.attempt for step in view.steps} == {1}


def test_a_changed_worker_is_replaced_without_a_gap(start_node: StartNode, client: Client, place: Path) -> None:
    """The new one is READY before the old one drains, and the old one finishes what it runs."""
    node = start_node("node-a")
    node.until_whole()
    plan = client.plan("long")
    plan.add("note", path=str(place / "lines"), text="x", seconds=3.0)
    name = client.submit(plan)
    until("it runs", lambda: written(place / "lines"))
    old = pids(node)["worker"]
    node.config.write_text(node.config.read_text() + '[[worker]]\nname = "worker"\nthreads = 2\n')
    assert ask(node, "Reload") == {"changed": ["worker"]}
    until("both are there", lambda: len([one for one in node.describe()["children"] if one["kind"] == "worker"]) == 2)
    assert client.wait(name, 30) is PlanState.SUCCEEDED
    until("the old one is gone", lambda: old not in [one["pid"] for one in node.describe()["children"]])
    log = node.log.read_text()
    ready = [match.start() for match in re.finditer("child_ready child=worker", log)]
    assert len(ready) == 2
    assert ready[1] < log.index("child_draining child=worker")
    view = view_of(client, name)
    assert view.steps[0].attempt == 1


def test_order_of_what_systemd_hears(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    seen = len(told(node))
    assert ask(node, "Reload") == {"changed": []}
    node.until("READY again", lambda node: "RELOADING=1" in told(node)[seen:] and "READY=1" in told(node)[seen:])
    fresh = told(node)[seen:]
    moment = next(line for line in fresh if line.startswith("MONOTONIC_USEC="))
    assert int(moment.partition("=")[2]) > 0
    assert fresh.index("RELOADING=1") < fresh.index(moment) < fresh.index("READY=1")


@pytest.mark.parametrize("by_signal", [False, True])
def test_bad_file_is_refused_and_the_old_one_kept(start_node: StartNode, *, by_signal: bool) -> None:
    node = start_node("node-a")
    node.until_whole()
    before = pids(node)
    good = node.config.read_text()
    node.config.write_text(good + '[[worker]]\nname = "more"\nthreads = "many"\n')
    if by_signal:
        node.agent.send_signal(signal.SIGHUP)
    else:
        with pytest.raises(ControlError, match=f'{node.config}:[0-9]+: worker "more": threads: found'):
            ask(node, "Reload")
    node.until("it says so", lambda node: f"degraded: reload rejected: {node.config}:" in node.status)
    assert node.status.startswith("active (epoch 1), degraded: ")
    assert told(node).count("READY=1") == 2, "systemd is told that the reload is over"
    assert pids(node) == before
    node.config.write_text(good)
    ask(node, "Reload")
    node.until("it is forgiven", lambda node: "degraded" not in node.status)
    assert pids(node) == before


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('name = "node-a"', 'name = "node-b"', "node.name"),
        ("[redis]", '[executor]\nname = "else"\n[redis]', "executor.name"),
        ("node-a.state", "node-x.state", "agent.state_dir"),
    ],
)
def test_what_needs_a_restart_is_refused_by_name(start_node: StartNode, old: str, new: str, key: str) -> None:
    node = start_node("node-a")
    node.until_whole()
    rewrite(node, old, new)
    with pytest.raises(ControlError, match=f"^{key}: .*systemctl restart chargehand"):
        ask(node, "Reload")
    node.until("it says so", lambda node: f"reload rejected: {key}" in node.status)


def test_sighup_before_ready_says_nothing_untrue(place: Path) -> None:
    """No READY comes of a reload while it is not true yet."""
    config = write_config(place, f"redis://127.0.0.1:{free_port()}/0", node="node-a")
    config.write_text(config.read_text().replace("[agent]", '[agent]\nready_timeout = "60s"'))
    node = Node(place, config)
    try:
        node.until_status("starting: Redis ")
        node.agent.send_signal(signal.SIGHUP)
        until("it is done", lambda: "config_adopted" in node.log.read_text())
        assert ask(node, "Reload") == {"changed": []}
        assert not {"RELOADING=1", "READY=1"} & set(told(node))
    finally:
        assert node.stop() == 0


def test_workers_are_replaced_for_new_code(start_node: StartNode) -> None:
    node = start_node("node-a", extra=GROUPS.format(processes=2))
    node.until_whole("workers 3/3")
    before = pids(node)
    assert sorted(ask(node, "Reload", workers=True)["changed"]) == ["other", "worker-1", "worker-2"]
    until("all are new", lambda: not set(before.values()) - {before["orchestrator"]} & set(pids(node).values()))
    until("and whole", lambda: {one["state"] for one in node.describe()["children"]} == {"ready"})
    after = pids(node)
    assert after["orchestrator"] == before["orchestrator"]
    assert len(after) == 4
    log = node.log.read_text()
    starts = [match.start() for match in re.finditer("child_started child=(worker|other)", log)][3:]
    readies = [match.start() for match in re.finditer("child_ready child=(worker|other)", log)][3:]
    assert [start < ready for start, ready in zip(starts[1:], readies, strict=False)] == [False, False], "one at a time"


def test_restart_of_a_child(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    before = pids(node)
    assert ask(node, "Restart", child="orchestrator") == {"children": ["orchestrator"]}
    node.until_status("active (epoch 2)")
    until("the old one is gone", lambda: before["orchestrator"] not in pids(node).values())
    assert pids(node)["worker"] == before["worker"]
    with pytest.raises(ControlError, match='there is no child "nobody" here; there are: orchestrator, worker'):
        ask(node, "Restart", child="nobody")


def test_step_down(start_node: StartNode) -> None:
    first = start_node("node-a")
    first.until_whole()
    second = start_node("node-b")
    second.until_status("passive")
    with pytest.raises(ControlError, match="this node's orchestrator is passive; the lock is held by node-a"):
        ask(second, "StepDown")
    before = pids(first)
    ask(first, "StepDown")
    second.until_status("active (epoch 2)")
    first.until_status("passive (waiting on lock, held by node-b, epoch 2)")
    assert pids(first) == before
    ask(second, "StepDown")
    first.until_status("active (epoch 3)")


def test_alone_a_node_takes_the_lease_back(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    ask(node, "StepDown")
    node.until_status("active (epoch 2)")


def test_drain_is_kept_until_it_is_taken_back(start_node: StartNode, client: Client, place: Path) -> None:
    node = start_node("node-a")
    node.until_whole()
    other = start_node("node-b")
    other.until_whole()
    plan = client.plan("long")
    plan.add("note", path=str(place / "lines"), text="x", seconds=2.0, node="node-a")
    name = client.submit(plan)
    until("it runs", lambda: written(place / "lines"))
    assert ask(node, "Drain", reason="new disks")["state"] == "draining"
    other.until_status("active (epoch 2)")
    node.until_status("draining (1 step still runs)")
    node.until_status("drained (by root since ")
    assert node.status.endswith(": new disks)")
    assert client.wait(name, 20) is PlanState.SUCCEEDED
    view = view_of(client, name)
    assert view.steps[0].attempt == 1
    assert node.describe()["children"] == []
    assert node.stop() == 0
    node.start()
    node.until("READY", lambda node: "READY" in node.fields)
    assert node.status.startswith("drained (by root since "), "a reboot changes nothing"
    ask(node, "Undrain")
    node.until_status("passive (waiting on lock, held by node-b")
    node.until_whole()
    with pytest.raises(ControlError, match="this node is not drained"):
        ask(node, "Undrain")


def test_undrain_while_it_drains(start_node: StartNode, client: Client, place: Path) -> None:
    """New children serve at once, beside the old ones that still finish."""
    node = start_node("node-a")
    node.until_whole()
    plan = client.plan("long")
    plan.add("note", path=str(place / "lines"), text="x", seconds=3.0)
    name = client.submit(plan)
    until("it runs", lambda: written(place / "lines"))
    old = pids(node)
    ask(node, "Drain")
    until(
        "it drains",
        lambda: [one["state"] for one in node.describe()["children"] if one["pid"] == old["worker"]] == ["draining"],
    )
    ask(node, "Undrain")
    node.until("whole again", lambda node: node.status.startswith("active (epoch 2)") and "workers 1/1" in node.status)
    assert client.wait(name, 20) is PlanState.SUCCEEDED
    until("the old ones are gone", lambda: not set(old.values()) & set(pids(node).values()))


def test_drain_that_cannot_be_kept_is_refused(start_node: StartNode, place: Path) -> None:
    node = start_node("node-a")
    node.until_whole()
    (place / "node-a.state" / "drained.new").mkdir()
    with pytest.raises(ControlError, match="the drain cannot be kept over a restart, so nothing is drained"):
        ask(node, "Drain")
    assert node.describe()["state"] == "active"


def test_record_of_a_drain_that_cannot_be_read_keeps_it(start_node: StartNode, place: Path) -> None:
    (place / "node-a.state").mkdir()
    (place / "node-a.state" / "drained.json").write_text("{")
    node = start_node("node-a")
    node.until_status("drained (by unknown since ")
    ask(node, "Undrain")
    node.until_whole()


def test_varlink_describes_itself(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until("asked", lambda node: node.state() != "gone")
    path = node.runtime_dir / "agent.sock"
    info = query(path, "org.varlink.service.GetInfo")
    assert info["interfaces"] == ["org.varlink.service", "io.chargehand.Agent"]
    described = query(path, "org.varlink.service.GetInterfaceDescription", {"interface": "io.chargehand.Agent"})
    methods = re.findall(r"^method (\w+)", described["description"], re.MULTILINE)
    assert methods == ["Status", "Reload", "Restart", "StepDown", "Drain", "Undrain", "Events", "Logs"]
    fields = re.search(r"type Child \((.*?)\)", described["description"], re.DOTALL)
    assert fields is not None
    assert set(re.findall(r"(\w+):", fields[1])) == set(node.describe()["children"][0])
    answer = re.search(r"method Status\(\) -> \((.*?)\)", described["description"], re.DOTALL)
    assert answer is not None
    assert set(re.findall(r"(\w+):", answer[1])) == set(node.describe())
    assert path.stat().st_mode & 0o777 == 0o660
