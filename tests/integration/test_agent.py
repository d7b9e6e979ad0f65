"""The agent as systemd sees it, with real children, a real notify socket and a real Redis."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chargehand.client import Client
from chargehand.notify import Receiver
from chargehand.plan.life import PlanState
from support.commands import chargehand
from support.nodes import Node, StartNode
from support.plans import view_of
from support.programs import ACTIONS, until, write_config, written
from support.server import Server, free_port


def words(node: Node) -> list[str]:
    return [message["STATUS"] for message in node.history if "STATUS" in message]


def test_from_starting_to_stopped(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    assert node.stop() == 0
    node_words = words(node)
    assert node_words[0] == "starting: orchestrator; workers 0/1"
    assert "EXTEND_TIMEOUT_USEC" in node.history[0], "systemd is asked for patience before READY"
    ready = next(message for message in node.history if "READY" in message)
    assert ready["STATUS"].startswith("active (epoch 1); workers"), "READY and what is ready go together"
    assert list((node.runtime_dir).iterdir()) == [], "no socket is left"


def test_redis_down_at_start_for_longer_than_ready_timeout(place: Path) -> None:
    """A service that waits is not a service that failed."""
    port = free_port()
    config = write_config(place, f"redis://127.0.0.1:{port}/0", node="node-a")
    config.write_text(config.read_text().replace("[agent]", '[agent]\nready_timeout = "10s"'))
    node = Node(place, config)
    try:
        node.until("READY", lambda node: "READY" in node.fields)
        assert any(one.startswith(f"starting: Redis 127.0.0.1:{port} since ") for one in words(node))
        assert node.status.startswith(f"waiting (Redis 127.0.0.1:{port} since ")
        assert "Connection refused" in node.status
        server = Server(place / "redis", port=port)
        try:
            node.until_status("active (epoch 1)")
        finally:
            server.stop()
    finally:
        assert node.stop() == 0
    assert node.processes() == []


def test_embedded_server(place: Path) -> None:
    """No url: a server of the node's own, on a socket, with its data kept over a restart."""
    config = place / "solo.toml"
    config.write_text(
        f'node.name = "solo"\nactions = {{ path = ["{ACTIONS}"], modules = ["site_actions"] }}\n'
        f'agent = {{ state_dir = "{place}/solo.state", runtime_dir = "{place}/solo.run" }}\n'
    )
    node = Node(place, config)
    try:
        node.until_whole()
        assert node.status == "active (epoch 1, embedded Redis, this node only); workers 1/1; 0 steps queued"
        done = chargehand("submit", "echo", "value=[1,2]", "--wait", config=config)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1] == "[1,2]"
        plan = done.stdout.split()[0]
        assert node.stop() == 0
        assert node.processes() == []
        node.start()
        node.until_status("active (epoch 2, embedded Redis, this node only)")
        assert "succeeded" in chargehand("plan", "show", plan, config=config).stdout
    finally:
        node.stop()
    assert node.processes() == []


