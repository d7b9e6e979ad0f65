"""From what the children say to what systemd is told: the state, the STATUS line, and whether we are READY.

Pure. `<state>[, degraded: <cause>]; workers N/M[; K steps queued]`, one line of ASCII, at most 200 characters;
when it is too long, the cause is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chargehand.notify import MAX_STATUS, clean

__all__ = ["ChildReport", "NodeReport", "is_ready", "state_word", "status_line"]

_SHORTEST_CAUSE = 20


@dataclass(frozen=True, slots=True)
class ChildReport:
    """What is known of one child."""

    name: str
    kind: str  # orchestrator, worker, redis
    ready: bool = False
    role: str = ""  # what it says: starting, active, passive, waiting, working
    epoch: str = ""
    holder: str = ""
    redis: str = ""  # why it waits for Redis
    queued: str = ""
    busy: int = 0
    degraded: str = ""
    crashes: int = 0  # in a row
    last_words: str = ""  # how it ended last


@dataclass(frozen=True, slots=True)
class NodeReport:
    children: Sequence[ChildReport]
    embedded: bool = False
    waited: float = 0.0  # seconds since the agent started
    ready_timeout: float = 10.0
    was_ready: bool = False
    stopping: bool = False
    trouble: str = ""  # of the agent's own

    def of_kind(self, kind: str) -> list[ChildReport]:
        return [child for child in self.children if child.kind == kind]

    @property
    def orchestrator(self) -> ChildReport | None:
        return next(iter(self.of_kind("orchestrator")), None)

    @property
    def busy(self) -> int:
        return sum(child.busy for child in self.of_kind("worker"))


def is_ready(node: NodeReport) -> bool:
    """READY once the orchestrator is active, or passive on a lock that it saw; or when `ready_timeout` is over.

    Workers never gate it. A service that waits for Redis, or whose child crashes, is not a service that failed.
    """
    orchestrator = node.orchestrator
    if orchestrator is None:
        return True
    return (orchestrator.ready and orchestrator.role in {"active", "passive"}) or node.waited >= node.ready_timeout


def state_word(node: NodeReport) -> str:
    """starting, active, passive, working, waiting or stopping."""
    return _state(node).partition(" ")[0].rstrip(":")


def status_line(node: NodeReport) -> str:
    state = _state(node)
    cause = "; ".join(_causes(node))
    tail = ""
    workers = node.of_kind("worker")
    if workers and not node.stopping:
        tail += f"; workers {sum(child.ready for child in workers)}/{len(workers)}"
    orchestrator = node.orchestrator
    if orchestrator is not None and orchestrator.role == "active" and orchestrator.queued and not node.stopping:
        tail += f"; {orchestrator.queued} steps queued"
    if not cause:
        return clean(state + tail)
    room = MAX_STATUS - len(state) - len(", degraded: ") - len(tail)
    return clean(f"{state}, degraded: {clean(cause, max(room, _SHORTEST_CAUSE))}{tail}")


def _state(node: NodeReport) -> str:
    if node.stopping:
        busy = node.busy
        return f"stopping ({busy} {'step' if busy == 1 else 'steps'} still run{'s' if busy == 1 else ''})"
    late = node.was_ready or node.waited >= node.ready_timeout
    orchestrator = node.orchestrator
    if orchestrator is None:
        redis = next((child.redis for child in node.of_kind("worker") if child.role == "waiting"), "")
        return f"waiting (Redis {redis})" if redis else "working"
    note = "embedded Redis, this node only"
    if orchestrator.role == "active":
        return f"active (epoch {orchestrator.epoch}{', ' + note if node.embedded else ''})"
    if orchestrator.role == "passive":
        return f"passive (waiting on lock, held by {orchestrator.holder}, epoch {orchestrator.epoch})"
    if orchestrator.role == "waiting":
        return f"waiting (Redis {orchestrator.redis})" if late else f"starting: Redis {orchestrator.redis}"
    return "starting: orchestrator"


def _causes(node: NodeReport) -> list[str]:
    causes = []
    for child in node.children:
        if child.crashes:
            times = "once" if child.crashes == 1 else f"{child.crashes} times"
            causes.append(f"{child.name} crashed {times}, last: {child.last_words}")
    told: set[str] = set()
    for child in node.children:
        if child.degraded and child.degraded not in told:
            told.add(child.degraded)
            causes.append(f"{child.name}: {child.degraded}")
    if node.trouble:
        causes.append(node.trouble)
    return causes
