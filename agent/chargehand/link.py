"""The link: one socket between the agent and each child, JSON objects ended by NUL.

The agent asks (settings, death notices, drain, step down), the child answers in order. Its end means that the
other side is gone: a child whose link ends has no agent and ends too.
"""

from __future__ import annotations

import os
import select
import socket
from typing import Any

import msgspec

from chargehand.decoding import decode

__all__ = ["Link", "LinkError", "pair"]

_LARGEST = 16 * 1024 * 1024  # bytes of one message: far above any settings, far below any memory


class LinkError(Exception):
    """The other side sent what is no message."""


class Link:
    """One end. Never blocks, but for `receive_first`."""

    def __init__(self, connection: socket.socket, *, largest: int = _LARGEST) -> None:
        """`largest`: bytes that may arrive without having been taken."""
        connection.setblocking(False)
        self._socket = connection
        self._largest = largest
        self._in = bytearray()
        self._out = bytearray()
        self._ended = False

    @classmethod
    def from_environment(cls) -> Link | None:
        """The child's end, as the agent gave it; None without an agent."""
        number = os.environ.pop("CHARGEHAND_LINK_FD", "")
        if not number:
            return None
        link = socket.socket(fileno=int(number))
        os.set_inheritable(link.fileno(), False)
        return cls(link)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def sending(self) -> bool:
        """True while there is something that the socket did not take yet."""
        return bool(self._out)

    @property
    def unsent(self) -> int:
        """Bytes of it."""
        return len(self._out)

    def receive_first(self, timeout: float | None) -> dict[str, Any]:
        """Wait for the next message. Raises `LinkError` when none comes in `timeout` seconds (None: no limit)."""
        while True:
            message = self._next()
            if message is not None:
                return message
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if self._ended or not poll.poll(None if timeout is None else timeout * 1000):
                raise LinkError("the other side sent nothing")
            self._fill()

    def receive(self) -> tuple[list[dict[str, Any]], bool]:
        """Messages that have arrived, and whether the other side is gone."""
        self._fill()
        found = []
        while (message := self._next()) is not None:
            found.append(message)
        return found, self._ended

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message and send what the socket takes."""
        self._out += msgspec.json.encode(message) + b"\0"
        self.flush()

    def reply(self, parameters: dict[str, Any]) -> None:
        self.send({"parameters": parameters})

    def fail(self, error: str, parameters: dict[str, Any]) -> None:
        self.send({"error": error, "parameters": parameters})

    def flush(self) -> None:
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except BlockingIOError:
                return
            except OSError:
                self._ended = True
                self._out.clear()
                return
            del self._out[:sent]

    def close(self) -> None:
        self._socket.close()

    def _fill(self) -> None:
        while not self._ended:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._ended = True
                return
            self._in += data
            if len(self._in) > self._largest:
                raise LinkError(f"more than {self._largest} bytes at once")

    def _next(self) -> dict[str, Any] | None:
        end = self._in.find(b"\0")
        if end < 0:
            return None
        data = bytes(self._in[:end])
        del self._in[: end + 1]
        try:
            return decode(data, dict[str, Any])
        except msgspec.MsgspecError as error:
            raise LinkError(f"not a message: {error}") from error


def pair() -> tuple[Link, socket.socket]:
    """The agent's end, and the socket that the child inherits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Link(ours), theirs
