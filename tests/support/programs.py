"""Orchestrators and workers as real processes, each a unit of its own (no agent): for tests of the executor."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from chargehand.linux import tree
from chargehand.notify import Receiver

__all__ = ["Program", "StartProgram", "lives", "until", "write_config"]

ACTIONS = Path(__file__).parent


def lives(pid: int) -> bool:
    """True while there is such a process, and more of it than its exit status."""
    return bool(tree.birth(pid))


def until(what: str, condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Wait for something that no event tells of."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"did not happen in {timeout:g} s: {what}"
        time.sleep(0.01)


def freeze(pid: int) -> None:
    """SIGSTOP, and it has arrived: its threads run on until one of them takes the signal."""
    os.kill(pid, signal.SIGSTOP)
    until(f"{pid} is frozen", lambda: _states(pid) == {"T"})


def thaw(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def _states(pid: int) -> set[str]:
    """Of its threads, as in proc_pid_stat(5): the letter after the name, which may hold anything."""
    found = set()
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            found.add(stat.read_text().rpartition(")")[2].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            found.add("X")  # a thread that has ended since: what is frozen has none that ends
    return found


def written(path: Path) -> list[str]:
    """The lines that stand whole in a file that programs append to; none while it is not there.

    A file is there before its first line is: that it exists says nothing of who makes it.
    """
    return path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []


def write_config(
    directory: Path,
    url: str,
    *,
    node: str,
    extra: str = "",
    lease: str = "",
    redis: Mapping[str, str | int] | None = None,
) -> Path:
    """A configuration file for a node; its actions are those of tests/support. `redis`: further keys of [redis]."""
    path = directory / f"{node}.toml"
    more = "\n".join(f"{key} = {json.dumps(value)}" for key, value in (redis or {}).items())
    path.write_text(
        f"""
[node]
name = "{node}"
[redis]
url = "{url}"
{more}
[orchestrator]
lease = {{ {lease or 'ttl = "2s", renew = "400ms"'} }}
[actions]
path = ["{ACTIONS}"]
modules = ["site_actions", "lasting_actions", "counted_actions"]
[agent]
state_dir = "{directory}/{node}.state"
runtime_dir = "{directory}/{node}.run"
{extra}
"""
    )
    return path


class Program:
    """A child program with the test as its agent: its notify socket, its signals, its end."""

    def __init__(self, directory: Path, config: Path, *argv: str, name: str = "") -> None:
        self.name = name or f"{argv[0]}-{config.stem}-{time.monotonic_ns()}"
        self.log = directory / f"{self.name}.log"
        self._receiver = Receiver(str(directory / f"{self.name}.notify"))
        self.fields: dict[str, str] = {}
        self.history: list[dict[str, str]] = []
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": self._receiver.path,
            "PYTHONUNBUFFERED": "1",
            "CHARGEHAND_INCARNATION": os.urandom(6).hex(),
            "CHARGEHAND_CHILD": argv[argv.index("--group") + 1] if "--group" in argv else argv[0],
        }
        self.incarnation = environment["CHARGEHAND_INCARNATION"]
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "chargehand", *argv, "--config", str(config)],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def until(self, what: str, condition: Callable[[dict[str, str]], object], timeout: float = 30.0) -> None:
        """Wait until what it has told us (the last value of each field) meets `condition`."""
        deadline = time.monotonic() + timeout
        while True:
            for message in self._receiver.receive():
                self.history.append(message.fields)
                self.fields.update(message.fields)
            if condition(self.fields):
                return
            assert self._popen.poll() is None, f"{self.name} ended: {self._popen.returncode}\n{self.log.read_text()}"
            left = deadline - time.monotonic()
            assert left > 0, f"{self.name}: not {what} in {timeout:g} s: {self.fields}\n{self.log.read_text()[-4000:]}"
            select.select([self._receiver.fileno()], [], [], min(left, 0.5))

    def ready(self) -> Program:
        """Or it does not live on: it may be nobody's yet, and would look for its server on a port that others get."""
        try:
            self.until("ready", lambda fields: fields.get("READY") == "1")
        except AssertionError:
            self.kill()
            raise
        return self

    def role(self, role: str, timeout: float = 30.0) -> None:
        self.until(role, lambda fields: fields.get("X_CHARGEHAND_ROLE") == role, timeout)

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def freeze(self) -> None:
        freeze(self.pid)

    def thaw(self) -> None:
        thaw(self.pid)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return self._popen.wait(timeout=30)
        finally:
            self._receiver.close()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGCONT)
            self._popen.terminate()
        try:
            return self._popen.wait(timeout=40)  # it drains for up to 25 s
        finally:
            self._receiver.close()

    @property
    def running(self) -> bool:
        return self._popen.poll() is None


#: The fixture `start_program`: what to run, and `node`, `name`, `extra`, `url`, `lease` by keyword.
StartProgram: TypeAlias = Callable[..., Program]
