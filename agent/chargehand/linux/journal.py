"""systemd's journal: a stream for a child's output, and datagrams with fields for our own events."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["Journal", "open_stream", "prefixes", "writes_to_journal"]

_STREAM = "/run/systemd/journal/stdout"
_DATAGRAMS = "/run/systemd/journal/socket"
_INFO = 6


def writes_to_journal(descriptor: int = 2) -> bool:
    """True when systemd connected this descriptor to the journal: `JOURNAL_STREAM` names its device and inode."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def prefixes(priority: int) -> str:
    """What marks a line's priority on a stream: `<3>`."""
    return f"<{priority}>"


def open_stream(identifier: str) -> socket.socket | None:
    """A stream whose lines are entries under `identifier`; `<N>` at a line's start is its priority.

    None where no journal listens. Its reading side is the journal's: nothing of ours stands in the path.
    """
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # Identifier, unit (only root may name one), priority, whether prefixes count, and to whom it is passed on.
    header = f"{identifier}\n\n{_INFO}\n1\n0\n0\n0\n".encode()
    try:
        stream.connect(_STREAM)
        stream.shutdown(socket.SHUT_RD)
        stream.sendall(header)
    except OSError:
        stream.close()
        return None
    return stream


class Journal:
    """Native entries: each is a datagram of fields."""

    def __init__(self, path: str = _DATAGRAMS) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def send(self, fields: Mapping[str, str]) -> None:
        """A journal that is full or away loses the entry; the work goes on."""
        parts = []
        for name, value in fields.items():
            data = value.encode(errors="replace")
            if b"\n" in data:
                parts.append(name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
            else:
                parts.append(name.encode() + b"=" + data + b"\n")
        with suppress(OSError):
            self._socket.sendto(b"".join(parts), self._path)

    def close(self) -> None:
        self._socket.close()
