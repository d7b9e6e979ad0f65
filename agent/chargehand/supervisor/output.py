"""Where what the children print goes.

With a journal each child writes to a stream of its own there, and nothing of ours stands in the path. Only
where its last words or a pattern are asked for, and where there is no journal, does the agent read a pipe: it
never waits for a reader, keeps the last 4 KiB, and passes everything on.
"""

from __future__ import annotations

import os
import re
import select
import sys
from collections import deque
from contextlib import suppress

from chargehand.linux.journal import open_stream, writes_to_journal

__all__ = ["KEPT_LINES", "Outlet", "Output"]

_KEEP = 4096  # bytes
KEPT_LINES = 200  # of each child, where no journal keeps them
_AT_ONCE = 65536
_LINE = 3800  # bytes of one line: with its name it is less than a pipe takes at once when it says that it takes more
_PIPE = 4096


class Outlet:
    """Where all output of this agent and its children ends."""

    def __init__(self) -> None:
        self.journal = writes_to_journal()
        self._terminal = None
        if not self.journal and sys.stderr.isatty():
            from chargehand.supervisor.terminal import Terminal  # noqa: PLC0415 - a toolkit that a service never loads

            self._terminal = Terminal()
        self._poll = select.poll()
        self._poll.register(2, select.POLLOUT)
        self.dropped = 0  # bytes

    def line(self, name: str, text: str) -> None:
        """A line of ours or of a child's, on standard error. What its reader does not take is dropped and counted."""
        if self._terminal is not None:
            self._terminal.show(name, text)
            return
        data = f"{name}: {text}\n".encode(errors="replace")
        for at in range(0, len(data), _PIPE):
            if not self._poll.poll(0):
                self.dropped += len(data) - at
                return
            with suppress(OSError):
                os.write(2, data[at : at + _PIPE])


class Output:
    """One child's standard output and error. `theirs` is what it inherits."""

    def __init__(
        self, name: str, outlet: Outlet, lines: deque[str], *, read: bool, patterns: tuple[str, ...] = ()
    ) -> None:
        """`lines`: where the last ones are kept, when no journal does. `read`: the agent wants to see it.

        `patterns`: regular expressions whose lines `receive` answers.
        """
        self._name = name
        self._outlet = outlet
        self._patterns = [re.compile(one) for one in patterns]
        self._stream = open_stream(f"chargehand-{name}") if outlet.journal else None
        self._ours = -1
        self.tail = bytearray()
        self.lines = lines
        self._rest = b""
        self.dropped = 0
        if self._stream is not None and not read:
            self.theirs = self._stream.detach()
            self._stream = None
        else:
            self._ours, self.theirs = os.pipe()
            os.set_blocking(self._ours, False)
            if self._stream is not None:
                self._stream.setblocking(False)

    def fileno(self) -> int:
        """To read from; -1 when it goes to the journal by itself."""
        return self._ours

    def started(self) -> None:
        """The child has its end: ours of it goes."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def receive(self) -> list[tuple[int, str]]:
        """Pass on what has arrived. Lines that match, with their pattern's place."""
        if self._ours < 0:
            return []
        try:
            data = os.read(self._ours, _AT_ONCE)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._end()
            data = b"\n" if self._rest else b""
        if self._stream is not None and self._ours >= 0:
            self._forward(data)
        self.tail = (self.tail + data)[-_KEEP:]
        *whole, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > _LINE:
            whole.append(self._rest[:_LINE])
            self._rest = self._rest[_LINE:]
        found = []
        for raw in (line[at : at + _LINE] for line in whole for at in range(0, len(line) or 1, _LINE)):
            text = raw.decode(errors="replace").rstrip("\r")
            if not self._outlet.journal:
                self.lines.append(text)
                self._outlet.line(self._name, text)
            found += [(place, text) for place, pattern in enumerate(self._patterns) if pattern.search(text)]
        return found

    def _forward(self, data: bytes) -> None:
        assert self._stream is not None
        try:
            sent = self._stream.send(data)
        except OSError:
            sent = 0
        self.dropped += len(data) - sent

    def last_line(self) -> str:
        """The last line that says anything."""
        for raw in reversed(bytes(self.tail).splitlines()):
            if raw.strip():
                return raw.decode(errors="replace").strip()
        return ""

    def drain(self) -> None:
        """What a child left in the pipe when it ended, up to the last 1 MiB that a pipe can hold."""
        for _ in range(16):
            if self._ours < 0 or not select.select([self._ours], [], [], 0)[0]:
                return
            self.receive()

    def close(self) -> None:
        self.started()
        self._end()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _end(self) -> None:
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1
