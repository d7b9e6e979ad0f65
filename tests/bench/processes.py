"""What a process costs, as the kernel counts it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Memory", "Rest", "memory", "rest"]


@dataclass(frozen=True)
class Memory:
    """MiB. A page that n processes share counts whole in `rss` and as 1/n in `pss`."""

    rss: float
    pss: float


@dataclass(frozen=True)
class Rest:
    """What a process did in a second of rest."""

    cpu: float  # microseconds, user and system: 100 are 0.01 %
    wakeups: float  # times that it had waited and went on


def memory(pid: int) -> Memory:
    fields = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    return Memory(fields["Rss"] / 1024, fields["Pss"] / 1024)


def rest(pid: int, wait: Callable[[], object]) -> Rest:
    """Watch the process while `wait` runs."""
    begun, cpu, wakeups = time.monotonic(), _cpu(pid), _wakeups(pid)
    wait()
    cpu, wakeups = _cpu(pid) - cpu, _wakeups(pid) - wakeups
    seconds = time.monotonic() - begun
    return Rest(cpu * 1e6 / seconds, wakeups / seconds)


def _cpu(pid: int) -> float:
    """Seconds of user and system time of all its threads. /proc counts it in ticks of 10 ms: too coarse here."""
    clock = (~pid << 3) | 2  # what clock_getcpuclockid(3) gives
    return time.clock_gettime(clock)


def _wakeups(pid: int) -> int:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(_fields(thread / "status")["voluntary_ctxt_switches"] for thread in threads)


def _fields(path: Path) -> dict[str, int]:
    """The numbers of a file of `name: number …` lines."""
    pairs = (line.partition(":")[::2] for line in path.read_text().splitlines())
    return {name: int(words[0]) for name, rest in pairs if (words := rest.split()) and words[0].isdigit()}
