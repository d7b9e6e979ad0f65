"""This node's agent, as the commands ask it: where its socket is, and what each kind of silence means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chargehand.supervisor import asking
from chargehand.supervisor.asking import PATIENCE, ControlError, NoAnswer, NotAllowed, NotRunning, Rejected
from chargehand.supervisor.control import socket_path

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

_RUNTIME_DIR = re.compile(r"""^[^#\n]*\bruntime_dir\s*=\s*(["'])(?P<path>/[^"']*)\1""", re.MULTILINE)


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
        from chargehand.config.files import config_path
        from chargehand.config.load import directories

        runtime_dir = said[-1] if said else directories(config_path(None)[0])["runtime_dir"]
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
    from chargehand.config.files import config_path, instance

    name = instance(config_path(None)[0])
    return f"chargehand@{name}.service" if name else "chargehand.service"


# -- asking ---------------------------------------------------------------------------------------


def ask(method: str, parameters: dict[str, Any] | None = None, *, timeout: float = PATIENCE) -> dict[str, Any]:
    """Its one answer. Raises `ControlError` and its kinds, `ConfigError`."""
    return asking.query(agent_socket(), method, parameters, timeout=timeout, unit=unit_name())


def follow(method: str, parameters: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Its answers as they come, until the last, or until the agent ends. Raises as `ask` does."""
    yield from asking.follow(agent_socket(), method, parameters, unit=unit_name())


def node_status(answer: dict[str, Any]) -> NodeStatus:
    """What `Status` answered. Raises `NoAnswer` when that is no status."""
    import msgspec

    from chargehand.decoding import converter
    from chargehand.health import NodeStatus

    try:
        found: NodeStatus = converter(NodeStatus)(answer)
    except msgspec.ValidationError as error:
        raise NoAnswer(
            f"the agent's answer is not understood ({error}): it is of another version; restart it"
        ) from error
    return found


def complete_children(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """For the shell: children and worker groups that begin like this. Nobody can be told why there are none."""
    from chargehand.cli.completion import patience
    from chargehand.config.problems import ConfigError

    try:
        children = node_status(ask("Status", timeout=patience())).children
    except (ControlError, ConfigError, OSError):
        return []
    names = {name for child in children for name in (child.name, child.group) if name}
    return sorted(name for name in names if name.startswith(incomplete))
