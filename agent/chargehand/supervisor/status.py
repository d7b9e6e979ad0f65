"""From what the children say to what systemd is told: the state, the STATUS line, and whether we are READY.

Pure. `<state>[, degraded: <cause>]; workers N/M[; K steps queued]`, one line of ASCII, at most 200 characters;
when it is too long, the cause is cut.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec import Struct

from chargehand.notify import MAX_STATUS, clean

__all__ = ["ChildReport", "NodeReport", "is_ready", "state_word", "status_causes", "status_line"]

_SHORTEST_CAUSE = 20


class ChildReport(Struct, frozen=True):
    """What is known of one child."""

    name: str
    kind: str  # orchestrator, worker, console, redis, program
    ready: bool = False
    draining: bool = False
    has_role: bool = False  # active or passive: an orchestrator, or a program whose log tells
    role: str = ""  # what it says: starting, active, passive, waiting, working
    epoch: str = ""
    holder: str = ""
    redis: str = ""  # why it waits for Redis
    barred: str = ""  # why it must not serve, though Redis is there
    queued: str = ""
    share: str = ""  # percent of the last minute that an active orchestrator was busy
    behind: str = ""  # seconds that its oldest event had waited, from one on
    busy: int = 0
    degraded: str = ""
    crashes: int = 0  # in a row
    crashed_since: float = 0.0  # time of day (Unix) of the first of them
    last_words: str = ""  # how it ended last


class NodeReport(Struct, frozen=True):
    children: Sequence[ChildReport]
    embedded: bool = False
    waited: float = 0.0  # seconds since the agent started
    ready_timeout: float = 10.0
    was_ready: bool = False
    stopping: bool = False
    drain: str = ""  # asked for: "by root since 2026-11-24 10:04"
    troubles: Sequence[str] = ()  # of the agent's own

    def of_kind(self, kind: str) -> list[ChildReport]:
        return [child for child in self.children if child.kind == kind]

    @property
    def orchestrator(self) -> ChildReport | None:
        """The child that says whether this node is active; while it is replaced, the one that knows."""
        found = [child for child in self.children if child.has_role and not child.draining]
        return max(found, key=lambda child: (child.role == "active", child.ready), default=None)

    @property
    def busy(self) -> int:
        return sum(child.busy for child in self.of_kind("worker"))

    @property
    def drained(self) -> bool:
        """Nothing of the executor runs here any more, as asked."""
        return bool(self.drain) and not any(self.of_kind("worker") + self.of_kind("orchestrator"))


def is_ready(node: NodeReport) -> bool:
    """READY once the orchestrator is active, or passive on a lock that it saw; or when `ready_timeout` is over.

    Workers never gate it. A service that waits for Redis, or whose child crashes, is not a service that failed.
    """
    orchestrator = node.orchestrator
    if orchestrator is None or node.drain:
        return True
    return (orchestrator.ready and orchestrator.role in {"active", "passive"}) or node.waited >= node.ready_timeout


def state_word(node: NodeReport) -> str:
    """starting, active, passive, working, waiting, draining, drained or stopping."""
    return _state(node).partition(" ")[0].rstrip(":")


def status_line(node: NodeReport) -> str:
    state = _state(node)
    cause = "; ".join(status_causes(node))
    tail = ""
    workers = [child for child in node.of_kind("worker") if not child.draining]
    if workers and not node.stopping:
        # By name: while one is replaced, two of it stand here.
        ready = {child.name for child in workers if child.ready}
        tail += f"; workers {len(ready)}/{len({child.name for child in workers})}"
    orchestrator = node.orchestrator
    if orchestrator is not None and orchestrator.role == "active" and orchestrator.queued and not node.stopping:
        tail += f"; {orchestrator.queued} steps queued"
        if orchestrator.share:
            tail += f"; {orchestrator.share} % busy"
        if orchestrator.behind:
            tail += f"; inbox {orchestrator.behind} s behind"
    if not cause:
        return clean(state + tail)
    room = MAX_STATUS - len(state) - len(", degraded: ") - len(tail)
    return clean(f"{state}, degraded: {clean(cause, max(room, _SHORTEST_CAUSE))}{tail}")


def _state(node: NodeReport) -> str:
    if node.stopping or (node.drain and not node.drained):
        return f"{'stopping' if node.stopping else 'draining'} ({_steps(node.busy)})"
    if node.drain:
        return f"drained ({node.drain})"
    late = node.was_ready or node.waited >= node.ready_timeout
    orchestrator = node.orchestrator
    barred = next((child.barred for child in node.children if child.barred), "")
    if barred:
        return f"waiting ({barred})"
    if orchestrator is None:
        redis = next((child.redis for child in node.of_kind("worker") if child.role == "waiting"), "")
        return f"waiting (Redis {redis})" if redis else "working"
    note = "embedded Redis, this node only"
    if orchestrator.role in {"active", "passive"} and orchestrator.kind != "orchestrator":
        return f"{orchestrator.role} ({orchestrator.name})"
    if orchestrator.role == "active":
        return f"active (epoch {orchestrator.epoch}{', ' + note if node.embedded else ''})"
    if orchestrator.role == "passive":
        return f"passive (waiting on lock, held by {orchestrator.holder}, epoch {orchestrator.epoch})"
    if orchestrator.role == "waiting":
        return f"waiting (Redis {orchestrator.redis})" if late else f"starting: Redis {orchestrator.redis}"
    return f"starting: {orchestrator.name}"


def _steps(busy: int) -> str:
    return f"{busy} {'step' if busy == 1 else 'steps'} still run{'s' if busy == 1 else ''}"


def status_causes(node: NodeReport) -> list[str]:
    """Why it is degraded; none: it is not."""
    causes = []
    for child in node.children:
        if child.crashes:
            times = "once at" if child.crashes == 1 else f"{child.crashes} times since"
            causes.append(f"{child.name} crashed {times} {_clock(child.crashed_since)}, last: {child.last_words}")
    told: set[str] = set()
    for child in node.children:
        if child.degraded and child.degraded not in told:
            told.add(child.degraded)
            causes.append(f"{child.name}: {child.degraded}")
    causes += node.troubles
    return causes


def _clock(wall: float) -> str:
    return time.strftime("%H:%M", time.localtime(wall))
