"""`chargehand reload`, `chargehand restart`: change what runs here without a restart of the agent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import click

from chargehand.cli.agent import Rejected, ask, complete_children, follow, node_status, settings_if_sound
from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, json_option, print_json

__all__ = ["changes_told", "reload", "restart"]

_PATIENCE = 70.0  # seconds: the agent gives a reading of the files 30, and may have one under way


@click.command()
@click.option("--workers", is_flag=True, help="Also replace every worker, one at a time: to take new action code.")
@click.option("--wait", is_flag=True, help="Follow it until each new child is READY and each old one has ended.")
@json_option
@config_option
def reload(*, workers: bool, wait: bool, as_json: bool) -> int:
    """Have this node's agent read its configuration again, and change only what changed.

    A changed child is replaced: the new one is READY before the old one drains. Without --wait it answers when the
    configuration is in force, not when the old ones have drained.

    Exit code: 0 when it is in force (with --wait: when all is in place), 78 when it is refused (the agent goes on with
    the one that it has, and says so in its status), 1 when no agent answers, or with --wait when a new child crashes
    again and again; 130 when the wait was interrupted, which changes nothing.
    """
    before = node_status(ask("Status"))
    try:
        answer, answers = _begin("Reload", {"workers": workers}, wait=wait)
    except Rejected as error:
        if as_json:
            print_json({"ok": False, "problems": str(error).splitlines()})
        else:
            for line in str(error).splitlines():
                print(f"chargehand: {line}", file=sys.stderr)
            print("chargehand: refused: the agent goes on with the configuration that it has", file=sys.stderr)
        return 78
    if not as_json:
        kinds = {child.name: child.kind for child in before.children} if before.drain is None else None
        print(changes_told(answer["changed"], kinds, _wanted(), workers=workers), flush=True)
    answer, code = _awaited(answer, answers, quiet=as_json)
    if as_json:
        print_json({"ok": True, **answer})
    return code


_Answer: TypeAlias = dict[str, Any]


def _begin(method: str, parameters: _Answer, *, wait: bool) -> tuple[_Answer, Iterator[_Answer]]:
    """The first answer, and with `wait` those that follow."""
    if not wait:
        return ask(method, parameters, timeout=_PATIENCE), iter(())
    answers = follow(method, parameters)
    answer = next(answers, None)
    if answer is None:
        raise CliError("the agent ended before it had answered: chargehand status")
    return answer, answers


def _awaited(answer: _Answer, answers: Iterator[_Answer], *, quiet: bool) -> tuple[_Answer, int]:
    """Follow a change to its end: the last answer, and the exit code."""
    say: Callable[[str], None] = (lambda _: None) if quiet else partial(print, flush=True)
    try:
        while answer.get("left"):
            if answer["crashing"]:
                which = ", ".join(answer["crashing"])
                print(f"chargehand: crashes again and again: {which} (chargehand logs)", file=sys.stderr)
                return answer, 1
            say(f"not in place yet: {', '.join(answer['left'])}")
            following = next(answers, None)
            if following is None:
                print("chargehand: the agent ended before all was in place", file=sys.stderr)
                return answer, 1
            answer = following
    except KeyboardInterrupt:
        print("chargehand: it goes on without anybody who waits for it", file=sys.stderr)
        return answer, 130
    if "left" in answer:
        say("all is in place")
    return answer, 0


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
@click.option("--wait", is_flag=True, help="Follow it until each new child is READY and each old one has ended.")
@json_option
@config_option
def restart(child: str, *, wait: bool, as_json: bool) -> int:
    """Replace CHILD: a child of this node, or a worker group (all of its processes).

    An orchestrator or worker is replaced when its successor is READY, and finishes what it runs; another program is
    stopped and started. The agent itself: systemctl restart chargehand.

    Exit code: 0 when it is under way (with --wait: when it is over), 1 when there is no such child or no agent answers,
    or with --wait when the new one crashes again and again; 130 when the wait was interrupted, which changes nothing.
    """
    if not child:
        raise CliError("an empty name names no child", 2)
    answer, answers = _begin("Restart", {"child": child}, wait=wait)
    children: list[str] = answer["children"]
    if not as_json:
        text = f"restarting: {', '.join(children)}"
        print(text if children else "it is ending already, and starts again by itself if it is to", flush=True)
    answer, code = _awaited(answer, answers, quiet=as_json)
    if as_json:
        print_json(answer)
    return code
