"""The control socket, the end of whoever asks; each kind of silence is an error of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chargehand.link import Link, LinkError
from chargehand.supervisor.control import ControlError
from chargehand.supervisor.interface import NAME

__all__ = ["PATIENCE", "ControlError", "NoAnswer", "NotAllowed", "NotRunning", "Rejected", "follow", "query"]

PATIENCE = 5.0  # seconds for an answer: the agent's loop never waits for anything


class NotRunning(ControlError):
    """No agent listens, or it ended before it had answered."""


class NotAllowed(ControlError):
    """This user may not use the socket."""


class NoAnswer(ControlError):
    """Somebody listens and says nothing, or nothing that can be understood."""


class Rejected(ControlError):
    """The configuration is refused; a line a problem."""


def query(
    path: Path,
    method: str,
    parameters: dict[str, Any] | None = None,
    *,
    timeout: float = PATIENCE,
    unit: str = "chargehand.service",
) -> dict[str, Any]:
    """Ask a running agent, and take its one answer. Raises `ControlError` and those above.

    `method`: with its interface, or the name alone of one of the agent's. `unit`: what to start when none runs.
    """
    for answer in _exchange(path, {"method": _whole(method), "parameters": parameters or {}}, timeout, unit):
        return answer
    raise NotRunning("the agent ended before it had answered")


def follow(
    path: Path, method: str, parameters: dict[str, Any] | None = None, *, unit: str = "chargehand.service"
) -> Iterator[dict[str, Any]]:
    """Its answers as they come, until the last, or until the agent ends. Raises as `query` does."""
    yield from _exchange(path, {"method": _whole(method), "parameters": parameters or {}, "more": True}, None, unit)


def _whole(method: str) -> str:
    return method if "." in method else f"{NAME}.{method}"


def _exchange(path: Path, message: dict[str, Any], timeout: float | None, unit: str) -> Iterator[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout or PATIENCE)  # also where too many wait to be heard
        _connect(connection, path, unit)
        link = Link(connection)
        link.send(message)
        more = True
        while more:
            try:
                answer = link.receive_first(timeout)
            except LinkError as error:
                if link.ended:
                    return
                within = f" in {timeout:g} s" if timeout is not None else ""
                raise NoAnswer(f"the agent at {path} gave no answer{within}: {error}") from error
            if "error" in answer:
                raise _refusal(answer, unit)
            more = bool(answer.get("continues"))
            found: dict[str, Any] = answer.get("parameters") or {}
            yield found


def _connect(connection: socket.socket, path: Path, unit: str) -> None:
    try:
        connection.connect(str(path))
    except FileNotFoundError:
        raise NotRunning(f"no agent runs on this node ({path} does not exist): systemctl start {unit}") from None
    except ConnectionRefusedError:
        raise NotRunning(f"no agent runs on this node (none listens at {path}): systemctl start {unit}") from None
    except PermissionError:
        raise NotAllowed(f"{path} may not be used by this user: ask as root, or as a member of its group") from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise NoAnswer(f"the agent cannot be asked at {path}: {why}") from error


def _refusal(answer: dict[str, Any], unit: str) -> ControlError:
    error, parameters = str(answer["error"]), answer.get("parameters") or {}
    if error == f"{NAME}.InvalidConfiguration":
        return Rejected("\n".join(str(problem) for problem in parameters.get("problems") or ["it is not sound"]))
    if error == "org.varlink.service.MethodNotFound":
        return ControlError(f"the agent that runs here is of an earlier version: systemctl restart {unit}")
    return ControlError(str(parameters.get("reason") or f"{error} {parameters or ''}".strip()))
