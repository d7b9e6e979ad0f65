"""`chargehand console`: the program that the agent runs, and the tokens that it asks for."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Literal

import click

from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, file_path, loaded

__all__ = ["console"]

_MODE = 0o640  # of a new tokens file: read by the agent's group


@click.group(invoke_without_command=True)
@config_option
@click.pass_context
def console(context: click.Context) -> int:
    """Pages, REST and metrics. Without a command: serve them (the agent does that)."""
    if context.invoked_subcommand is not None:
        return 0
    from chargehand.console.main import main

    return main([])


@console.command()
@click.argument("name")
@click.option("--rights", type=click.Choice(["read", "act"]), default="read", show_default=True, help="What it allows.")
@click.option("--replace", is_flag=True, help="In place of the token of this name: the old one counts no more.")
@click.option("--remove", is_flag=True, help="Remove the token of this name: it counts no more.")
@click.option("--file", "path", type=file_path, metavar="PATH", help="The tokens file; default: console.tokens_file.")
@config_option
def token(name: str, rights: Literal["read", "act"], path: str | None, *, replace: bool, remove: bool) -> None:
    """Make a token and print it, once: the tokens file keeps only a digest.

    It counts at once: a console that runs reads the file again when it changes.
    """
    from chargehand.config.secrets import is_credential
    from chargehand.console.tokens import new_token, parse_tokens

    path = path or loaded().settings.console.tokens_file
    if path is None:
        raise CliError('console.tokens_file is not set: set it, say to "/etc/chargehand/tokens", or give --file')
    if is_credential(path):
        raise CliError(f"{path} is systemd's copy: give --file with the file of LoadCredential=")
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    lines = text.splitlines()
    there = [line for line in lines if not line.startswith("#") and line.split()[:1] == [name]]
    if remove:
        if not there:
            raise CliError(f"{file} has no token {name!r}")
        _write(file, [line for line in lines if line not in there])
        print(f"{name} removed from {file}")
        return
    if there and not replace:
        raise CliError(f"{file} has a token {name!r}: use --replace, or another name")
    secret, made = new_token(name, acts=rights == "act")
    if not parse_tokens(made.line)[0]:
        raise CliError(f"{name!r} is no name of letters, digits, '.', '_' and '-', at most 63", 2)
    _write(file, [*(line for line in lines if line not in there), made.line])
    print(secret)


def _write(file: Path, lines: list[str]) -> None:
    """As a whole: nobody reads half of it. Owner and mode stay; a new one belongs to its directory's group."""
    try:
        status = file.stat()
        owner, mode = (status.st_uid, status.st_gid), status.st_mode & 0o7777
    except FileNotFoundError:
        owner, mode = (-1, file.parent.stat().st_gid), _MODE
    descriptor, made = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.writelines(f"{line}\n" for line in lines)
            with contextlib.suppress(PermissionError):  # only root may give it away
                os.fchown(new.fileno(), *owner)
            os.fchmod(new.fileno(), mode)
        Path(made).replace(file)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise
