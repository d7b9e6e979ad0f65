"""What a node's agent says of itself, and what monitoring makes of it: a verdict, one line, a few figures. Pure.

The codes are those that monitoring plugins share. A passive node is OK: it is what a node should be that waits
for its turn. What somebody asked for (a drain, a stop) is a warning; work that cannot be done here is critical.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

__all__ = ["ChildStatus", "DrainStatus", "Level", "NodeStatus", "Verdict", "judge"]


class Level(IntEnum):
    """Exit codes of monitoring plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class ChildStatus(Struct, frozen=True):
    """One child in the agent's answer. Times are Unix times, memory is bytes."""

    name: str
    kind: str = ""
    group: str = ""  # of a worker
    state: str = ""
    since: float = 0.0
    restarts: int = 0  # since the agent started
    crashes: int = 0  # in a row
    crashed_since: float | None = None
    role: str = ""
    epoch: str = ""
    load: str = ""  # of a worker: "2/5", steps that run and threads
    memory: int | None = None
    degraded: str = ""
    last_words: str = ""
    replacing: bool = False

    @property
    def steps(self) -> tuple[int, int]:
        """Steps that run, and threads for them; a process that is not there runs none."""
        busy, _, threads = self.load.partition("/")
        there = self.state in {"ready", "draining"} and busy.isdigit() and threads.isdigit()
        return (int(busy), int(threads)) if there else (0, 0)


class DrainStatus(Struct, frozen=True):
    by: str
    since: float
    reason: str = ""


class NodeStatus(Struct, frozen=True):
    """The agent's answer to `Status`. What an older agent does not say has a default."""

    node: str
    state: str
    status: str
    version: str = ""
    pid: int = 0
    started: float = 0.0
    degraded: list[str] = []
    drain: DrainStatus | None = None
    children: list[ChildStatus] = []


class Verdict(Struct, frozen=True):
    level: Level
    text: str
    workers_ready: int = 0
    workers: int = 0
    busy: int = 0  # steps that run
    threads: int = 0  # of the workers that are there
    restarts: int = 0  # of all children, since the agent started
    measured: bool = False  # the figures say something: the agent has answered

    @property
    def line(self) -> str:
        """As monitoring reads it: what people see, and after a bar what is drawn."""
        said = f"{self.level.name} - {self.text.replace('|', '/')}"
        if not self.measured:
            return said
        workers = f"workers={self.workers_ready};;;0;{self.workers}"
        return f"{said} | {workers} steps={self.busy};;;0;{self.threads} restarts={self.restarts}c"


_BY_STATE = {
    "active": Level.OK,
    "passive": Level.OK,
    "working": Level.OK,
    "starting": Level.WARNING,
    "draining": Level.WARNING,
    "drained": Level.WARNING,
    "stopping": Level.WARNING,
    "waiting": Level.CRITICAL,  # for Redis: nothing can be done here
}

#: States in which workers are to be there. While it starts they need not be yet, unless they crash.
_SERVING = {"active", "passive", "working"}


def judge(node: NodeStatus) -> Verdict:
    workers = [child for child in node.children if child.kind == "worker" and child.state != "draining"]
    # By name: while one is replaced, two of it stand here.
    names = {child.name for child in workers}
    ready = {child.name for child in workers if child.state == "ready"}
    level, text = _level(node, workers, idle=bool(names) and not ready)
    steps = [child.steps for child in node.children if child.kind == "worker"]
    return Verdict(
        level,
        text,
        workers_ready=len(ready),
        workers=len(names),
        busy=sum(busy for busy, _ in steps),
        threads=sum(threads for _, threads in steps),
        restarts=sum(child.restarts for child in node.children),
        measured=True,
    )


def _level(node: NodeStatus, workers: list[ChildStatus], *, idle: bool) -> tuple[Level, str]:
    level = _BY_STATE.get(node.state)
    if level is None:
        return Level.UNKNOWN, f'this version does not know the state "{node.state}": {node.status}'
    crash_only = node.state == "starting" and all(child.crashes for child in workers)
    if idle and (node.state in _SERVING or crash_only):
        return Level.CRITICAL, f"no worker is ready: {node.status}"
    crashed = [f"{child.name} crashed, last: {child.last_words}" for child in node.children if child.crashes]
    if level is Level.OK and (node.degraded or crashed):
        # The agent's own line names the causes; were it silent about a crash, it would not be passed over here.
        return Level.WARNING, node.status if node.degraded else f"{node.status}; {'; '.join(crashed)}"
    return level, node.status