def test_hung_orchestrator_is_replaced(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    hung = node.kill_child("orchestrator", signal.SIGSTOP)
    until("it is replaced", lambda: node.child("orchestrator")["pid"] not in {hung, None})
    node.until_status("active (epoch 2")
    assert re.search(
        r"degraded: orchestrator crashed once at \d\d:\d\d, last: hung: silent for 3 s; workers 1/1", node.status
    )
    assert node.agent.poll() is None
    assert sum("READY" in message for message in node.history) == 1, "systemd hears of no second start"


def test_child_that_crashes_for_ever_is_never_hidden(start_node: StartNode, place: Path) -> None:
    (place / "ends_at_once.py").write_text("import os\nos._exit(9)\n")
    node = start_node("node-a", extra="")
    node.until_whole()
    node.stop()
    text = (
        node.config.read_text().replace('"site_actions"', '"ends_at_once"').replace("path = [", f'path = ["{place}", ')
    )
    node.config.write_text(text)
    node.start()
    told = re.compile(
        r"active \(epoch 2\), degraded: worker crashed [3-9] times since \d\d:\d\d, last: exit 9; workers 0/1"
    )
    node.until("never hidden", lambda node: told.match(node.status))
    assert "READY" in node.fields, "workers never gate READY"
    assert node.agent.poll() is None


def test_agent_killed_leaves_nothing_after_a_second(start_node: StartNode) -> None:
    node = start_node("node-a", extra='[[worker]]\nname = "many"\nprocesses = 4\n')
    node.until_whole("workers 4/4")
    assert len(node.processes()) == 6
    node.kill()
    until("nothing lives", lambda: node.processes() == [], timeout=5.0)


def test_sigterm_while_starting(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until("children started", lambda node: len(node.processes()) >= 2)
    assert node.stop() == 0
    assert node.processes() == []


def test_second_agent_with_the_same_state_directory_is_refused(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    second = chargehand("agent", "--config", node.config)
    assert second.returncode == 1
    assert f"another agent (PID {node.agent.pid}) uses the state directory" in second.stderr
    assert node.state() == "active"


def test_refused_configuration_is_exit_78(place: Path) -> None:
    config = place / "bad.toml"
    config.write_text("[orchestrator]\nthreads = 4\n")
    done = chargehand("agent", "--config", config)
    assert done.returncode == 78
    assert f"{config}:2: orchestrator.threads: 4; expected 1" in done.stderr


@pytest.mark.parametrize("garbage", [b"", b"\0", b"not json\0", b'{"method": 5}\0', b"[1]\0", b"x" * 100_000])
def test_control_socket_survives_garbage(start_node: StartNode, garbage: bytes) -> None:
    node = start_node("node-a")
    node.until_whole()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(node.runtime_dir / "agent.sock"))
        connection.sendall(garbage)
    assert node.describe()["state"] == "active"
    assert (node.runtime_dir / "agent.sock").stat().st_mode & 0o777 == 0o660


def test_stop_lets_running_steps_finish(start_node: StartNode, client: Client, place: Path) -> None:
    node = start_node("node-a")
    node.until_whole()
    plan = client.plan("finishing")
    plan.add("note", path=str(place / "lines"), text="x", seconds=2.0)
    name = client.submit(plan)
    until("it runs", lambda: written(place / "lines"))
    node.agent.terminate()
    node.until_status("stopping (1 step still runs)")
    assert node.stop() == 0
    other = start_node("node-b")
    other.until_whole()
    assert client.wait(name, 20) is PlanState.SUCCEEDED
    view = view_of(client, name)
    assert view.steps[0].attempt == 1
    assert view.steps[0].result is not None
    assert view.steps[0].result.node == "node-a"


def test_stop_gives_back_what_did_not_finish_in_time(start_node: StartNode, client: Client, place: Path) -> None:
    """After `stop_timeout` it ends with its process, and the notice gives it to another node at once."""
    node = start_node("node-a")
    node.until_whole()
    node.stop()
    node.config.write_text(node.config.read_text().replace("[agent]", '[agent]\nstop_timeout = "500ms"'))
    node.start()
    node.until_whole()
    plan = client.plan("long")
    plan.add("note", path=str(place / "lines"), text="x", seconds=5.0)
    name = client.submit(plan)
    until("it runs", lambda: written(place / "lines"))
    other = start_node("node-b")
    other.until_whole()
    assert node.stop() == 0
    assert node.processes() == []
    until("it runs again", lambda: len(written(place / "lines")) == 2)
    assert client.wait(name, 60) is PlanState.SUCCEEDED
    view = view_of(client, name)
    assert view.steps[0].result is not None
    assert (view.steps[0].result.node, view.steps[0].attempt, view.steps[0].losses) == ("node-b", 2, 1)


#: All that the agent may have loaded, by package, beside what a bare interpreter has.
OURS = {"chargehand", "msgspec", "sdnotify", "typing_extensions"}  # the last: msgspec takes it where it is installed
STANDARD = """
    __future__ array ast collections contextlib copyreg ctypes datetime decimal dis encodings enum errno fcntl fnmatch
    functools glob grp importlib inspect ipaddress itertools keyword linecache math ntpath numbers opcode operator
    pathlib platform pwd re reprlib resource select selectors signal socket struct textwrap token tokenize types typing
    urllib uuid warnings weakref
"""
#: Of a package that it may have, what it may not.
NOT = {"importlib.metadata", "chargehand.config.load", "chargehand.store", "chargehand.client"}


def test_agent_imports_nothing_heavy(place: Path) -> None:
    """It lives for months on every node: a client library or a terminal toolkit has no place in it.

    Looked at when it has run, so that what is imported on the way counts.
    """
    config = write_config(place, f"redis://127.0.0.1:{free_port()}/0", node="node-a")
    config.write_text(config.read_text().replace("[agent]", '[agent]\nready_timeout = "100ms"'))
    receiver = Receiver(str(place / "notify"))
    code = (
        "import sys; from chargehand.supervisor.main import main; code = main(sys.argv[1:]); "
        "print(' '.join(sys.modules)); sys.exit(code)"
    )
    agent = subprocess.Popen(
        [sys.executable, "-c", code, "--config", str(config)],
        env={**os.environ, "NOTIFY_SOCKET": receiver.path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        until("READY", lambda: any("READY" in message.fields for message in receiver.receive()))
    finally:
        agent.terminate()
        said, _ = agent.communicate(timeout=30)
        receiver.close()
    assert agent.returncode == 0
    loaded = set(said.split())
    assert "chargehand.supervisor.agent" in loaded
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(' '.join(sys.modules))"], capture_output=True, text=True, check=True
    ).stdout.split()
    packages = {name.partition(".")[0] for name in loaded - set(bare)}
    assert {name for name in packages if not name.startswith("_")} - OURS - set(STANDARD.split()) == set()
    assert loaded & NOT == set()
