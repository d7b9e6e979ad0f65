"""`chargehand reload`, `chargehand restart`: change what runs here without a restart of the agent."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from chargehand.cli.agent import Rejected, ask, complete_children, node_status, settings_if_sound
from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, json_option, print_json

__all__ = ["changes_told", "reload", "restart"]

_PATIENCE = 70.0  # seconds: the agent gives a reading of the files 30, and may have one under way


@click.command()
@click.option("--workers", is_flag=True, help="Also replace every worker, one at a time: to take new action code.")
@json_option
@config_option
def reload(*, workers: bool, as_json: bool) -> int:
    """Have this node's agent read its configuration again, and change only what changed.

    A changed child is replaced: the new one is READY before the old one drains. Answers when the configuration is
    in force, not when the old ones have drained.

    Exit code: 0 when it is in force, 78 when it is refused (the agent goes on with the one that it has, and says so
    in its status), 1 when no agent answers.
    """
    before = node_status(ask("Status"))
    try:
        changed: list[str] = ask("Reload", {"workers": workers}, timeout=_PATIENCE)["changed"]
    except Rejected as error:
        if as_json:
            print_json({"ok": False, "problems": str(error).splitlines()})
        else:
            for line in str(error).splitlines():
                print(f"chargehand: {line}", file=sys.stderr)
            print("chargehand: refused: the agent goes on with the configuration that it has", file=sys.stderr)
        return 78
    if as_json:
        print_json({"ok": True, "changed": changed})
        return 0
    kinds = {child.name: child.kind for child in before.children}
    print(changes_told(changed, kinds if before.drain is None else None, _wanted(), workers=workers))
    return 0


def _wanted() -> set[str] | None:
    """Names of the children that the configuration asks for now."""
    from chargehand.supervisor.roster import roster

    settings = settings_if_sound()
    return None if settings is None else {spec.name for spec in roster(settings)}


def changes_told(
    changed: list[str], before: Mapping[str, str] | None, wanted: set[str] | None, *, workers: bool
) -> str:
    """What a reload did, for a person.

    `before`: the kinds of the children that were there, by name; `wanted`: the names that are asked for now; None
    where that is not known. `workers`: all of them are replaced.
    """
    if not changed:
        return "reloaded: nothing changed"

    def what(name: str) -> str:
        if before is None or wanted is None:
            return "changed"
        if name not in wanted:
            return "removed"
        if name not in before:
            return "added"
        return "is being replaced" if workers and before[name] == "worker" else "changed"

    return "reloaded: " + ", ".join(f"{name} {what(name)}" for name in changed)


@click.command()
@click.argument("child", shell_complete=complete_children)
@json_option
@config_option
def restart(child: str, *, as_json: bool) -> int:
    """Replace CHILD: a child of this node, or a worker group (all of its processes).

    An orchestrator or worker is replaced when its successor is READY, and finishes what it runs; another program is
    stopped and started. The agent itself: systemctl restart chargehand.

    Exit code: 0 when it is under way (chargehand status shows it), 1 when there is no such child or no agent answers.
    """
    if not child:
        raise CliError("an empty name names no child", 2)
    children: list[str] = ask("Restart", {"child": child})["children"]
    if as_json:
        print_json({"children": children})
    elif children:
        print(f"restarting: {', '.join(children)}")
    else:
        print("it is ending already, and starts again by itself if it is to")
    return 0
