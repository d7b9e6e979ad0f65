"""`chargehand executors [list|move]`: those that plans submitted here go to."""

from __future__ import annotations

import sys

import click

from chargehand.cli import completion
from chargehand.cli.options import config_option, connected, json_option, print_json, print_table

__all__ = ["executors"]


@click.group()
@config_option
def executors() -> None:
    """The executors that plans submitted here are spread over."""


@executors.command("list")
@json_option
@config_option
def list_executors(*, as_json: bool) -> int:
    """Each executor: what waits in it, what runs, of how much; whether it gets plans, and why not.

    Exit code: 0 when all get plans, 1 when one does not.
    """
    with connected() as known:
        views = known.views()
    code = int(any(view.problem for view in views))
    if as_json:
        print_json([view._asdict() for view in views])
        return code
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("EXECUTOR", no_wrap=True)
    for column in ("NOT ACCEPTED", "BACKLOG", "BUSY", "ORCHESTRATOR", "HEARD"):
        table.add_column(column, justify="right")
    table.add_column("")
    for view in views:
        load = view.load
        table.add_row(
            view.name,
            "" if view.pending is None else f"{view.pending:,}",
            "" if load is None else f"{load.backlog:,}",
            "" if load is None else f"{load.busy}/{load.threads}",
            "" if load is None else f"{load.share} %",
            "never" if view.age is None else f"{view.age:.1f} s ago",
            f"[red]{view.problem}[/]" if view.problem else "",
        )
    print_table(table)
    return code


@executors.command()
@click.argument("name", shell_complete=completion.executors)
@config_option
def move(name: str) -> None:
    """Move the plans that an executor has not accepted to others, when it has no active orchestrator.

    Clients that wait do so with their own plans; this is for those that nobody waits for. What was submitted with
    --executor stays, and so does what belongs to plans that are there.
    """
    with connected() as known:
        gone = known.move(name)
        left = next(view.pending for view in known.views() if view.name == name)
    for plan in gone:
        print(plan)
    print(f"{len(gone)} moved, {left} stay", file=sys.stderr)
