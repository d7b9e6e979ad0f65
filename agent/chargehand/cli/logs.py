"""`chargehand logs`: what the children and the agent print, wherever that is kept."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click

from chargehand.cli.agent import (
    ControlError,
    NoAnswer,
    NotAllowed,
    NotRunning,
    ask,
    complete_children,
    node_status,
    settings_if_sound,
    unit_name,
)
from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, json_option, print_json

__all__ = ["identifiers", "journal_command", "logs"]

_AGENT = "agent"  # no child may have this name


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    found = complete_children(ctx, param, incomplete)
    return sorted({*found, _AGENT}) if _AGENT.startswith(incomplete) else found


@click.command()
@click.argument("child", required=False, shell_complete=_complete)
@click.option(
    "-n", "lines", type=click.IntRange(0), default=50, show_default=True, help="How many lines (without journal: each)."
)
@click.option("-f", "follow", is_flag=True, help="Go on with what is printed from now on (in the journal).")
@json_option
@config_option
def logs(child: str | None, lines: int, *, follow: bool, as_json: bool) -> int:
    """What CHILD printed last: a child of this node, a worker group, or "agent". Without one, all of them.

    Under systemd this is the journal, read by journalctl (-u of the agent's unit, -t of the child). Elsewhere the
    agent itself keeps the last 200 lines of each child that runs; its own lines go to its standard error only.

    Exit code: that of journalctl; without a journal 0, or 1 when there is no such child or nobody to ask.
    """
    if child == "":
        raise CliError("an empty name names no child", 2)
    if _in_journal():
        _to_journal(journal_command(unit_name(), identifiers(child, _known()), lines, follow=follow, as_json=as_json))
    if follow:
        raise CliError("-f follows the journal, and this agent does not write to one: see its standard error")
    if child == _AGENT:
        raise CliError("the agent's own lines are on its standard error; from now on: chargehand events")
    _print(child, lines, as_json=as_json)
    return 0


def _in_journal() -> bool:
    """Where the lines are: the agent knows. One that has ended or hangs is when its last words are wanted most."""
    try:
        return bool(ask("Logs", {"lines": 0}, timeout=2.0)["journal"])
    except (NotRunning, NotAllowed, NoAnswer) as error:
        if shutil.which("journalctl") is None:
            raise
        print(f"chargehand: note: {error}; what the journal has:", file=sys.stderr)
        return True


def _print(child: str | None, lines: int, *, as_json: bool) -> None:
    found: list[dict[str, Any]] = ask("Logs", {"lines": lines, "child": child})["lines"]
    if as_json:
        print_json(found)
        return
    for line in found:
        print(f"{line['child']}: {line['text']}" if child is None or line["child"] != child else line["text"])


def _known() -> dict[str, str]:
    """Children of this node and their groups: those that run, and those that are configured."""
    from chargehand.supervisor.roster import roster

    settings = settings_if_sound()
    known = {spec.name: spec.crew for spec in roster(settings)} if settings is not None else {}
    with suppress(ControlError):  # it has ended, or ends: the configuration knows them
        known |= {one.name: one.group for one in node_status(ask("Status", timeout=2.0)).children}
    return known


def identifiers(child: str | None, known: Mapping[str, str]) -> list[str]:
    """Under which names the journal has their lines; none: under any. `known`: children, and their groups.

    Raises `CliError` for a name that is none.
    """
    if child is None:
        return []
    if child == _AGENT:
        return ["chargehand"]
    found = [f"chargehand-{name}" for name, group in known.items() if child in {name, group}]
    if not found:
        raise CliError(
            f'there is no child "{child}" here; there are: {", ".join([*sorted(known), _AGENT])} '
            f"(of one that was: journalctl -t chargehand-{child})"
        )
    return found


def journal_command(unit: str, names: list[str], lines: int, *, follow: bool, as_json: bool) -> list[str]:
    command = ["journalctl", f"--unit={unit}", *(f"--identifier={name}" for name in names), f"--lines={lines}"]
    return command + ["--follow"] * follow + ["--output=json"] * as_json


def _to_journal(command: list[str]) -> None:
    """Become journalctl: its pager, its colours and its exit code are what a person at a terminal knows."""
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606 - an argv list, no shell
    except FileNotFoundError:
        raise CliError("the lines are in the journal, and there is no journalctl to read it: install systemd") from None
