"""Two orchestrators, with the test as the agent of both: the active one can be killed at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chargehand.store.keys import Keys
from chargehand.store.lease import report_death
from support.programs import Program, StartProgram
from support.server import Server

__all__ = ["Orchestrators"]


_LEASE = 'ttl = "30s", renew = "1s"'  # a death is always reported, however slow the machine is


class Orchestrators:
    """One is active, one passive. `extra`: of their configuration."""

    def __init__(self, start: StartProgram, server: Server, extra: str = "") -> None:
        self._start = start
        self._server = server
        self._extra = extra
        self._keys = Keys("default")
        self._count = 0
        self.active = self._another("active")
        self._passive = self._another("passive")

    def _another(self, role: str) -> Program:
        self._count += 1
        made = self._start("orchestrator", node=f"node-{self._count}", extra=self._extra, lease=_LEASE)
        made.role(role)
        return made

    def kill_active(self) -> None:
        """Its death is reported; the other one is active when this returns, and a new one stands by."""
        with self.nobody_active():
            pass

    @contextmanager
    def nobody_active(self) -> Iterator[None]:
        """Inside, the active one is dead; that is reported afterwards, as by `kill_active`."""
        self.active.kill()
        yield
        line = self._server.line()
        assert report_death(line, self._keys, self.active.incarnation), "it held the lease"
        line.close()
        self.active = self._passive
        self.active.role("active")
        self._passive = self._another("passive")
