"""The control socket: JSON objects ended by NUL, in the shape of Varlink. Its mode decides who may connect."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chargehand.link import Link, LinkError
from chargehand.supervisor.sockets import checked

__all__ = ["Control", "ControlError", "query", "socket_path"]

_MOST = 32  # connections at once
_LARGEST = 64 * 1024  # bytes that one connection may ask at once


class ControlError(Exception):
    """The agent cannot be asked, or refused. The message is for the person who asked."""


def socket_path(runtime_dir: str) -> Path:
    return Path(runtime_dir) / "agent.sock"


class Control:
    """The agent's end. `methods` answer with parameters, or raise `ControlError`.

    Raises `ControlError` when another agent answers there.
    """

    def __init__(self, path: Path, methods: dict[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
        self.path = checked(path)
        self._methods = methods
        _refuse_to_share(path)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        before = os.umask(0o117)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(before)
        self._socket.listen(16)
        self.links: list[Link] = []

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        if len(self.links) >= _MOST:
            connection.close()
            return
        self.links.append(Link(connection, largest=_LARGEST))

    def serve(self, link: Link) -> None:
        """Answer what has arrived; drop a connection that ended or talks nonsense.

        Somebody who asks without reading the answers is not heard until they have been read.
        """
        link.flush()
        if link.sending:
            return
        try:
            messages, ended = link.receive()
            for message in messages:
                self._answer(link, message)
        except LinkError as error:
            link.fail("org.varlink.service.InvalidParameter", {"parameter": str(error)})
            ended = True
        if ended:
            self.links.remove(link)
            link.close()

    def _answer(self, link: Link, message: dict[str, Any]) -> None:
        method = message.get("method")
        found = self._methods.get(method) if isinstance(method, str) else None
        parameters = message.get("parameters") or {}
        if found is None:
            link.fail("org.varlink.service.MethodNotFound", {"method": str(method)[:100]})
        elif not isinstance(parameters, dict):
            link.fail("org.varlink.service.InvalidParameter", {"parameter": "parameters"})
        else:
            try:
                link.reply(found(parameters))
            except ControlError as error:
                link.fail("io.chargehand.Agent.Refused", {"reason": str(error)})

    def close(self) -> None:
        for link in self.links:
            link.close()
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


def query(path: Path, method: str, parameters: dict[str, Any] | None = None, timeout: float = 5.0) -> dict[str, Any]:
    """Ask a running agent. Raises `ControlError`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except FileNotFoundError:
            raise ControlError(f"no agent runs here ({path} does not exist): systemctl start chargehand") from None
        except OSError as error:
            raise ControlError(f"the agent cannot be asked at {path}: {os.strerror(error.errno or 0)}") from error
        link = Link(connection)
        link.send({"method": method, "parameters": parameters or {}})
        try:
            answer = link.receive_first(timeout)
        except LinkError as error:
            raise ControlError(f"the agent at {path} did not answer in {timeout:g} s") from error
    if "error" in answer:
        raise ControlError(str(answer.get("parameters", {}).get("reason", answer["error"])))
    found: dict[str, Any] = answer.get("parameters", {})
    return found
