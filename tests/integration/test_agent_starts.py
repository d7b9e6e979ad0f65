"""Signals before the agent is READY or while it reads its configuration; and a disk that is full from the start."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from chargehand.supervisor.asking import ControlError, query
from support.nodes import Node
from support.others import child, events, lives, named, pids, running, shell, write
from support.programs import until

# -- before READY ---------------------------------------------------------------------------------


def reloadings(node: Node) -> list[str]:
    """What systemd was told of reloads and of being READY, in order."""
    return [name for message in node.history for name in ("RELOADING", "READY") if name in message]


def test_reload_before_ready(place: Path) -> None:
    """systemd hears of a reload only once it has heard READY, and READY only once it is true."""
    os.mkfifo(place / "pipe")
    script = f"read -r line < {place}/pipe; echo $line; exec sleep 1000"
    vip = shell("vip", script, role={"passive": "^passive$"})
    with running(place, vip, ready_timeout="80s") as node:
        node.until_status("starting: vip")
        write(place, vip, child("web"), ready_timeout="80s")
        node.agent.send_signal(signal.SIGHUP)
        until("it is adopted", lambda: "config_adopted changed=web" in node.log.read_text())
        until("it runs", lambda: named(node, "web")["state"] == "ready")
        node.hear()
        assert reloadings(node) == []
        (place / "pipe").write_text("passive\n")
        node.until_status("passive (vip)")
        assert reloadings(node) == ["READY"]
        node.agent.send_signal(signal.SIGHUP)
        node.until("reloaded", lambda node: len(reloadings(node)) == 3)
        assert reloadings(node) == ["READY", "RELOADING", "READY"]
        (reloading,) = (message for message in node.history if "RELOADING" in message)
        assert int(reloading["MONOTONIC_USEC"]) > 0


def test_stop_before_ready(place: Path) -> None:
    """It was never READY, and does not say so on its way out."""
    script = "trap '' TERM; echo deaf; sleep 1000 & wait; wait"
    vip = shell("vip", script, role={"active": "never"}, ready={"log": "deaf"}, stop_timeout="1s")
    with running(place, vip, ready_timeout="80s") as node:
        until("it is deaf", lambda: named(node, "vip")["state"] == "ready")
        node.until_status("starting: vip")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # once is enough; more changes nothing
            node.agent.send_signal(number)
        assert node.agent.wait(20) == 0
        node.hear()
        assert reloadings(node) == []
        assert "STOPPING" in node.fields
        assert node.status == "stopped"
    assert events(node, "child_stopped") == [("child_stopped", "vip")]


# -- while the configuration is read --------------------------------------------------------------


@contextmanager
def reading(place: Path) -> Iterator[tuple[Node, int]]:
    """An agent whose configuration has an end that is not there yet: what is written there, and closed, is it."""
    config = write(place, child("web"))
    (place / "node-a.d").mkdir()
    os.mkfifo(place / "node-a.d" / "slow.toml")
    node = Node(place, config)
    writes = -1

    def opened() -> bool:
        nonlocal writes
        try:
            writes = os.open(place / "node-a.d" / "slow.toml", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which says that nobody reads yet
                raise
            return False
        return True

    try:
        until("it reads", opened)
        yield node, writes
    finally:
        (place / "node-a.d" / "slow.toml").unlink()
        node.stop()
    assert node.processes() == []


def test_stop_while_the_configuration_is_read(place: Path) -> None:
    """It ends at once, and so does what reads."""
    with reading(place) as (node, writes):
        node.agent.terminate()
        assert node.agent.wait(10) in {0, -signal.SIGTERM}
        until("nothing is left", lambda: node.processes() == [], timeout=5.0)
        os.close(writes)
        node.hear()
        assert "READY" not in node.fields


def test_reload_while_the_configuration_is_read(place: Path) -> None:
    """What is read is new enough, and the agent does not end of the signal."""
    with reading(place) as (node, writes):
        node.agent.send_signal(signal.SIGHUP)
        os.close(writes)
        node.until("READY", lambda node: "READY" in node.fields or node.agent.poll() is not None)
        assert node.agent.poll() is None


@pytest.mark.parametrize("sign", ["", "node-a.state", "node-a.run/agent.sock"])
def test_stop_right_after_the_configuration_was_read(place: Path, sign: str) -> None:
    """Whatever it is doing then. `sign`: what it has made by that time."""
    with reading(place) as (node, writes):
        os.close(writes)
        until("it has come so far", (place / sign).exists)
        node.agent.terminate()
        assert node.agent.wait(10) in {0, -signal.SIGTERM}
        until("nothing is left", lambda: node.processes() == [], timeout=5.0)


# -- a full disk ----------------------------------------------------------------------------------


class Disk:
    """64 KiB, in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        with suppress(OSError), (self.path / "filler").open("wb", buffering=0) as out:
            while out.write(b"x" * 4096):
                pass
        assert os.statvfs(self.path).f_bavail == 0

    def free(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def disk(place: Path) -> Iterator[Disk]:
    path = place / "node-a.state"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs root, and the right to mount")
    yield Disk(path)
    subprocess.run(["umount", str(path)], check=True)


def test_full_disk(place: Path, disk: Disk) -> None:
    """The agent starts, runs, says so, and knows by itself when there is room again."""
    disk.fill()
    with running(place, child("web")) as node:
        node.until("READY", lambda node: "READY" in node.fields)
        told = f"working, degraded: cannot write {disk.path}: No space left on device"
        node.until_status(told)
        first = named(node, "web")["pid"]
        assert lives(first)
        os.kill(first, signal.SIGKILL)
        until("it is replaced", lambda: named(node, "web")["pid"] not in {first, None})
        until("it is seen", lambda: named(node, "web")["state"] == "ready")
        disk.free()
        node.until("it is over", lambda node: "cannot write" not in node.status)
        found = named(node, "web")
        (path,) = (disk.path / "children").iterdir()
        assert path.name == found["incarnation"]
        assert json.loads(path.read_text())["pid"] == found["pid"]
        assert node.stop() == 0
        assert list((disk.path / "children").iterdir()) == []


def test_killed_agent_on_a_full_disk(place: Path, disk: Disk) -> None:
    """What its child was could not be written down; the lock on its empty file still says that something lives."""
    script = f"setsid sleep 1000 & echo $! >> {place}/pids; exec sleep 1000"
    disk.fill()
    with running(place, shell("web", script)) as node:
        until("it runs", lambda: pids(place / "pids"))
        node.until("it is told", lambda node: "cannot write" in node.status)
        (path,) = (disk.path / "children").iterdir()
        assert path.read_bytes() == b""
        (left,) = pids(place / "pids")
        node.kill()
        assert lives(left)
        node.start()
        until("another runs", lambda: len(pids(place / "pids")) == 2)
        assert not lives(left)


def test_drain_that_could_not_be_kept_is_refused(place: Path, disk: Disk) -> None:
    with running(place, child("web")) as node:
        disk.fill()
        ask = "io.chargehand.Agent.Drain"
        with pytest.raises(ControlError, match=rf"nothing is drained: {disk.path}.*: No space left on device"):
            query(node.runtime_dir / "agent.sock", ask)
        assert node.describe()["drain"] is None
        disk.free()
        assert query(node.runtime_dir / "agent.sock", ask)["state"] in {"draining", "drained"}
        node.until_status("drained (by root since ")
        assert named(node, "web")["state"] == "ready", "other programs go on"
