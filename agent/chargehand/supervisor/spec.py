"""What a child is: everything that its start, its watching and its end need, as one comparable value.

Two specs that are equal describe the same child: a reload replaces exactly the children whose spec changed.
"""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Spec"]


class Spec(Struct, frozen=True, kw_only=True):
    """Times are seconds, sizes bytes; 0 means none."""

    name: str
    kind: str  # orchestrator, worker, console, redis, program
    crew: str = ""  # of a worker: its group
    argv: tuple[str, ...] = ()  # of the embedded server: made at each start
    settings: bytes = b""  # JSON that one of ours is given over its link
    env: tuple[tuple[str, str], ...] = ()
    ready: str = "notify"  # notify, running, log (a line that matches `ready_pattern`), probe (the embedded server)
    ready_pattern: str = ""
    role_active: str = ""  # patterns of lines that tell its role
    role_passive: str = ""
    last_words: bool = False  # its last line of output is kept
    watchdog: float = 0.0
    dump_time: float = 2.0  # what it gets to write its stacks when it hangs
    start_timeout: float = 90.0
    stop_timeout: float = 5.0
    stop_signal: int = 15
    after: tuple[str, ...] = ()  # names of children that are READY before it starts, and end after it
    directory: str = "/"
    memory_max: int = 0
    nice: int = 0
    user: str = ""
    group: str = ""
    limits: tuple[tuple[str, int], ...] = ()  # of setrlimit: ("nofile", 1024)

    @property
    def own(self) -> bool:
        """Ours: it has a link, and gets its settings over it. Others get signals."""
        return self.member or self.kind == "console"

    @property
    def member(self) -> bool:
        """Of the executor: it is told to drain, Redis knows its incarnation, and it takes death notices of others."""
        return self.kind in {"orchestrator", "worker"}

    @property
    def overlaps(self) -> bool:
        """Its successor may run beside it. Two copies of anything else might fight over a port or a file."""
        return self.member

    @property
    def notifies(self) -> bool:
        return self.ready == "notify"

    @property
    def patterns(self) -> bool:
        return bool(self.ready_pattern or self.role_active or self.role_passive)

    @property
    def has_role(self) -> bool:
        """Active or passive: one of our orchestrators, or a program whose log tells which."""
        return self.kind == "orchestrator" or bool(self.role_active or self.role_passive)
