"""`chargehand plan watch|wait|history|children`: how plans go on, and how they went."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, connected

if TYPE_CHECKING:
    from chargehand.store.watching import Change

__all__ = ["COMMANDS", "change_line"]


@click.command()
@click.argument("plan", metavar="PLAN")
@click.option(
    "-n", "--lines", type=click.IntRange(0), metavar="LINES", help="Begin with the last so many; default: all."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line, for programs.")
@config_option
def watch(plan: str, lines: int | None, *, as_json: bool) -> int:
    """Follow a plan: its states, its steps, what they say and print, and how far they are, until it ends or pauses.

    It goes on through outages. Ctrl-C ends the watching, not the plan.

    Exit code: 0 when the plan succeeded, 1 when it ended otherwise or is paused.
    """
    import msgspec

    state = ""
    with connected() as client:
        for change in client.watch(plan, past=lines):
            if change.kind == "plan":
                state = change.text
            print(msgspec.json.encode(change).decode() if as_json else change_line(change), flush=True)
    return 0 if state == "succeeded" else 1


def change_line(change: Change) -> str:
    """When, what, and what of it; a line of output each, if there are several."""
    when = time.strftime("%H:%M:%S", time.localtime(change.ms / 1000 if change.ms else None))
    if change.kind == "plan":
        return f"{when} plan {change.text}"
    if change.kind == "step":
        return f"{when} step {change.step} {change.text}"
    if change.kind == "progress":
        return f"{when} step {change.step} {change.fraction:.0%} {change.text}".rstrip()
    mark = {"say": "", "err": "! "}.get(change.kind, "| ")
    return "\n".join(f"{when} step {change.step} {mark}{line}" for line in change.text.splitlines() or [""])


@click.command()
@click.argument("plans", metavar="PLAN...", nargs=-1, required=True)
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up waiting after this long; the plans go on.")
@config_option
def wait(plans: tuple[str, ...], timeout: float | None) -> int:
    """Wait until plans have ended or are paused.

    Exit code: 0 when all succeeded, 1 otherwise.
    """
    until = time.monotonic() + timeout if timeout is not None else None
    code = 0
    with connected() as client:
        for plan in dict.fromkeys(plans):
            if client.read(plan, steps=False) is None:
                raise CliError(f"there is no plan {plan!r} (chargehand plan list)")
            state = client.wait(plan, None if until is None else max(0.0, until - time.monotonic()))
            print(f"{plan} {state.name.lower()}", flush=True)
            code = code or int(state.name != "SUCCEEDED")
    return code


COMMANDS = (watch, wait)
