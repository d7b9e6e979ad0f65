"""`chargehand recurring add|list|show|pause|resume|remove`: plans that run again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from chargehand.cli.bulk import each
from chargehand.cli.errors import CliError
from chargehand.cli.options import (
    config_option,
    connected,
    executor_option,
    json_option,
    moment,
    print_json,
    print_table,
    reachable,
    time_of_day,
)
from chargehand.cli.planning import action_arguments, holding_options, known_action, planned

if TYPE_CHECKING:
    from chargehand.client import Client
    from chargehand.executors import Executors
    from chargehand.store.recurring import RecurringView

__all__ = ["recurring"]

_NAMES = click.argument("names", metavar="NAME...", nargs=-1, required=True)


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
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("NAME", no_wrap=True)
    for column in ("ACTION", "CRON", "ZONE", "NEXT", "RUNS", "BY"):
        table.add_column(column)
    for view in views:
        when = view.recurrence
        table.add_row(view.name, view.label, when.cron, when.zone, _next(view), str(view.runs), view.by)
    print_table(table)


@recurring.command()
@click.argument("name")
@json_option
@config_option
def show(name: str, *, as_json: bool) -> None:
    """One recurring plan: its calendar, its next run, its last."""
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
    print(f"next       {_next(view)}\nmissed     {when.missed}")
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


def _next(view: RecurringView) -> str:
    if view.paused:
        return "paused"
    if view.problem:
        return f"does not run: {view.problem}"
    return time_of_day(view.next_ms) if view.next_ms else "none: it has ended"
