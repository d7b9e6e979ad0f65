"""`chargehand recurring add|list|show|pause|resume|remove`: plans that run again and again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import click

from chargehand.cli import completion
from chargehand.cli.bulk import each
from chargehand.cli.columns import Cell, Column, arranged, print_lines, terminal_width
from chargehand.cli.errors import CliError
from chargehand.cli.options import (
    config_option,
    connected,
    executor_option,
    json_option,
    moment,
    print_json,
    reachable,
    time_of_day,
)
from chargehand.cli.planning import action_arguments, holding_options, known_action, planned
from chargehand.cli.times import moment_in_brief

if TYPE_CHECKING:
    from chargehand.client import Client
    from chargehand.executors import Executors
    from chargehand.store.recurring import RecurringView

__all__ = ["recurring"]

_SHOWN = 5  # runs to come
_COLUMNS = (
    Column("NAME"),
    Column("NEXT", cut=True),
    Column("CRON", cut=True),
    Column("ZONE", drop=1),
    Column("ACTION", cut=True),
    Column("RUNS", drop=2, right=True),
    Column("BY", drop=3, cut=True),
)

_NAMES = click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=completion.recurring)


@click.group()
@config_option
def recurring() -> None:
    """Plans that run again and again, by a calendar."""


@recurring.command()
@click.argument("name")
@action_arguments
@click.option("--cron", required=True, metavar="LINE", help='"minute hour day month weekday", or @daily and the like.')
@click.option(
    "--zone", default="UTC", show_default=True, metavar="ZONE", help='Time zone of the line: "Europe/Berlin".'
)
@click.option("--until", metavar="TIME", help='No runs after that: "2026-11-24T10:00", or from now on, "30d".')
@click.option("--most", type=click.IntRange(1), metavar="N", help="At most so many runs.")
@click.option(
    "--missed",
    type=click.Choice(["skip", "once", "all"]),
    default="once",
    show_default=True,
    help="Runs that were due while no orchestrator was active: none, the last, each of them.",
)
@holding_options
@executor_option
@click.option("--replace", is_flag=True, help="Replace the one of this name; its runs are counted anew.")
@config_option
def add(
    name: str,
    action: str,
    inputs: tuple[str, ...],
    cron: str,
    zone: str,
    until: str | None,
    most: int | None,
    missed: Literal["skip", "once", "all"],
    executor: str | None,
    *,
    replace: bool,
    **options: Any,
) -> None:
    """Run ACTION with its inputs again and again, as NAME, from the next time of its calendar on.

    An action that plans its steps plans them anew for each run, on a worker.
    """
    settings = reachable()
    found, actions = known_action(settings, action)
    plan = planned(found, actions, inputs, plan_on="worker", **options)
    with connected(settings, actions) as executors:
        client = executors.recurring_at(name, executor)
        if not replace and client.recurring(name) is not None:
            raise CliError(f"there is a recurring plan {name!r} already: use --replace, or another name")
        client.set_recurring(
            name,
            plan,
            cron=cron,
            zone=zone,
            until=moment(until),
            most=most or 0,
            missed=missed,
        )
    print(f"{name} recurs at {cron!r} {zone} (chargehand recurring show {name})")


@recurring.command("list")
@json_option
@config_option
def list_recurring(*, as_json: bool) -> None:
    """All recurring plans, by name, with their next run in local time."""
    with connected() as executors:
        views = [view for one in executors.names for view in executors.client(one).all_recurring()]
        views.sort(key=lambda view: view.name)
    if as_json:
        print_json(views)
        return
    if not views:
        print("no recurring plans")
        return
    width = terminal_width()
    now = datetime.now().astimezone()
    rows: list[list[Cell]] = []
    for view in views:
        when = view.recurrence
        soon = moment_in_brief(view.next_ms, now) if width is not None else ""
        rows.append(
            [
                view.name,
                (_next(view), "yellow") if view.paused or view.problem else (view.next_ms and soon) or _next(view),
                when.cron,
                when.zone,
                view.label,
                f"{view.runs:,}" + (f"/{when.most:,}" if when.most else ""),
                view.by,
            ]
        )
    print_lines(arranged(_COLUMNS, rows, width), width)


@recurring.command()
@click.argument("name", shell_complete=completion.recurring)
@json_option
@config_option
def show(name: str, *, as_json: bool) -> None:
    """One recurring plan: its calendar, its next five runs in local time, its last."""
    with connected() as executors:
        client = executors.recurring_at(name)
        view = client.recurring(name)
        if view is None:
            raise CliError(f"there is no recurring plan {name!r} (chargehand recurring list)")
        last = client.read(view.last_plan, steps=False) if view.last_plan else None
    if as_json:
        print_json(view)
        return
    when = view.recurrence
    print(f"recurring  {view.name}\naction     {view.label}\ncron       {when.cron}\nzone       {when.zone}")
    print(f"next       {_next(view)}")
    for ms in _further(view):
        print(f"           {time_of_day(ms)}")
    print(f"missed     {when.missed}")
    if when.until_ms:
        print(f"until      {time_of_day(when.until_ms)}")
    print(f"runs       {view.runs}" + (f" of {when.most}" if when.most else ""))
    if last is not None:
        print(f"last       {last.plan} {last.state}, {time_of_day(view.last_ms)}")
    print(f"set        {time_of_day(view.set_ms)} by {view.by}")


@recurring.command()
@_NAMES
@config_option
def pause(names: tuple[str, ...]) -> int:
    """No further runs until it is resumed. Plans that are under way go on."""
    return each(names, lambda client, name: client.pause_recurring(name), "is being paused", find=_at)


@recurring.command()
@_NAMES
@config_option
def resume(names: tuple[str, ...]) -> int:
    """Go on from the next time of the calendar; what would have run in between does not."""
    return each(names, lambda client, name: client.resume_recurring(name), "is being resumed", find=_at)


@recurring.command()
@_NAMES
@config_option
def remove(names: tuple[str, ...]) -> int:
    """No further runs, for good. Plans that are under way go on."""
    return each(names, lambda client, name: client.remove_recurring(name), "is being removed", find=_at)


def _at(executors: Executors, name: str) -> Client:
    return executors.recurring_at(name)


def _further(view: RecurringView) -> Iterator[int]:
    """The runs after the next one, those that are shown."""
    from chargehand.plan.calendar import following

    left = view.recurrence.most - view.runs - 1 if view.recurrence.most else _SHOWN
    ms: int | None = view.next_ms or None
    for _ in range(min(left, _SHOWN - 1) if not view.paused and not view.problem else 0):
        ms = None if ms is None else following(view.recurrence, ms)
        if ms is not None:
            yield ms


def _next(view: RecurringView) -> str:
    if view.paused:
        return "paused"
    if view.problem:
        return f"does not run: {view.problem}"
    return time_of_day(view.next_ms) if view.next_ms else "none: it has ended"
