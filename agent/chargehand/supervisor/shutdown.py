"""Is it this service that stops, or the whole system? Asked of systemd's own command when a stop begins."""

from __future__ import annotations

import os
import signal

from chargehand.linux.spawn import Process, spawn, which

__all__ = ["SystemState"]


class SystemState:
    """`systemctl is-system-running`, under way. It says "stopping" once a shutdown has begun."""

    def __init__(self) -> None:
        """Raises `OSError` where there is no such command."""
        program = which("systemctl")
        if program is None:
            raise FileNotFoundError("systemctl")
        self._ours, theirs = os.pipe()
        nothing = os.open(os.devnull, os.O_WRONLY)
        try:
            self._process: Process = spawn(
                [program, "is-system-running"], env=dict(os.environ), stdout=theirs, stderr=nothing
            )
        except BaseException:
            os.close(self._ours)
            raise
        finally:
            os.close(theirs)
            os.close(nothing)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Readable when it has answered."""
        return self._ours

    def give_up(self) -> None:
        """Nobody waits for its answer any more."""
        self._process.signal(signal.SIGKILL)
        self._process.wait()

    def stopping(self) -> bool:
        """To be called once, when it is readable."""
        answer = os.read(self._ours, 256)
        os.close(self._ours)
        self._process.wait()
        self._process.close()
        return answer.strip() == b"stopping"
