"""Options that mean the same in every command, and what commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from chargehand.config.load import Loaded
    from chargehand.config.settings import Settings

__all__ = ["config_option", "file_path", "json_option", "loaded", "print_json", "reachable"]

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """`--config PATH`, before or after the command; it sets CHARGEHAND_CONFIG for everything that loads."""

    def keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:  # noqa: ARG001 - click's signature
        if value is not None:
            os.environ["CHARGEHAND_CONFIG"] = value

    return click.option(
        "--config",
        metavar="PATH",
        type=file_path,
        callback=keep,
        expose_value=False,
        is_eager=True,
        help="Configuration file [env: CHARGEHAND_CONFIG].",
    )(function)


def file_path(value: str) -> str:
    """The type of a path that is not empty: an unset variable in a script must not mean the default file."""
    if not value:
        raise click.BadParameter("an empty path names no file")
    return value


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)


def loaded() -> Loaded:
    from chargehand.config.files import config_path, instance
    from chargehand.config.load import load
    from chargehand.config.secrets import CREDENTIALS, credentials_of

    found = load(None)
    # A command is not in the unit; whoever may look there finds its credentials where systemd keeps them.
    os.environ.setdefault(CREDENTIALS, credentials_of(instance(config_path(None)[0])))
    return found


def reachable() -> Settings:
    """The configuration as a client can connect by it."""
    from chargehand.config import plain

    return plain.reachable(loaded().settings)


def print_json(value: Any) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
