"""`chargehand plan list|show|resume`"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from chargehand.cli.errors import CliError
from chargehand.cli.options import config_option, json_option, print_json, reachable

if TYPE_CHECKING:
    from chargehand.store.plans import PlanView, StepView

__all__ = ["failures", "plan"]

_STATES = ["submitted", "running", "paused", "failing", "succeeded", "failed", "rejected"]
_COLORS = {
    "running": "cyan",
    "paused": "yellow",
    "failing": "yellow",
    "skipped": "yellow",
    "succeeded": "green",
    "rejected": "red",
    "failed": "red",
}


@click.group()
@config_option
def plan() -> None:
    """List, show and resume execution plans."""


@plan.command("list")
@click.option("--state", type=click.Choice(_STATES), help="Only plans in this state.")
@click.option("--most", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@json_option
@config_option
def list_plans(state: str | None, most: int, *, as_json: bool) -> None:
    """The newest plans: those under way first, then those that ended."""
    from chargehand.client import Client

    with Client(reachable()) as client:
        views = client.list(state=state, most=most)
    if as_json:
        print_json(views)
        return
    from rich.console import Console
    from rich.table import Table

    if not views:
        print("no plans" if state is None else f"no plans that are {state}")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("PLAN", "STATE", "ACTION", "STEPS", "SUBMITTED", "BY"):
        table.add_column(column)
    for view in views:
        color = _COLORS.get(view.state, "")
        table.add_row(
            view.plan,
            f"[{color}]{view.state}[/]" if color else view.state,
            view.label,
            f"{view.counts.get('succeeded', 0)}/{view.total}",
            _time(view.submitted_ms),
            view.by,
        )
    Console().print(table)


@plan.command()
@click.argument("plan_id", metavar="PLAN")
@click.option("--output", "show_output", is_flag=True, help="Show each step's output too.")
@json_option
@config_option
def show(plan_id: str, *, show_output: bool, as_json: bool) -> None:
    """One plan: its state, its steps, their attempts, errors and outputs."""
    from chargehand.client import Client

    with Client(reachable()) as client:
        view = client.read(plan_id)
    if view is None:
        raise CliError(f"there is no plan {plan_id!r} (chargehand plan list)")
    if as_json:
        print_json(view)
        return
    from rich.console import Console
    from rich.table import Table

    counts = ", ".join(f"{count} {word}" for word, count in view.counts.items()) or "not accepted yet"
    print(f"plan       {view.plan}\naction     {view.label}\nstate      {view.state}")
    print(f"steps      {view.total} ({counts})\nsubmitted  {_time(view.submitted_ms)} by {view.by}")
    for line in failures(view):
        print(line)
    table = Table(box=None, pad_edge=False)
    for column in ("STEP", "ACTION", "STATE", "ATTEMPT", "NODE", "TOOK", *(["OUTPUT"] if show_output else [])):
        table.add_column(column)
    for step in view.steps[:500]:
        table.add_row(*_row(step, show_output))
    Console().print(table)
    if len(view.steps) > 500:
        print(f"... and {len(view.steps) - 500} more (--json shows all)")


@plan.command()
@click.option("--state", "states", type=click.Choice(_STATES[1:]), multiple=True, help="Only plans in this state.")
@click.option("--since", metavar="TIME", help='In this state since then: "7d" ago, or "2026-11-24T10:00".')
@click.option("--until", metavar="TIME", help="In this state since then at the latest.")
@config_option
def export(states: tuple[str, ...], since: str | None, until: str | None) -> None:
    """Whole plans as JSON, one a line: steps, attempts, errors, outputs. Before retention lets them go.

    The oldest of each state first. Exit code: 0 when all have been written, 1 when Redis went away meanwhile (each
    line is whole).
    """
    import msgspec

    from chargehand.client import Client
    from chargehand.plan.life import PlanState

    wanted = [state for state in PlanState if not states or state.name.lower() in states]
    begin, end = _moment(since) or 0, _moment(until)
    with Client(reachable()) as client:
        for view in client.export(wanted, since_ms=begin, until_ms=end):
            sys.stdout.buffer.write(msgspec.json.encode(view) + b"\n")


def _moment(text: str | None) -> int | None:
    """A time of day, or how long ago, in ms."""
    from chargehand.config.quantities import parse_duration

    if text is None:
        return None
    try:
        return int((time.time() - parse_duration(text)) * 1000)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        raise click.BadParameter(
            f'{text!r} is no time: write how long ago ("7d", "30m"), or "2026-11-24T10:00"'
        ) from None


@plan.command()
@click.argument("plan_id", metavar="PLAN")
@config_option
def resume(plan_id: str) -> None:
    """Run the failed steps of a paused plan again."""
    from chargehand.client import Client

    with Client(reachable()) as client:
        view = client.read(plan_id, steps=False)
        if view is None:
            raise CliError(f"there is no plan {plan_id!r} (chargehand plan list)")
        if view.state != "paused":
            raise CliError(f"plan {plan_id} is {view.state}: only a paused plan can be resumed")
        client.resume(plan_id)
    print(f"{plan_id} is being resumed")


@plan.command()
@click.argument("plan_id", metavar="PLAN")
@click.argument("steps", metavar="STEP...", type=click.IntRange(0), nargs=-1, required=True)
@config_option
def skip(plan_id: str, steps: tuple[int, ...]) -> None:
    """Let a paused plan go on without steps that failed.

    What depends on them runs; a step that needs the output of one of them fails.
    """
    from chargehand.client import Client

    with Client(reachable()) as client:
        view = client.read(plan_id)
        if view is None:
            raise CliError(f"there is no plan {plan_id!r} (chargehand plan list)")
        if view.state != "paused":
            raise CliError(f"plan {plan_id} is {view.state}: only steps of a paused plan can be skipped")
        for step in steps:
            state = view.steps[step].state if step < view.total else "not there"
            if state != "failed":
                raise CliError(f"step {step} of plan {plan_id} is {state}: only a step that failed can be skipped")
        client.skip(plan_id, steps)
    print(f"{plan_id} goes on without {'step' if len(steps) == 1 else 'steps'} {', '.join(map(str, steps))}")


def failures(view: PlanView) -> Iterator[str]:
    """What went wrong, a line each: the plan's own error, then its failed steps."""
    if view.error is not None:
        yield f"error      {view.error.kind}: {view.error.message}"
    for step in view.steps:
        if step.state in {"failed", "skipped"} and step.error is not None:
            where = f" on {step.error.node}" if step.error.node else ""
            yield f"{step.state:<10} step {step.index} {step.action}{where}: {step.error.kind}: {step.error.message}"


def _row(step: StepView, show_output: bool) -> list[str]:
    result = step.result
    color = _COLORS.get(step.state, "")
    cells = [
        str(step.index),
        step.action,
        f"[{color}]{step.state}[/]" if color else step.state,
        str(step.attempt),
        result.node if result else step.error.node if step.error else "",
        f"{(result.ended_ms - result.started_ms) / 1000:.2f} s" if result else "",
    ]
    if show_output:
        text = bytes(result.output).decode() if result else ""
        cells.append(text if len(text) <= 80 else text[:77] + "...")
    return cells


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S") if ms else "-"
