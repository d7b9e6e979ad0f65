"""A command in a terminal of its own: what stands on its screen, its keys, its size."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyte

from support.commands import COMMAND

__all__ = ["Terminal"]


class Terminal:
    """`chargehand WORDS...`, started. `variables`: of its environment, beside ours."""

    def __init__(
        self,
        *words: str | Path,
        columns: int = 80,
        lines: int = 24,
        variables: dict[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.said = b""  # all that has come
        self._master, self._slave = pty.openpty()
        self._size(columns, lines)
        self.settings = termios.tcgetattr(self._slave)  # as it was before
        environment = {
            name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}
        }
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command, *map(str, words)],  # Ctrl-C comes as a signal, as to a person's command
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={**environment, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **(variables or {})},
        )

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        self._size(columns, lines)
        self._screen.resize(lines, columns)
        self._process.send_signal(signal.SIGWINCH)

    @property
    def lines(self) -> list[str]:
        """What is seen, without what is empty at the ends."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def until(self, what: str, condition: Callable[[str], object], timeout: float = 60.0) -> None:
        """Wait until what stands on the screen meets `condition`."""
        deadline = time.monotonic() + timeout
        while not condition(self.text):
            left = deadline - time.monotonic()
            assert left > 0, f"not {what} in {timeout:g} s:\n{self.text}"
            self._hear(min(left, 0.2))

    def _hear(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        some = os.read(self._master, 65_536)
        self.said += some
        self._stream.feed(some)
        return True

    def press(self, key: str) -> None:
        os.write(self._master, key.encode())

    def end(self) -> int:
        """Its exit code, once it has ended by itself; all that it wrote is on the screen then."""
        deadline = time.monotonic() + 60
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on:\n{self.text}"
            self._hear(0.1)
        while self._hear(0):
            pass
        return self._process.wait()

    @property
    def as_before(self) -> bool:
        """The terminal is set as it was when the command began."""
        return termios.tcgetattr(self._slave) == self.settings

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
        os.close(self._slave)
