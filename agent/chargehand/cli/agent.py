"""This node's agent, as the commands ask it: where its socket is, and what each kind of silence means."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargehand.link import Link, LinkError
from chargehand.supervisor.control import ControlError, socket_path
from chargehand.supervisor.interface import NAME

if TYPE_CHECKING:
    from chargehand.config.settings import Settings
    from chargehand.health import NodeStatus

__all__ = [
    "ControlError",
    "NoAnswer",
    "NotAllowed",
    "NotRunning",
    "Rejected",
    "agent_socket",
    "ask",
    "complete_children",
    "follow",
    "node_status",
    "settings_if_sound",
    "unit_name",
]

_PATIENCE = 5.0  # seconds for an answer: the agent's loop never waits for anything
_HOME = Path("/etc/chargehand")
_RUNTIME_DIR = re.compile(r"""^[^#\n]*\bruntime_dir\s*=\s*(["'])(?P<path>/[^"']*)\1""", re.MULTILINE)


class NotRunning(ControlError):
    """No agent listens, or it ended before it had answered."""


class NotAllowed(ControlError):
    """This user may not use the socket."""


class NoAnswer(ControlError):
    """Somebody listens and says nothing, or nothing that can be understood."""


class Rejected(ControlError):
    """The configuration is refused; a line a problem."""


# -- where ----------------------------------------------------------------------------------------


def settings_if_sound() -> Settings | None:
    """The configuration as it stands now; None when it would be refused."""
    from chargehand.config.load import ConfigError, load

    try:
        return load(None).settings
    except ConfigError:
        return None


def agent_socket() -> Path:
    """Raises `ConfigError` when no file says where it is.

    A configuration that is refused is looked through for this one key: its agent still runs, by what the files
    said before, and is to be asked how it is, and told to look at them.
    """
    from chargehand.config.load import ConfigError, load

    try:
        runtime_dir = load(None).settings.agent.runtime_dir
    except ConfigError:
        texts = list(_texts())
        if not texts:
            raise
        said = [found["path"] for text in texts for found in _RUNTIME_DIR.finditer(text)]
        from chargehand.config.settings import AgentSettings

        runtime_dir = said[-1] if said else AgentSettings().runtime_dir
    return socket_path(runtime_dir)


def _texts() -> Iterator[str]:
    """The configuration's files, those that can be read, in their order."""
    from chargehand.config.files import config_path, drop_in_directory

    main, _ = config_path(None)
    files = [main]
    with suppress(OSError):
        files += sorted(drop_in_directory(main).glob("[!.]*.toml"))
    for file in files:
        with suppress(OSError, UnicodeDecodeError):
            yield file.read_text(encoding="utf-8")


def unit_name() -> str:
    """The systemd unit of the agent with this configuration."""
    from chargehand.config.files import DEFAULT, config_path

    main, _ = config_path(None)
    if main.parent == _HOME and main.suffix == ".toml" and main.name != DEFAULT.name:
        return f"chargehand@{main.stem}.service"
    return "chargehand.service"


# -- asking ---------------------------------------------------------------------------------------


def ask(method: str, parameters: dict[str, Any] | None = None, *, timeout: float = _PATIENCE) -> dict[str, Any]:
    """Its one answer. Raises `ControlError` and those above, `ConfigError`."""
    for answer in _exchange(agent_socket(), {"method": f"{NAME}.{method}", "parameters": parameters or {}}, timeout):
        return answer
    raise NotRunning("the agent ended before it had answered")


def follow(method: str, parameters: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Its answers as they come, until the last, or until the agent ends. Raises as `ask` does."""
    message = {"method": f"{NAME}.{method}", "parameters": parameters or {}, "more": True}
    yield from _exchange(agent_socket(), message, None)


def node_status(answer: dict[str, Any]) -> NodeStatus:
    """What `Status` answered. Raises `NoAnswer` when that is no status."""
    import msgspec

    from chargehand.health import NodeStatus

    try:
        return msgspec.convert(answer, NodeStatus)
    except msgspec.ValidationError as error:
        raise NoAnswer(
            f"the agent's answer is not understood ({error}): it is of another version; restart it"
        ) from error


def complete_children(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """For the shell: children and worker groups that begin like this. Nobody can be told why there are none."""
    from chargehand.config.problems import ConfigError

    try:
        children = node_status(ask("Status", timeout=1.0)).children
    except (ControlError, ConfigError, OSError):
        return []
    names = {name for child in children for name in (child.name, child.group) if name}
    return sorted(name for name in names if name.startswith(incomplete))


def _exchange(path: Path, message: dict[str, Any], timeout: float | None) -> Iterator[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout or _PATIENCE)  # also where too many wait to be heard
        _connect(connection, path)
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
                raise _refusal(answer)
            more = bool(answer.get("continues"))
            found: dict[str, Any] = answer.get("parameters") or {}
            yield found


def _connect(connection: socket.socket, path: Path) -> None:
    try:
        connection.connect(str(path))
    except FileNotFoundError:
        raise NotRunning(f"no agent runs on this node ({path} does not exist): systemctl start {unit_name()}") from None
    except ConnectionRefusedError:
        raise NotRunning(
            f"no agent runs on this node (none listens at {path}): systemctl start {unit_name()}"
        ) from None
    except PermissionError:
        raise NotAllowed(f"{path} may not be used by this user: ask as root, or as a member of its group") from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise NoAnswer(f"the agent cannot be asked at {path}: {why}") from error


def _refusal(answer: dict[str, Any]) -> ControlError:
    error, parameters = str(answer["error"]), answer.get("parameters") or {}
    if error == f"{NAME}.InvalidConfiguration":
        return Rejected("\n".join(str(problem) for problem in parameters.get("problems") or ["it is not sound"]))
    if error == "org.varlink.service.MethodNotFound":
        return ControlError(f"the agent that runs here is of an earlier version: systemctl restart {unit_name()}")
    return ControlError(str(parameters.get("reason") or f"{error} {parameters or ''}".strip()))
