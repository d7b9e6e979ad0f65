"""The demonstration's machines: a server that belongs to neither node, and two agents as two nodes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from chargehand.config.load import load
from chargehand.config.settings import Settings
from chargehand.program import own_argv
from chargehand.supervisor.asking import ControlError, query
from chargehand.supervisor.server import Server

__all__ = ["Node", "Stage", "StageError"]

_MARK = "CHARGEHAND_DEMO"  # in the environment of everything that is started here, so that nothing can hide

_CONFIG = """\
[node]
name = "{name}"

[redis]
url = "{url}"

[orchestrator]
lease = {{ ttl = "2s", renew = "400ms" }}

[agent]
state_dir = "{directory}/{name}/state"
runtime_dir = "{directory}/{name}"

[actions]
path = []
modules = ["chargehand.demo.actions"]

[[worker]]
name = "worker"
threads = 5
"""


class StageError(Exception):
    """The demonstration cannot be set up here. The message says what is missing."""


class Node:
    def __init__(self, name: str, directory: Path, url: str, environment: dict[str, str]) -> None:
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()
        self.config = directory / f"{name}.toml"
        self.config.write_text(_CONFIG.format(name=name, url=url, directory=directory), encoding="utf-8")
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self.agent = subprocess.Popen(
                own_argv("agent", "--config", str(self.config)),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def describe(self) -> dict[str, Any] | None:
        """What its agent says; None when there is none."""
        if self.agent.poll() is not None:
            return None
        try:
            return query(self.directory / "agent.sock", "io.chargehand.Agent.Status", timeout=2.0)
        except ControlError:
            return None

    def kill_orchestrator(self) -> bool:
        """SIGKILL. False: there is none now."""
        described = self.describe() or {"children": []}
        for child in described["children"]:
            if child["kind"] == "orchestrator" and child["pid"]:
                os.kill(child["pid"], signal.SIGKILL)
                return True
        return False

    def stop(self) -> None:
        self.agent.terminate()


class Stage:
    """Use as a context: everything has ended and the directory is gone afterwards."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chargehand-demo-", dir="/tmp"))
        self._mark = self.directory.name
        self._server: subprocess.Popen[bytes] | None = None
        self.nodes: list[Node] = []

    def __enter__(self) -> Stage:
        try:
            self._raise_curtain()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _raise_curtain(self) -> None:
        environment = {**os.environ, _MARK: self._mark}
        environment.pop("NOTIFY_SOCKET", None)
        environment.pop("CHARGEHAND_CONFIG", None)
        server = Server(str(self.directory), str(self.directory))
        with (self.directory / "redis.log").open("ab") as log:
            self._server = subprocess.Popen(server.prepare(), env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not server.answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                text = (self.directory / "redis.log").read_text(errors="replace").strip().rpartition("\n")[2]
                raise StageError(f"the server did not start: {text or 'no answer in 20 s'}")
            time.sleep(0.02)
        self.nodes = [Node(name, self.directory, server.url, environment) for name in ("node-a", "node-b")]

    @property
    def settings(self) -> Settings:
        return load(self.nodes[0].config).settings

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def wait_until_ready(self, timeout: float = 20.0) -> None:
        """One active, one passive, all workers up."""
        deadline = time.monotonic() + timeout
        while True:
            described = [node.describe() for node in self.nodes]
            states = sorted(one["state"] for one in described if one is not None)
            workers = [
                child["state"] for one in described if one for child in one["children"] if child["kind"] == "worker"
            ]
            if states == ["active", "passive"] and workers == ["ready", "ready"]:
                return
            for node in self.nodes:
                if node.agent.poll() is not None:
                    raise StageError(f"{node.name} ended: {node.log.read_text(errors='replace')[-500:]}")
            if time.monotonic() > deadline:
                raise StageError(f"the nodes are not ready after {timeout:g} s: {states}, workers {workers}")
            time.sleep(0.05)

    def stop_nodes(self) -> None:
        for node in self.nodes:
            node.stop()
        for node in self.nodes:
            try:
                node.agent.wait(timeout=30)
            except subprocess.TimeoutExpired:
                node.agent.kill()
                node.agent.wait()

    def left_over(self) -> list[str]:
        """Processes that were started for a node and still live; there should be none after `stop_nodes`."""
        server = self._server.pid if self._server else 0
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != server and process.environ().get(_MARK) == self._mark:
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
            except (psutil.Error, OSError):
                continue
        return found

    def close(self) -> None:
        self.stop_nodes()
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
