"""The agent where a node is not as it should be: full disks, odd names, strangers on its sockets, Redis away."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from chargehand.store.keys import Keys
from support.commands import chargehand
from support.nodes import Node, StartNode
from support.programs import freeze, thaw, until, write_config
from support.server import Server, free_port


def refused(config: Path) -> str:
    """What an agent that cannot start says."""
    done = chargehand("agent", "--config", config)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def solo(place: Path, *, state_dir: str = "", runtime_dir: str = "") -> Path:
    config = place / "solo.toml"
    config.write_text(
        f'redis.url = "redis://127.0.0.1:{free_port()}/0"\n'
        f'agent = {{ state_dir = "{state_dir or place / "solo.state"}", '
        f'runtime_dir = "{runtime_dir or place / "solo.run"}" }}\n'
    )
    return config


@pytest.mark.parametrize("key", ["state_dir", "runtime_dir"])
def test_directory_that_cannot_be_made(place: Path, key: str) -> None:
    (place / "file").write_text("")
    line = refused(solo(place, **{key: str(place / "file" / "below")}))
    assert line.startswith(f"chargehand: {place}/file")
    assert "agent.state_dir and agent.runtime_dir must be directories that this user may write to" in line


def test_runtime_directory_too_long_for_a_socket(place: Path) -> None:
    line = refused(solo(place, runtime_dir=str(place / ("d" * 90))))
    assert line.startswith("chargehand: agent.runtime_dir: ")
    assert "a socket's may have 107; choose a shorter directory" in line


def test_runtime_directory_of_another_agent(start_node: StartNode, place: Path) -> None:
    """Its sockets are not taken away from it."""
    node = start_node("node-a")
    node.until_whole()
    line = refused(solo(place, runtime_dir=str(node.runtime_dir)))
    assert f"another agent answers at {node.runtime_dir}/agent.sock" in line
    assert node.describe()["state"] == "active"


def test_state_directory_that_cannot_be_written_is_told(start_node: StartNode, place: Path) -> None:
    """As on a full disk: the agent and its children go on, and the status says what is at stake."""
    node = start_node("node-a")
    node.until_whole()
    blocked = place / "node-a.state" / "notices.new"
    blocked.mkdir()
    node.kill_child("worker")
    node.until("it says so", lambda node: f"cannot write {place}/node-a.state: Is a dir" in node.status)
    node.until_whole()
    blocked.rmdir()
    node.until("it is written again", lambda node: "cannot write" not in node.status)
    assert json.loads((place / "node-a.state" / "notices.json").read_text()) == []


def test_settings_larger_than_a_socket_takes_at_once(start_node: StartNode) -> None:
    actions = "".join(
        f'[[action]]\nname = "many-{number}"\nargv = ["/bin/echo", "{"x" * 1000}"]\n' for number in range(400)
    )
    node = start_node("node-a", extra=actions)
    node.until_whole()


def test_children_see_nothing_of_the_agents_own_systemd(start_node: StartNode, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ("INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_PID", "MAINPID")
    for name in theirs:
        monkeypatch.setenv(name, "1")
    node = start_node("node-a")
    node.until_whole()
    for child in node.describe()["children"]:
        raw = Path(f"/proc/{child['pid']}/environ").read_bytes().decode()
        environment = dict(line.split("=", 1) for line in raw.split("\0") if line)
        assert not environment.keys() & {*theirs, "WATCHDOG_PID"}
        assert environment["NOTIFY_SOCKET"] == str(
            node.runtime_dir / f"{child['name']}.{child['incarnation'][:8]}.notify"
        )
        assert environment["CHARGEHAND_INCARNATION"] == child["incarnation"]
        assert environment["WATCHDOG_USEC"] == {"orchestrator": "3000000", "worker": "30000000"}[child["kind"]]


def test_stranger_on_a_childs_notify_socket(start_node: StartNode) -> None:
    node = start_node("node-a")
    node.until_whole()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(
            b"X_CHARGEHAND_ROLE=passive\nX_CHARGEHAND_DEGRADED=lies",
            str(next(node.runtime_dir.glob("worker.*.notify"))),
        )
    until("it is logged", lambda: f"notify_from_stranger child=worker pid={os.getpid()}" in node.log.read_text())
    assert "lies" not in str(node.describe())


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (b"not json\0", "org.varlink.service.InvalidParameter"),
        (b"[1]\0", "org.varlink.service.InvalidParameter"),
        (b'{"method": 5}\0', "org.varlink.service.MethodNotFound"),
        (b'{"method": "io.chargehand.Agent.Fly"}\0', "org.varlink.service.MethodNotFound"),
        (b'{"method": "io.chargehand.Agent.Status", "parameters": [1]}\0', "org.varlink.service.InvalidParameter"),
        (b"x" * 100_000, "org.varlink.service.InvalidParameter"),
    ],
)
def test_control_socket_answers_nonsense_with_an_error(start_node: StartNode, asked: bytes, error: str) -> None:
    node = start_node("node-a")
    node.until_whole()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(node.runtime_dir / "agent.sock"))
        connection.sendall(asked)
        answer = connection.recv(4096)
    assert json.loads(answer.rstrip(b"\0"))["error"] == error
    assert node.describe()["state"] == "active"


def test_control_client_that_never_reads(start_node: StartNode) -> None:
    """Its answers are kept within bounds, and the others get theirs."""
    node = start_node("node-a")
    node.until_whole()
    question = b'{"method": "io.chargehand.Agent.Status"}\0'
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(node.runtime_dir / "agent.sock"))
        connection.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 1.0
        while sent < 4_000_000 and time.monotonic() < deadline:
            try:
                sent += connection.send(question * 200)
            except BlockingIOError:
                assert node.describe()["state"] == "active"
            except (BrokenPipeError, ConnectionResetError):
                break  # it was dropped for asking too much at once: a bound too
    assert node.describe()["state"] == "active"
    status = Path(f"/proc/{node.agent.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident < 64 * 1024, "kilobytes"


def test_stop_while_redis_is_away(start_node: StartNode, server: Server) -> None:
    """Nobody can take the notices now: they are kept for the next start, which nothing waits for."""
    node = start_node("node-a")
    node.until_whole()
    server.kill()
    node.until_status("waiting (Redis ")
    assert node.stop(timeout=20) == 0
    stopping = [line for line in node.log.read_text().splitlines() if "agent_stop" in line]
    assert len(stopping) == 2
    server.start()
    node.start()
    node.until_whole()


def test_embedded_server_that_dies_is_started_again(place: Path) -> None:
    config = place / "solo.toml"
    config.write_text(f'agent = {{ state_dir = "{place}/solo.state", runtime_dir = "{place}/solo.run" }}\n')
    node = Node(place, config)
    try:
        node.until_whole()
        first = node.kill_child("redis")
        until("it is back", lambda: node.child("redis")["pid"] not in {first, None})
        node.until(
            "active again", lambda node: node.status.startswith("active") and "redis crashed once at " in node.status
        )
    finally:
        assert node.stop() == 0
    assert node.processes() == []


def test_worker_that_hangs_at_import_is_stopped_with_the_rest(place: Path) -> None:
    """A stop while a child starts and never will."""
    (place / "never.py").write_text(f"import time\nopen('{place}/imported', 'w').close()\ntime.sleep(1000)\n")
    config = write_config(place, f"redis://127.0.0.1:{free_port()}/0", node="node-a")
    text = config.read_text().replace('"site_actions"', '"never"').replace("path = [", f'path = ["{place}", ')
    config.write_text(text)
    node = Node(place, config)
    until("it imports", (place / "imported").exists)
    assert node.stop() == 0
    assert node.processes() == []
    assert signal.SIGKILL.name in node.log.read_text()


def test_a_node_that_was_frozen_as_a_whole_keeps_its_children(start_node: StartNode) -> None:
    """As a paused machine: nobody was silent while nobody could hear. A child that hangs is still found afterwards."""
    node = start_node("node-a")
    node.until_whole()
    frozen = [node.agent.pid, *(child["pid"] for child in node.describe()["children"])]
    for pid in frozen:
        freeze(pid)
    since = time.monotonic()
    until("longer than the watchdog", lambda: time.monotonic() - since > 5.0)
    for pid in frozen:
        thaw(pid)
    node.history.clear()
    node.until("two pings", lambda node: sum("WATCHDOG" in message for message in node.history) >= 2)
    assert [node.agent.pid, *(child["pid"] for child in node.describe()["children"])] == frozen
    assert "child_hung" not in node.log.read_text()
    hung = node.kill_child("orchestrator", signal.SIGSTOP)
    until("it is replaced", lambda: node.child("orchestrator")["pid"] not in {hung, None})


def test_a_second_machine_of_the_same_name_waits(start_node: StartNode, server: Server) -> None:
    """It says whose the name is, in its status and its log, and serves when that one is gone."""
    line = server.line()
    keys = Keys("default")
    line.call("SET", keys.node("node-a"), "another-machine", "PX", 8_000)
    node = start_node("node-a")
    node.until_status("waiting (node name node-a in use by machine another-machine); workers 0/1")
    node.until_logged("barred: node name node-a in use by machine another-machine")
    assert line.call("EXISTS", keys.members) == 0
    line.close()
    node.until_whole()
    assert node.status.startswith("active (epoch 1)")
    node.until_logged("barred no more")
