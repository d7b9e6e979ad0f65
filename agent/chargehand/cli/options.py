"""Options that mean the same in every command, and what commands share."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.table import Table

    from chargehand.actions import Action
    from chargehand.config.load import Loaded
    from chargehand.config.settings import Settings
    from chargehand.executors import Executors

__all__ = [
    "ago",
    "config_option",
    "connected",
    "executor_option",
    "file_path",
    "given_value",
    "json_option",
    "loaded",
    "moment",
    "print_json",
    "print_table",
    "reachable",
    "time_of_day",
]

F = TypeVar("F", bound=Callable[..., Any])

_WIDE = 10_000  # columns: nothing is cut


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


def print_table(table: Table) -> None:
    """On a terminal as wide as that is; where it goes elsewhere, whole."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(table)
    else:
        Console(width=_WIDE).print(table)


def connected(settings: Settings | None = None, actions: Mapping[str, Action[..., Any]] | None = None) -> Executors:
    """All that commands submit to, find plans in and ask for something. It is closed by `with`."""
    from chargehand.executors import Executors

    def tell(text: str) -> None:
        print(f"chargehand: {text}", file=sys.stderr, flush=True)

    return Executors(settings or reachable(), actions, tell=tell)


def executor_option(function: F) -> F:
    from chargehand.cli import completion

    return click.option(
        "--executor",
        metavar="NAME",
        shell_complete=completion.executors,
        help="To this executor and no other; default: chosen by load.",
    )(function)


def ago(text: str | None) -> datetime | None:
    """A time, or how long ago."""
    return _time(text, "ago", -1)


def moment(text: str | None) -> datetime | None:
    """A time, or how long from now."""
    return _time(text, "from now", 1)


def _time(text: str | None, which: str, sign: int) -> datetime | None:
    """With the local zone where it names none."""
    from chargehand.config.quantities import parse_duration

    if text is None:
        return None
    try:
        return datetime.fromtimestamp(time.time() + sign * parse_duration(text)).astimezone()
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise click.BadParameter(
            f'{text!r} is no time: write how long {which} ("7d", "30m"), or "2026-11-24T10:00"'
        ) from None


def given_value(text: str, what: str) -> Any:
    """A value as it is typed: JSON where it is a list or a table, text otherwise (types decide what it means)."""
    if text[:1] not in {"[", "{"}:
        return text
    import msgspec

    from chargehand.cli.errors import CliError
    from chargehand.decoding import decode

    try:
        return decode(text)
    except msgspec.DecodeError as error:
        raise CliError(f"{what}: {text!r} begins like JSON and is none: {error}", 2) from error


def time_of_day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S") if ms else "-"
