"""The console as a child of the agent: started, replaced and ended like others, and never in anybody's way."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import httpx

from chargehand.supervisor.asking import query
from support.nodes import Node, StartNode
from support.programs import freeze, lives, until
from support.server import free_port


def config(port: int, more: str = "") -> str:
    return f'[console]\nenabled = true\nlisten = ["127.0.0.1:{port}"]\n{more}'


def child(node: Node) -> dict[str, object]:
    return node.child("console")


def serves(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def ready(node: Node, port: int) -> int:
    """Its pid, once it is ready and serves."""
    until("the console is ready", lambda: child(node)["state"] == "ready" and serves(port))
    pid = child(node)["pid"]
    assert isinstance(pid, int)
    return pid


def test_the_agent_runs_it_and_takes_it_along(start_node: StartNode) -> None:
    port = free_port()
    node = start_node("node-a", extra=config(port))
    node.until_whole()
    pid = ready(node, port)
    told = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=60).text
    assert 'chargehand_lease_held{executor="default"} 1.0' in told
    assert 'chargehand_orchestrator_active{executor="default",node="node-a"} 1.0' in told
    node.stop()
    assert not lives(pid)


def test_one_that_dies_is_started_again_and_its_death_is_reported_to_nobody(start_node: StartNode) -> None:
    port = free_port()
    node = start_node("node-a", extra=config(port))
    node.until_whole()
    first = ready(node, port)
    os.kill(first, signal.SIGKILL)
    until("there is another", lambda: child(node)["pid"] not in {first, 0})
    ready(node, port)
    node.until("degraded", lambda one: "console crashed" in one.status)
    assert node.status.startswith("active")
    assert "death_delivered" not in node.log.read_text()


def test_it_takes_no_death_notice(start_node: StartNode) -> None:
    """The orchestrator's own successor reports it: the console could not."""
    port = free_port()
    node = start_node("node-a", extra=config(port, "[[worker]]\nname = 'worker'\nenabled = false\n"))
    node.until_status("active (epoch 1)")
    pid = ready(node, port)
    node.kill_child("orchestrator")
    node.until_status("active (epoch 2)")
    node.until_logged("death_delivered")
    assert "to=console" not in node.log.read_text()
    assert child(node)["pid"] == pid


def test_an_address_that_is_taken_degrades_the_node_and_stops_nothing(start_node: StartNode) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        node = start_node("node-a", extra=config(port))
        node.until("degraded", lambda one: "console crashed" in one.status and "workers 1/1" in one.status)
        assert "READY" in node.fields
        assert "Address already in use" in str(child(node)["last_words"])
    until("it serves", lambda: child(node)["state"] == "ready", timeout=90)


def test_a_reload_brings_it_ends_it_and_moves_it(start_node: StartNode, place: Path) -> None:
    first, second = free_port(), free_port()
    node = start_node("node-a")
    node.until_whole()
    plain = node.config.read_text()

    def reload(text: str) -> None:
        node.config.write_text(plain + text)
        query(node.runtime_dir / "agent.sock", "io.chargehand.Agent.Reload")

    reload(config(first))
    pid = ready(node, first)
    reload(config(second))
    ready(node, second)
    assert not lives(pid)
    assert not serves(first)
    reload("")
    until("it is gone", lambda: all(one["kind"] != "console" for one in node.describe()["children"]))
    assert not serves(second)
    assert node.status.startswith("active (epoch 1)")


def test_a_drained_node_still_shows_where_everything_stands(start_node: StartNode) -> None:
    port = free_port()
    node = start_node("node-a", extra=config(port))
    node.until_whole()
    pid = ready(node, port)
    query(node.runtime_dir / "agent.sock", "io.chargehand.Agent.Drain", {"by": "test"})
    node.until_status("drained")
    assert child(node)["pid"] == pid
    assert serves(port)


def test_one_that_hangs_is_replaced(start_node: StartNode) -> None:
    port = free_port()
    node = start_node("node-a", extra=config(port))
    node.until_whole()
    pid = ready(node, port)
    freeze(pid)
    until("it is gone", lambda: not lives(pid), timeout=90)
    assert ready(node, port) != pid
    node.until_logged("child_hung child=console")
