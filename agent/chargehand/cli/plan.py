"""`chargehand plan`: what there is, what it does, and what became of it; with `asking` and `following`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from chargehand.cli import asking, following
from chargehand.cli.errors import CliError
from chargehand.cli.options import ago, config_option, connected, json_option, print_json, print_table, time_of_day
from chargehand.plan.asking import word
from chargehand.plan.life import PlanState

if TYPE_CHECKING:
    from chargehand.store.plans import PlanView, StepView

__all__ = ["failures", "plan"]

_STATES = ["submitted", *(word(state) for state in PlanState)]
_COLORS = {
    "running": "cyan",
    "cancelling": "cyan",
    "reverting": "cyan",
    "paused": "yellow",
    "failing": "yellow",
    "skipped": "yellow",
    "suspended": "yellow",
    "succeeded": "green",
    "rejected": "red",
    "failed": "red",
    "halted": "red",
    "spoiled": "red",
}


@click.group()
@config_option
def plan() -> None:
    """List, show, follow and change execution plans."""


for _command in (*asking.COMMANDS, *following.COMMANDS):
    plan.add_command(_command)


@plan.command("list")
@click.option("--state", type=click.Choice(_STATES), metavar="STATE", help=f"Only plans that are {', '.join(_STATES)}.")
@click.option("--action", default="", metavar="NAME", help="Only plans of this action.")
@click.option(
    "--label", "labels", multiple=True, metavar="TEXT", help="Only plans with this label; with all of several."
)
@click.option("--since", metavar="TIME", help='Submitted since then: "7d" ago, or "2026-11-24T10:00".')
@click.option("--until", metavar="TIME", help="Submitted until then.")
@click.option("--all", "children", is_flag=True, help="Sub-plans too.")
@click.option("--most", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("-q", "--quiet", is_flag=True, help="Only their ids, for other commands.")
@json_option
@config_option
def list_plans(since: str | None, until: str | None, *, quiet: bool, as_json: bool, **wanted: Any) -> None:
    """The newest plans: those under way first, then those that ended; of an action or a label, by their submission."""
    with connected() as executors:
        views = executors.search(since=ago(since), until=ago(until), **wanted)
    if as_json:
        print_json(views)
        return
    if quiet:
        for view in views:
            print(view.plan)
        return
    from rich.table import Table

    if not views:
        filtered = any((since, until, wanted["action"], wanted["labels"]))
        which = f" that are {wanted['state']}" if wanted["state"] else ""
        print(f"no plans{which}{' of that kind' if filtered else ''}")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("PLAN", no_wrap=True)
    several = any(view.executor for view in views)
    for column in (*(["EXECUTOR"] if several else []), "STATE", "ACTION", "STEPS", "SUBMITTED", "BY"):
        table.add_column(column)
    for view in views:
        table.add_row(
            view.plan,
            *([view.executor] if several else []),
            _colored(view.state),
            view.label,
            f"{view.counts.get('succeeded', 0)}/{view.total}",
            time_of_day(view.submitted_ms),
            view.by,
        )
    print_table(table)


@plan.command()
@click.argument("plan_id", metavar="PLAN")
@click.option("--output", "show_output", is_flag=True, help="Show each step's output too.")
@json_option
@config_option
def show(plan_id: str, *, show_output: bool, as_json: bool) -> None:
    """One plan: its state, its steps, their attempts, errors and outputs."""
    with connected() as executors:
        view = executors.read(plan_id)
    if view is None:
        raise CliError(f"there is no plan {plan_id!r} (chargehand plan list)")
    if as_json:
        print_json(view)
        return
    from rich.table import Table

    for line in _facts(view):
        print(line)
    for line in failures(view):
        print(line)
    table = Table(box=None, pad_edge=False)
    for column in ("STEP", "ACTION", "STATE", "ATTEMPT", "NODE", "TOOK", *(["OUTPUT"] if show_output else [])):
        table.add_column(column)
    for step in view.steps[:500]:
        table.add_row(*_row(step, show_output))
    print_table(table)
    if len(view.steps) > 500:
        print(f"... and {len(view.steps) - 500} more (--json shows all)")


def _facts(view: PlanView) -> Iterator[str]:
    """What is to be said of a plan as a whole, a line each."""
    since = f" since {time_of_day(view.since_ms)}" if view.since_ms else ""
    counts = ", ".join(f"{count} {word}" for word, count in view.counts.items()) or "not accepted yet"
    yield f"plan       {view.plan}"
    yield f"action     {view.label}"
    if view.executor:
        yield f"executor   {view.executor}"
    yield f"state      {view.state}{since}"
    yield f"steps      {view.total} ({counts})"
    yield f"submitted  {time_of_day(view.submitted_ms)} by {view.by}"
    if view.labels:
        yield f"labels     {', '.join(view.labels)}"
    if view.parent:
        yield f"sub-plan   of step {view.parent[1]} of plan {view.parent[0]}"
    if view.start_at_ms or view.start_before_ms:
        at = f"at {time_of_day(view.start_at_ms)}" if view.start_at_ms else ""
        before = f"before {time_of_day(view.start_before_ms)}" if view.start_before_ms else ""
        yield f"starts     {', '.join(filter(None, (at, before)))}"
    for reason in view.waits:
        yield f"waits      {reason}"
    if view.progress and view.state not in {"succeeded", "reverted"}:
        yield f"progress   {view.progress:.0%}"


@plan.command()
@click.option(
    "--state",
    "states",
    type=click.Choice(_STATES[1:]),
    multiple=True,
    metavar="STATE",
    help="Only plans in this state; in one of several.",
)
@click.option("--since", metavar="TIME", help='In this state since then: "7d" ago, or "2026-11-24T10:00".')
@click.option("--until", metavar="TIME", help="In this state since then at the latest.")
@config_option
def export(states: tuple[str, ...], since: str | None, until: str | None) -> None:
    """Whole plans as JSON, one a line: steps, attempts, errors, outputs. Before retention lets them go.

    The oldest of each state first. Exit code: 0 when all have been written, 1 when Redis went away meanwhile (each
    line is whole).
    """
    import msgspec

    wanted = [state for state in PlanState if not states or word(state) in states]
    begin, end = ago(since), ago(until)
    with connected() as executors:
        views = executors.export(
            wanted,
            since_ms=int(begin.timestamp() * 1000) if begin else 0,
            until_ms=int(end.timestamp() * 1000) if end else None,
        )
        for view in views:
            sys.stdout.buffer.write(msgspec.json.encode(view) + b"\n")


def failures(view: PlanView) -> Iterator[str]:
    """What went wrong, a line each: the plan's own error, then its failed steps."""
    if view.error is not None:
        yield f"error      {view.error.kind}: {view.error.message}"
    for step in view.steps:
        if step.state in {"failed", "skipped", "spoiled"} and step.error is not None:
            where = f" on {step.error.node}" if step.error.node else ""
            yield f"{step.state:<10} step {step.index} {step.action}{where}: {step.error.kind}: {step.error.message}"


def _row(step: StepView, show_output: bool) -> list[str]:
    result = step.result
    cells = [
        str(step.index),
        step.action,
        _state(step),
        str(step.attempt),
        result.node if result else step.error.node if step.error else "",
        f"{(result.ended_ms - result.started_ms) / 1000:.2f} s" if result else "",
    ]
    if show_output:
        text = bytes(result.output).decode() if result else ""
        cells.append(text if len(text) <= 80 else text[:77] + "...")
    return cells


def _state(step: StepView) -> str:
    """With how far it is, and how its sub-plans are."""
    text = _colored(step.state)
    if step.children is not None:
        counts = step.children
        text += f" ({counts.succeeded + counts.failed:,}/{counts.total:,} sub-plans, {counts.failed:,} failed)"
    elif step.progress is not None and step.state in {"running", "suspended"}:
        text += f" {step.progress.fraction:.0%} {step.progress.message}".rstrip()
    return text


def _colored(state: str) -> str:
    color = _COLORS.get(state, "")
    return f"[{color}]{state}[/]" if color else state
