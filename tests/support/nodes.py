"""Agents as real processes: each test is the systemd of its nodes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from chargehand.notify import Receiver
from chargehand.supervisor.asking import ControlError, query
from support.programs import until

__all__ = ["Node", "StartNode"]

_MARK = "CHARGEHAND_TEST"


class Node:
    """One agent, its notify socket in our hands."""

    def __init__(
        self,
        directory: Path,
        config: Path,
        *,
        watchdog: float = 3.0,
        program: Sequence[str] = ("-m", "chargehand", "agent"),
    ) -> None:
        """`watchdog`: seconds, as WatchdogSec. `program`: what Python runs."""
        self.name = config.stem
        self.config = config
        self._directory = directory
        self._watchdog = watchdog
        self._program = program
        self.runtime_dir = directory / f"{self.name}.run"
        self.log = directory / f"{self.name}.agent.log"
        self._starts = 0
        self.mark = f"{directory.name}-{self.name}"
        self.start()

    def start(self) -> None:
        self._starts += 1
        self._receiver = Receiver(str(self._directory / f"{self.name}.{self._starts}.sock"))
        self.fields: dict[str, str] = {}
        self.history: list[dict[str, str]] = []
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": self._receiver.path,
            "WATCHDOG_USEC": str(round(self._watchdog * 1e6)),
            _MARK: self.mark,
        }
        with self.log.open("ab") as log:
            self.agent = subprocess.Popen(
                [sys.executable, *self._program, "--config", str(self.config)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def hear(self) -> None:
        for message in self._receiver.receive():
            self.history.append(message.fields)
            self.fields.update(message.fields)

    def until(self, what: str, condition: Callable[[Node], object], timeout: float = 30.0) -> None:
        """Wait until what the agent told systemd meets `condition`."""
        deadline = time.monotonic() + timeout
        while True:
            self.hear()
            if condition(self):
                return
            left = deadline - time.monotonic()
            assert left > 0, (
                f"{self.name}: not {what} in {timeout:g} s: {self.status!r}\n" + self.log.read_text()[-3000:]
            )
            select.select([self._receiver.fileno()], [], [], min(left, 0.2))

    @property
    def status(self) -> str:
        return self.fields.get("STATUS", "")

    def until_status(self, beginning: str, timeout: float = 30.0) -> None:
        self.until(beginning, lambda node: node.status.startswith(beginning), timeout)

    def until_whole(self, workers: str = "workers 1/1") -> None:
        self.until("ready with all workers", lambda node: "READY" in node.fields and workers in node.status)

    def until_logged(self, text: str) -> None:
        """What is logged comes another way than what is told, and may come after it."""
        until(f"logged: {text}", lambda: text in self.log.read_text())

    def describe(self) -> dict[str, Any]:
        return query(self.runtime_dir / "agent.sock", "io.chargehand.Agent.Status")

    def state(self) -> str:
        try:
            found: str = self.describe()["state"]
        except ControlError:
            return "gone"
        return found

    def child(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = next(child for child in self.describe()["children"] if child["kind"] == kind)
        return found

    def kill_child(self, kind: str, number: int = signal.SIGKILL) -> int:
        pid: int = self.child(kind)["pid"]
        os.kill(pid, number)
        return pid

    def processes(self) -> list[int]:
        """Everything that was started for this node and lives."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except (psutil.Error, OSError):
                continue
        return found

    def stop(self, timeout: float = 40.0) -> int:
        if self.agent.poll() is None:
            self.agent.send_signal(signal.SIGCONT)
            self.agent.terminate()
        code = self.agent.wait(timeout)
        self._receiver.close()
        return code

    def kill(self) -> None:
        self.agent.kill()
        self.agent.wait()
        self._receiver.close()


#: The fixture `start_node`: the node's name, and `extra`, `lease` by keyword.
StartNode: TypeAlias = Callable[..., Node]
