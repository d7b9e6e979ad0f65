"""The control socket, the agent's end: Varlink, JSON objects ended by NUL. Its mode decides who may connect."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chargehand.link import Link, LinkError
from chargehand.supervisor.interface import INTERFACE, NAME, SERVICE
from chargehand.supervisor.sockets import checked

__all__ = ["Call", "Connection", "Control", "ControlError", "socket_path"]

_MOST = 32  # connections at once
_LARGEST = 64 * 1024  # bytes that one connection may ask at once
_QUEUED = 1000  # calls of one connection that may wait for the answer to one before
_FOLLOWER = 1024 * 1024  # bytes that somebody who follows may leave unread
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class ControlError(Exception):
    """The agent cannot be asked, or refused. The message is for the person who asked."""


def socket_path(runtime_dir: str) -> Path:
    return Path(runtime_dir) / "agent.sock"


class Call:
    """A request that waits for its answer; `reply` or `fail` once, or several times where more was asked for."""

    def __init__(self, connection: Connection, method: str, message: dict[str, Any]) -> None:
        self._connection = connection
        self.method = method.rpartition(".")[2]
        self.parameters: dict[str, Any] = message.get("parameters") or {}
        self.more = bool(message.get("more"))
        self._oneway = bool(message.get("oneway"))

    @property
    def actor(self) -> str:
        """Who asks, for the audit line: a user's name, by the kernel's word."""
        return self._connection.actor

    @property
    def pid(self) -> int:
        return self._connection.pid

    @property
    def gone(self) -> bool:
        """Whoever asked has left."""
        return self._connection.closed

    def text(self, name: str) -> str:
        """A parameter that is a string; empty when it is absent. Raises `ControlError`."""
        value = self.parameters.get(name)
        if value is not None and not isinstance(value, str):
            raise ControlError(f"{name}: found {value!r}, expected a string")
        return value or ""

    def reply(self, parameters: dict[str, Any], *, last: bool = True) -> None:
        message: dict[str, Any] = {"parameters": parameters}
        if not last:
            message["continues"] = True
        self._send(message, last=last)

    def fail(self, error: str, **parameters: Any) -> None:
        self._send({"error": error, "parameters": parameters}, last=True)

    def refuse(self, reason: str) -> None:
        self.fail(f"{NAME}.Refused", reason=reason)

    def _send(self, message: dict[str, Any], *, last: bool) -> None:
        if not self._connection.closed:
            if not self._oneway:
                self._connection.send(message)
            if last:
                self._connection.answered()


class Connection:
    """Answers its calls one after the other: the next is heard when the last has been answered."""

    def __init__(self, connection: socket.socket, serve: Callable[[Call], None], changed: Callable[[], None]) -> None:
        self.pid: int
        self.pid, uid, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        try:
            self.actor = pwd.getpwuid(uid).pw_name
        except KeyError:
            self.actor = f"uid {uid}"
        self._link = Link(connection, largest=_LARGEST)
        self._serve = serve
        self._changed = changed
        self._waiting: list[dict[str, Any]] = []
        self._pending: Call | None = None
        self._serving = False
        self._fd = self._link.fileno()
        self.closed = False

    def fileno(self) -> int:
        return self._fd

    @property
    def sending(self) -> bool:
        return self._link.sending

    @property
    def hearing(self) -> bool:
        """Somebody who asks without reading the answers is not heard until they have been read."""
        return not self._link.sending or self._pending is not None

    def turn(self) -> None:
        """It is readable, or takes more."""
        self._link.flush()
        if not self.hearing:
            return
        try:
            messages, ended = self._link.receive()
        except LinkError as error:
            self._link.fail("org.varlink.service.InvalidParameter", {"parameter": str(error)})
            messages, ended = [], True
        self._waiting += messages
        self._next()
        if ended or len(self._waiting) > _QUEUED:
            self.close()

    def _next(self) -> None:
        if self._serving:
            return  # answered while it was served: the loop below goes on
        self._serving = True
        try:
            self._serve_waiting()
        finally:
            self._serving = False

    def _serve_waiting(self) -> None:
        while self._waiting and self._pending is None and not self.closed:
            message = self._waiting.pop(0)
            method = message.get("method")
            call = Call(self, method if isinstance(method, str) else "", message)
            if not isinstance(method, str):
                self._link.fail("org.varlink.service.MethodNotFound", {"method": str(method)[:100]})
            elif not isinstance(message.get("parameters") or {}, dict):
                self._link.fail("org.varlink.service.InvalidParameter", {"parameter": "parameters"})
            else:
                self._pending = call
                self._serve_one(call, method)

    def _serve_one(self, call: Call, method: str) -> None:
        interface = method.rpartition(".")[0]
        if interface == "org.varlink.service":
            _describe_service(call)
        elif interface != NAME:
            call.fail("org.varlink.service.InterfaceNotFound", interface=interface[:100])
        else:
            try:
                self._serve(call)
            except ControlError as error:
                call.refuse(str(error))

    def send(self, message: dict[str, Any]) -> None:
        self._link.send(message)
        if self._link.unsent > _FOLLOWER:
            self.close()
        self._changed()

    def answered(self) -> None:
        self._pending = None
        self._next()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._link.close()
            self._changed()


def _describe_service(call: Call) -> None:
    if call.method == "GetInfo":
        from chargehand import __version__  # noqa: PLC0415 - by hand, seldom

        call.reply(
            {
                "vendor": "Chargehand",
                "product": "chargehand agent",
                "version": __version__,
                "url": "",
                "interfaces": ["org.varlink.service", NAME],
            }
        )
    elif call.method == "GetInterfaceDescription":
        found = {NAME: INTERFACE, "org.varlink.service": SERVICE}.get(str(call.parameters.get("interface")))
        if found is None:
            call.fail("org.varlink.service.InterfaceNotFound", interface=str(call.parameters.get("interface"))[:100])
        else:
            call.reply({"description": found})
    else:
        call.fail("org.varlink.service.MethodNotFound", method=f"org.varlink.service.{call.method}"[:100])


class Control:
    """The agent's end. Raises `ControlError` when another agent answers there."""

    def __init__(self, path: Path, serve: Callable[[Call], None], changed: Callable[[], None]) -> None:
        """`serve` answers a call now or later; `changed`: which descriptors are to be watched has changed."""
        self.path = checked(path)
        self._serve = serve
        self._changed = changed
        _refuse_to_share(path)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        before = os.umask(0o117)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(before)
        self._socket.listen(16)
        self._connections: list[Connection] = []

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def connections(self) -> list[Connection]:
        """Those that are open."""
        self._connections = [one for one in self._connections if not one.closed]
        return self._connections

    def accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        if len(self.connections) >= _MOST:
            connection.close()
            return
        self._connections.append(Connection(connection, self._serve, self._changed))
        self._changed()

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._socket.close()
        self.path.unlink(missing_ok=True)


def _refuse_to_share(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return  # none, or one that its agent left when it was killed
        except BlockingIOError:
            pass  # somebody listens, and is busy
    raise ControlError(f"another agent answers at {path}: stop it, or give this one its own agent.runtime_dir")
