"""`chargehand plan wait|history|children`, beside `watching`: how plans go on, and how they went."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from chargehand.cli import completion
from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, connected, json_option, print_json, time_of_day
from chargehand.cli.watching import watch

if TYPE_CHECKING:
    from chargehand.store.history import Moment

__all__ = ["COMMANDS", "moment_line"]


@click.command()
@click.argument("plans", metavar="PLAN...", nargs=-1, required=True, shell_complete=completion.plans)
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up waiting after this long; the plans go on.")
@config_option
def wait(plans: tuple[str, ...], timeout: float | None) -> int:
    """Wait until plans have ended or are paused.

    Exit code: 0 when all succeeded, 1 otherwise.
    """
    until = time.monotonic() + timeout if timeout is not None else None
    code = 0
    with connected() as executors:
        for plan in dict.fromkeys(plans):
            if executors.read(plan, steps=False) is None:
                raise CliError(f"there is no plan {plan!r} (chargehand plan list)")
            state = executors.wait(plan, None if until is None else max(0.0, until - time.monotonic()))
            print(f"{plan} {state.name.lower()}", flush=True)
            code = code or int(state.name != "SUCCEEDED")
    return code


@click.command()
@click.argument("plan", metavar="PLAN", shell_complete=completion.plans)
@json_option
@config_option
def history(plan: str, *, as_json: bool) -> None:
    """What happened to a plan, in order: who submitted it, each state, each attempt, what people asked for.

    Times are those of Redis; when a step succeeded, that of its worker.
    """
    with connected() as executors:
        moments = executors.at(plan).history(plan)
    if as_json:
        print_json(moments)
        return
    for moment in moments:
        print(f"{time_of_day(moment.ms)} {moment_line(moment)}")


def moment_line(moment: Moment) -> str:
    """What happened, without the time."""
    by = f" by {moment.by}" if moment.by else ""
    if moment.what == "submitted":
        return f"submitted{by}"
    if moment.what == "plan":
        return f"plan {moment.text}"
    if moment.what == "asked":
        return f"asked to {moment.text}{by}"
    error = moment.error
    cancelled = error is not None and error.kind == "cancelled"
    what = f"step {moment.step} {'cancelled' if cancelled else moment.what}"
    if moment.what == "event":
        return f"step {moment.step} was sent {moment.text!r}{by}"
    if moment.attempt > 1:
        what += f" at attempt {moment.attempt}"
    if moment.what == "lost":
        return f"{what} with its worker {moment.worker}"
    if moment.node:
        what += f" on {moment.node}"
    if moment.started_ms:
        what += f" after {max(0, moment.ms - moment.started_ms) / 1000:.2f} s"
    if error is not None:
        what += f": {error.message}" if cancelled else f": {error.kind}: {error.message}"
    return what


@click.command()
@click.argument("plan", metavar="PLAN", shell_complete=completion.plans)
@click.argument("step", metavar="STEP", type=click.IntRange(0))
@click.option("--state", metavar="STATE", help="Show only sub-plans in this state, as failed.")
@click.option("--first", type=click.IntRange(0), default=0, help="Leave out so many.")
@click.option("--most", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Show at most so many.")
@json_option
@config_option
def children(plan: str, step: int, state: str | None, first: int, most: int, *, as_json: bool) -> None:
    """The sub-plans of a step: how many are in which state, then some of them by number."""
    with connected() as executors:
        view = executors.at(plan).children(plan, step, state=state, first=first, most=most)
    if as_json:
        print_json(view)
        return
    if not view.total:
        print(f"step {step} of plan {plan} has no sub-plans (yet)")
        return
    print(f"{view.total:,} sub-plans: {', '.join(f'{count:,} {word}' for word, count in sorted(view.counts.items()))}")
    for child in view.plans:
        error = f": {child.error.kind}: {child.error.message}" if child.error else ""
        print(f"{child.plan} {child.state} {child.label}{error}")
    if view.total > first + len(view.plans) and state is None:
        print(f"... (--first {first + len(view.plans)} shows the next)")


COMMANDS = (watch, wait, history, children)
