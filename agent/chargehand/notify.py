"""sd_notify, both ways: what systemd is to the agent, the agent is to its children.

Sending is the sdnotify library's, inside its limits: it encodes latin-1 (a status with any other character
silently never arrives), so a message is ASCII and a status one line of at most 200 characters; it would block
when the receiver's queue is full, so its socket does not block, and the next message brings what this one could not.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

import sdnotify

__all__ = ["MAX_STATUS", "Message", "Notifier", "Receiver", "clean"]

MAX_STATUS = 200
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_LARGEST = 8192


def clean(text: str, most: int = MAX_STATUS) -> str:
    """One line of ASCII, at most `most` characters; what cannot be shown becomes `?`."""
    line = " ".join(text.split()).encode("ascii", "replace").decode("ascii")
    return line if len(line) <= most else line[: most - 3] + "..."


class Notifier:
    """Sends to the socket that `NOTIFY_SOCKET` names; without one, does nothing."""

    def __init__(self, notifier: sdnotify.SystemdNotifier | None) -> None:
        self._notifier = notifier
        self._left: dict[str, str] = {}  # what found the queue full: name -> line

    @classmethod
    def from_environment(cls) -> Notifier:
        """Takes the variable out of the environment: it is not for what this process starts."""
        if not os.environ.get("NOTIFY_SOCKET"):
            return cls(None)
        notifier = sdnotify.SystemdNotifier()
        del os.environ["NOTIFY_SOCKET"]
        if notifier.socket is None:  # nobody listens there
            return cls(None)
        notifier.socket.setblocking(False)
        notifier.debug = True  # it raises what it would swallow
        return cls(notifier)

    def send(self, *lines: str) -> None:
        """Send assignments (`READY=1`, `STATUS=...`) in one message.

        The receiver's queue is full, or it is gone: neither stops the work. Once there is room again the next call
        sends what was left too, the last line of each name.
        """
        if self._notifier is None or not lines:
            return
        self._left |= {line.partition("=")[0]: clean(line, MAX_STATUS + len("STATUS=")) for line in lines}
        try:
            self._notifier.notify("\n".join(self._left.values()))
        except BlockingIOError:
            return
        except OSError:
            pass  # nobody is there to hear it
        self._left = {}


class Message(NamedTuple):
    pid: int  # of the sender, by the kernel's word
    fields: dict[str, str]


class Receiver:
    """The other end: a datagram socket that children send to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        Path(path).unlink(missing_ok=True)  # of a process that was killed
        self._socket.bind(path)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> list[Message]:
        """All messages that have arrived. File descriptors that were sent along are closed."""
        found: list[Message] = []
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_LARGEST, socket.CMSG_SPACE(_CREDENTIALS.size) + 256)
            except BlockingIOError:
                return found
            pid = 0
            for level, kind, payload in ancillary:
                if level != socket.SOL_SOCKET:
                    continue
                if kind == socket.SCM_CREDENTIALS:
                    pid = _CREDENTIALS.unpack(payload[: _CREDENTIALS.size])[0]
                elif kind == socket.SCM_RIGHTS:
                    descriptors = array.array("i")
                    descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
                    for descriptor in descriptors:
                        os.close(descriptor)
            found.append(Message(pid, parse(data)))

    def close(self) -> None:
        self._socket.close()
        Path(self.path).unlink(missing_ok=True)


def parse(data: bytes) -> dict[str, str]:
    """The assignments of one message; lines without `=` mean nothing."""
    fields: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            fields[name] = value
    return fields
