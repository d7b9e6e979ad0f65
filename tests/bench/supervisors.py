"""Three supervisors with the same ten programs, each as its own documentation sets it up, on the same Python."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from chargehand.notify import Receiver
from support.programs import until

__all__ = ["CHILDREN", "SUPERVISORS", "Beacon", "Supervised", "Supervisor"]

CHILDREN = tuple(f"p{number}" for number in range(10))
_SLEEP = "/bin/sleep 100000.625"  # a number that nobody else sleeps


class Start(NamedTuple):
    pid: int
    at: float  # monotonic, when its first act was seen


class Beacon:
    """A FIFO that every child writes its name and pid to as its first act: its start is an event, not a poll."""

    def __init__(self, directory: Path) -> None:
        fifo = directory / "beacon"
        os.mkfifo(fifo)
        self.script = directory / "child"
        self.script.write_text(f'#!/bin/sh\necho "$1 $$" >"{fifo}"\nexec {_SLEEP}\n')
        self.script.chmod(0o755)
        self._fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # also a writer: it never ends
        self.starts: dict[str, Start] = {}
        self.count = 0

    def command(self, name: str) -> list[str]:
        return [str(self.script), name]

    def hear(self, timeout: float) -> None:
        """Take the next starts, waiting for them this long."""
        if not select.select([self._fd], [], [], max(0.0, timeout))[0]:
            return
        now = time.monotonic()
        for line in os.read(self._fd, 65536).decode().splitlines():  # a short line arrives whole
            name, pid = line.split()
            self.starts[name] = Start(int(pid), now)
            self.count += 1

    def hear_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.hear(left)

    def all_since(self, moments: dict[str, float]) -> None:
        """Wait until each of them has started after its moment."""
        deadline = time.monotonic() + 30
        while late := [name for name, at in moments.items() if name not in self.starts or self.starts[name].at < at]:
            assert time.monotonic() < deadline, f"not started in 30 s: {late}"
            self.hear(0.5)

    def alone(self) -> float:
        """Milliseconds from posix_spawn to the first act of the same program: no supervisor can be faster."""
        begun = time.monotonic()
        command = self.command("alone")
        pid = os.posix_spawn(command[0], command, os.environ)
        self.all_since({"alone": begun})
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return (self.starts["alone"].at - begun) * 1000

    def close(self) -> None:
        os.close(self._fd)


@dataclass(frozen=True)
class Supervisor:
    package: str
    configure: Callable[[Path, Beacon], list[str]]  # writes its configuration; the module that runs it, its arguments

    @property
    def title(self) -> str:
        return f"{self.package.upper()} {version(self.package)}"


def _chargehand(place: Path, beacon: Beacon) -> list[str]:
    """Ten programs and nothing else: no orchestrator and no worker, so no Redis is asked for either."""
    config = place / "node.toml"
    config.write_text(
        f"""
[node]
name = "bench"
[redis]
url = "redis://127.0.0.1:1/0"
[agent]
state_dir = "{place}/state"
runtime_dir = "{place}/run"
[orchestrator]
enabled = false
[[worker]]
name = "worker"
enabled = false
"""
        + "".join(f'[[child]]\nname = "{name}"\nargv = {beacon.command(name)}\n' for name in CHILDREN)
    )
    return ["chargehand", "agent", "--config", str(config)]


def _supervisord(place: Path, beacon: Beacon) -> list[str]:
    config = place / "supervisord.conf"
    config.write_text(
        f"[supervisord]\nlogfile={place}/log\npidfile={place}/pid\nchildlogdir={place}\n"
        + "".join(f"[program:{name}]\ncommand={' '.join(beacon.command(name))}\n" for name in CHILDREN)
    )
    return ["supervisor.supervisord", "--nodaemon", "--configuration", str(config)]


def _circusd(place: Path, beacon: Beacon) -> list[str]:
    config = place / "circus.ini"
    config.write_text(
        f"[circus]\nendpoint = ipc://{place}/ask\npubsub_endpoint = ipc://{place}/hear\n"
        + "".join(f"[watcher:{name}]\ncmd = {' '.join(beacon.command(name))}\n" for name in CHILDREN)
    )
    return ["circus.circusd", str(config)]


SUPERVISORS = (
    Supervisor("chargehand", _chargehand),
    Supervisor("supervisor", _supervisord),
    Supervisor("circus", _circusd),
)


class Supervised:
    """One supervisor at work, its ten children running."""

    def __init__(self, supervisor: Supervisor, place: Path) -> None:
        place.mkdir()
        self._package = supervisor.package
        self.beacon = Beacon(place)
        module, *arguments = supervisor.configure(place, self.beacon)
        self._receiver = Receiver(str(place / "notify"))
        # As units/chargehand.service runs it; the peers do not look at these.
        service = {"NOTIFY_SOCKET": self._receiver.path, "WATCHDOG_USEC": "30000000"}
        with (place / "output").open("wb") as output:
            self._begun = time.monotonic()
            self._popen = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**os.environ, **service},
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            self.beacon.all_since(dict.fromkeys(CHILDREN, self._begun))
        except BaseException:
            print((place / "output").read_text()[-4000:], file=sys.stderr)
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def seconds_to_start(self) -> float:
        """From its own start to the first act of the last child."""
        return max(start.at for start in self.beacon.starts.values()) - self._begun

    def be_at_rest(self, seconds: float) -> None:
        """Let time pass. All children must go on undisturbed."""
        before = self.beacon.count
        self.beacon.hear_for(seconds)
        assert self.beacon.count == before, "a child was started again that nobody had ended"
        self._receiver.receive()

    def respawns(self, spread: float) -> list[float]:
        """Kill each child once, evenly over `spread` seconds: a supervisor that looks now and then is met at all
        phases of its interval. Milliseconds from each kill to the successor's first act.
        """
        killed = {}
        for name in CHILDREN:
            killed[name] = time.monotonic()
            os.kill(self.beacon.starts[name].pid, signal.SIGKILL)
            self.beacon.hear_for(spread / len(CHILDREN))
        self.beacon.all_since(killed)
        return [(self.beacon.starts[name].at - at) * 1000 for name, at in killed.items()]

    def stop(self) -> None:
        try:
            self._end()
        finally:
            pids = self._pids()
            self._receiver.close()
            self.beacon.close()
        until("its children have ended", lambda: not any(map(self._is_ours, pids)))

    def _end(self) -> None:
        for _ in range(6):  # circusd forgets a SIGTERM that comes while it starts something
            self._popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(5)
                return
        self._popen.kill()
        self._popen.wait()
        for pid in filter(self._is_ours, self._pids()):
            os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"{self._package} did not end in 30 s")

    def _pids(self) -> list[int]:
        return [start.pid for start in self.beacon.starts.values()]

    def _is_ours(self, pid: int) -> bool:
        """Whether it still lives; its number could be another's by now."""
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes() == _SLEEP.encode().replace(b" ", b"\0") + b"\0"
        except (FileNotFoundError, ProcessLookupError):
            return False
