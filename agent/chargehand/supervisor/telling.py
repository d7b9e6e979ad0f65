"""What systemd is told, and when: READY once and when it is true, STATUS at most once a second, pings on a grid."""

from __future__ import annotations

from chargehand.notify import Notifier
from chargehand.supervisor.status import NodeReport, is_ready, status_line

__all__ = ["Telling"]

_EXTEND = 10.0  # seconds that each EXTEND_TIMEOUT_USEC asks for
_STATUS_EVERY = 1.0


class Telling:
    def __init__(self, notifier: Notifier, watchdog: float) -> None:
        """`watchdog`: seconds that systemd allows between two pings, 0 for none."""
        self._notifier = notifier
        self._every = watchdog / 3
        self.ready = False
        self._told = ""
        self._told_at = self._ping_at = self._extend_at = 0.0
        self._changed = True

    def changed(self, *, at_once: bool = False) -> None:
        """The status may not be what it was."""
        self._changed = True
        if at_once:
            self._told_at = 0.0

    def due(self, now: float, *, stopping: bool) -> bool:
        """Something may have to be told now."""
        return (
            not self.ready
            or self._changed
            or (bool(self._every) and now >= self._ping_at)
            or (stopping and now >= self._extend_at)
        )

    def next(self, now: float) -> list[float]:
        """Seconds until something is due."""
        times = [self._ping_at - now] if self._every else []
        if self._changed:
            times.append(max(0.0, self._told_at + _STATUS_EVERY - now))
        return times

    def tell(self, now: float, report: NodeReport, broken: str) -> None:
        """`broken`: what must hold and does not; then systemd is asked to start us again."""
        lines: list[str] = []
        if not self.ready and not report.stopping and is_ready(report):
            self.ready = True
            self.changed(at_once=True)
            lines.append("READY=1")
        if (self._changed and now - self._told_at >= _STATUS_EVERY) or not self._told:
            self._changed = False
            line = status_line(report)
            if line != self._told:
                self._told, self._told_at = line, now
                lines.append(f"STATUS={line}")
        # Only before READY and after STOPPING: it moves the watchdog's deadline too.
        if (not self.ready or report.stopping) and now >= self._extend_at:
            self._extend_at = now + _EXTEND / 3
            lines.append(f"EXTEND_TIMEOUT_USEC={round(_EXTEND * 1_000_000)}")
        if self._every and now >= self._ping_at:
            # On a grid, as the children's pings: one wake-up serves them all.
            self._ping_at = (now // self._every + 1) * self._every
            lines += [f"STATUS=broken: {broken}", "WATCHDOG=trigger"] if broken else ["WATCHDOG=1"]
        self._notifier.send(*lines)

    def reloading(self, monotonic_usec: int) -> None:
        if self.ready:
            self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={monotonic_usec}")

    def reloaded(self, now: float, report: NodeReport) -> None:
        """Before whoever asked hears it: `systemctl reload` shows the new status at once."""
        self.changed(at_once=True)
        if self.ready:
            self._told, self._told_at, self._changed = status_line(report), now, False
            self._notifier.send("READY=1", f"STATUS={self._told}")

    def stopping(self) -> None:
        self._notifier.send("STOPPING=1")
        self.changed(at_once=True)
        self._extend_at = 0.0

    def stopped(self) -> None:
        self._notifier.send("STATUS=stopped")
