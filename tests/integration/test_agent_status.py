"""What systemd hears, row by row of the table in docs/agent.md: order and wording, with a Redis that comes and goes.

The test is the systemd of the node: a real notify socket, and everything that arrived on it, in order.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.nodes import Node, StartNode
from support.programs import until, write_config
from support.server import Server, free_port


def heard(node: Node) -> list[str]:
    """Every assignment, in order."""
    node.hear()
    return [f"{name}={value}" for message in node.history for name, value in message.items()]


def statuses(node: Node) -> list[str]:
    node.hear()
    return [message["STATUS"] for message in node.history if "STATUS" in message]


def ready_with(node: Node) -> str:
    """The STATUS that came with READY."""
    node.until("READY", lambda node: "READY" in node.fields)
    status = ""
    for message in node.history:
        status = message.get("STATUS", status)  # what has not changed is not told again
        if message.get("READY") == "1":
            return status
    raise AssertionError(node.history)


def test_starting_then_active(start_node: StartNode) -> None:
    node = start_node("node-a")
    assert ready_with(node).startswith("active (epoch 1); workers ")
    lines = heard(node)
    assert lines[0] == "STATUS=starting: orchestrator; workers 0/1"
    assert lines[1] == "EXTEND_TIMEOUT_USEC=10000000", "patience is asked for, before READY"
    node.until_status("active (epoch 1); workers 1/1; 0 steps queued")
    after = heard(node)[heard(node).index("READY=1") :]
    assert not any(line.startswith("EXTEND_TIMEOUT_USEC") for line in after), "it would move the watchdog's deadline"


def test_starting_then_passive(start_node: StartNode) -> None:
    start_node("node-b").until_whole()
    node = start_node("node-a")
    assert ready_with(node).startswith("passive (waiting on lock, held by node-b, epoch 1); workers ")
    node.until_status("passive (waiting on lock, held by node-b, epoch 1); workers 1/1")
    assert not any(one.startswith("active") for one in statuses(node))


def test_redis_away_at_start_then_there_then_away_then_back(place: Path) -> None:
    port = free_port()
    config = write_config(place, f"redis://127.0.0.1:{port}/0", node="node-a")
    config.write_text(config.read_text().replace("[agent]", '[agent]\nready_timeout = "3s"'))
    node = Node(place, config)
    where = rf"Redis 127\.0\.0\.1:{port} since \d\d:\d\d, Connection refused"
    try:
        assert re.fullmatch(rf"waiting \({where}\); workers [01]/1", ready_with(node))
        first = statuses(node)
        assert first[0] == "starting: orchestrator; workers 0/1"
        assert all(one.startswith("starting: ") for one in first[:-1])
        server = Server(place / "redis", port=port)
        node.until_status("active (epoch 1); workers 1/1")
        server.kill()
        node.until("waiting", lambda node: re.fullmatch(rf"waiting \({where}\); workers 1/1", node.status))
        server.start()
        node.until("active", lambda node: re.match(r"active \(epoch [12]\); workers 1/1", node.status))
        server.stop()
        words = [one.partition(" ")[0] for one in statuses(node)]
        order = [word for number, word in enumerate(words) if number == 0 or words[number - 1] != word]
        assert [word for word in order if word != "starting:"][:4] == ["waiting", "active", "waiting", "active"]
        assert heard(node).count("READY=1") == 1
        assert node.agent.poll() is None
    finally:
        assert node.stop() == 0


def test_watchdog_is_never_gated_on_redis(place: Path) -> None:
    config = write_config(place, f"redis://127.0.0.1:{free_port()}/0", node="node-a")
    node = Node(place, config, watchdog=0.6)
    try:
        node.until("three pings", lambda node: heard(node).count("WATCHDOG=1") >= 3)
        assert "READY" not in node.fields
    finally:
        node.stop()


def test_no_pings_where_another_is_watched(start_node: StartNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """WATCHDOG_PID names somebody else: the pings are not ours to send."""
    monkeypatch.setenv("WATCHDOG_PID", "1")
    node = start_node("node-a")
    node.until_whole()
    node.agent.terminate()
    node.agent.wait(20)
    assert "WATCHDOG=1" not in heard(node)


def test_no_orchestrator_here(start_node: StartNode, server: Server) -> None:
    node = start_node("node-a", extra="")
    node.until_whole()
    node.stop()
    node.config.write_text(node.config.read_text().replace("[orchestrator]\n", "[orchestrator]\nenabled = false\n"))
    node.start()
    assert ready_with(node).startswith("working; workers ")
    node.until_status("working; workers 1/1")
    server.kill()
    node.until_status("waiting (Redis 127.0.0.1:")
    server.start()
    node.until_status("working; workers 1/1")


def test_stop(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    before = len(heard(node))
    node.agent.terminate()
    node.agent.wait(20)
    lines = heard(node)[before:]
    lines = lines[lines.index("STOPPING=1") :]
    assert lines[1] == "STATUS=stopping (0 steps still run)"
    assert lines[2] == "EXTEND_TIMEOUT_USEC=10000000"
    assert lines[-1] == "STATUS=stopped"


def test_every_status_is_a_line_of_ascii(start_node: StartNode, place: Path) -> None:
    (place / "bad.py").write_text("raise RuntimeError('Gerät fehlt: ' + 'lang ' * 100)\n")
    node = start_node("node-a")
    node.until_whole()
    node.stop()
    text = node.config.read_text().replace('"site_actions"', '"bad"').replace("path = [", f'path = ["{place}", ')
    node.config.write_text(text)
    node.start()
    # Cut at the cause, so that what comes after it is whole.
    whole = "workers 1/1; 0 steps queued"
    node.until("degraded", lambda node: "Ger?t fehlt" in node.status and node.status.endswith(whole))
    assert all(one.isascii() and len(one) <= 200 for one in statuses(node))


def test_what_must_hold_and_does_not_asks_systemd_for_a_restart(place: Path, server: Server) -> None:
    """An agent that would not notice the end of a child: the loop turns, so pings alone would hide it."""
    broken = place / "broken.py"
    broken.write_text(
        "import sys\n"
        "from chargehand.supervisor.agent import Agent\n"
        "from chargehand.supervisor.main import main\n"
        "right = Agent._ears\n"
        "def deaf(self, child):\n"
        "    found = right(self, child)\n"
        "    if child.name == 'worker' and child.launched.process is not None:\n"
        "        found.pop(child.launched.process.pidfd, None)\n"
        "    return found\n"
        "Agent._ears = deaf\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    node = Node(place, write_config(place, server.url, node="node-a"), watchdog=0.6, program=[str(broken)])
    try:
        node.until("trigger", lambda node: "WATCHDOG=trigger" in heard(node))
        assert "STATUS=broken: the end of worker would not be noticed" in heard(node)
        node.until_logged("agent_broken reason=the end of worker would not be noticed")
    finally:
        node.kill()
        until("nothing lives", lambda: node.processes() == [], timeout=5.0)


def test_an_orchestrator_may_wait_for_redis_for_longer_than_its_start(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pings while it waits: only silence is late. (Its 30 s are made 8 here.)"""
    quick = place / "quick.py"
    quick.write_text(
        "import sys, msgspec\n"
        "import chargehand.supervisor.agent as module\n"
        "from chargehand.supervisor.main import main\n"
        "right = module.roster\n"
        "module.roster = lambda *given: [msgspec.structs.replace(spec, start_timeout=8.0) for spec in right(*given)]\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    node = Node(place, write_config(place, f"redis://127.0.0.1:{free_port()}/0", node="node-a"), program=[str(quick)])
    try:
        node.until("it waits", lambda node: node.status.startswith(("starting: Redis", "waiting")))
        pid = node.child("orchestrator")["pid"]
        node.until("longer", lambda node: heard(node).count("WATCHDOG=1") >= 11, timeout=60.0)  # one a second
        assert node.child("orchestrator")["pid"] == pid
        assert node.describe()["degraded"] == []
    finally:
        assert node.stop() == 0
