"""`chargehand plan`: what there is, what it does, and what became of it; with `showing`, `asking` and `following`."""

from __future__ import annotations

import sys
from typing import Any

import click

from chargehand.cli import asking, following
from chargehand.cli.options import ago, config_option, connected, json_option, print_json
from chargehand.cli.selecting import PLAN_STATES, Wanted, selecting_options
from chargehand.cli.showing import show
from chargehand.plan.asking import word
from chargehand.plan.life import PlanState

__all__ = ["plan"]


@click.group()
@config_option
def plan() -> None:
    """List, show, follow and change execution plans."""


for _command in (show, *asking.COMMANDS, *following.COMMANDS):
    plan.add_command(_command)


@plan.command("list")
@selecting_options
@click.option("--oldest", is_flag=True, help="The oldest first.")
@click.option("--most", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("-q", "--quiet", is_flag=True, help="Only their ids, for other commands.")
@json_option
@config_option
def list_plans(*, oldest: bool, most: int, quiet: bool, as_json: bool, **wanted: Any) -> None:
    """The newest plans: those under way first, then those that ended; of an action or a label, by their submission."""
    filters = Wanted(**wanted)
    with connected() as executors:
        views = filters.search(executors, most, oldest_first=oldest)
    if as_json:
        print_json(views)
    elif quiet:
        for view in views:
            print(view.plan)
    elif views:
        from chargehand.cli.listing import print_plans

        print_plans(views)
        if len(views) == most and sys.stdout.isatty():
            print(f"the {'oldest' if oldest else 'newest'} {most:,}: --most shows more", file=sys.stderr)
    else:
        which = f" that are {' or '.join(filters.states)}" if filters.states else ""
        print(f"no plans{which}{'' if filters._replace(states=()).empty else ' of that kind'}")


@plan.command()
@click.option(
    "--state",
    "states",
    type=click.Choice(PLAN_STATES[1:]),
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
