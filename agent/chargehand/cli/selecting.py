"""Plans by what they are: the same options for `plan list` and for what is asked of many plans at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from chargehand.cli import completion
from chargehand.cli.options import ago
from chargehand.plan.asking import word
from chargehand.plan.life import PlanState

if TYPE_CHECKING:
    from chargehand.executors import Executors
    from chargehand.store.plans import PlanView

__all__ = ["PLAN_STATES", "Wanted", "selecting_options"]

F = TypeVar("F", bound=Callable[..., Any])

PLAN_STATES = ["submitted", *(word(state) for state in PlanState)]


class Wanted(NamedTuple):
    """What plans are to be like: all of it."""

    states: tuple[str, ...] = ()  # one of them; none: any
    action: str = ""
    labels: tuple[str, ...] = ()
    text: str = ""
    by: str = ""
    since: datetime | None = None
    until: datetime | None = None
    longer_than: float | None = None  # seconds
    children: bool = False

    @property
    def empty(self) -> bool:
        """Nothing is asked for: all plans are like that."""
        return self._replace(children=False) == Wanted()

    def search(self, executors: Executors, most: int, *, oldest_first: bool = False) -> list[PlanView]:
        return executors.search(
            state=self.states or None,
            action=self.action,
            labels=self.labels,
            since=self.since,
            until=self.until,
            most=most,
            children=self.children,
            by=self.by,
            text=self.text,
            longer_than=self.longer_than,
            oldest_first=oldest_first,
        )


def selecting_options(function: F) -> F:
    """`--state`, `--action` and so on; the command gets them with `Wanted`'s names, to be given to `wanted`."""
    for option in (
        click.option("--all", "children", is_flag=True, help="Sub-plans too."),
        click.option(
            "--longer-than", metavar="TIME", callback=_seconds, help='In their state for longer than that: "2h".'
        ),
        click.option("--until", metavar="TIME", callback=_ago, help="Submitted until then."),
        click.option(
            "--since", metavar="TIME", callback=_ago, help='Submitted since then: "7d" ago, or "2026-11-24T10:00".'
        ),
        click.option("--by", default="", metavar="WHO", help='Submitted by somebody with that in the name: "ada@".'),
        click.option("--text", default="", metavar="TEXT", help="With that in the action's name or in a label."),
        click.option(
            "--label",
            "labels",
            multiple=True,
            metavar="TEXT",
            shell_complete=completion.labels,
            help="With this label; with all of several.",
        ),
        click.option("--action", default="", metavar="NAME", shell_complete=completion.actions, help="Of this action."),
        click.option(
            "--state",
            "states",
            type=click.Choice(PLAN_STATES),
            multiple=True,
            metavar="STATE",
            help=f"In this state, or in one of several: {', '.join(PLAN_STATES)}.",
        ),
    ):
        function = option(function)
    return function


def _ago(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:  # noqa: ARG001
    return ago(value)


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:  # noqa: ARG001
    from chargehand.config.quantities import parse_duration

    if value is None:
        return None
    try:
        return float(parse_duration(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
