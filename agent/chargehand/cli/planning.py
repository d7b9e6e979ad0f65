"""A plan as it is typed: an action, its inputs, and when, where and beside what it may run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from chargehand.cli import completion
from chargehand.cli.errors import CliError
from chargehand.cli.options import given_value

if TYPE_CHECKING:
    from chargehand.actions import Action
    from chargehand.config.settings import Settings
    from chargehand.planner import Plan

__all__ = ["action_arguments", "holding_options", "known_action", "planned", "when"]

F = TypeVar("F", bound=Callable[..., Any])


def action_arguments(function: F) -> F:
    """ACTION [NAME=VALUE]..."""
    function = click.argument("inputs", nargs=-1, metavar="[NAME=VALUE]...")(function)
    return click.argument("action", shell_complete=completion.actions)(function)


def holding_options(function: F) -> F:
    """What a plan has beside its steps: `--label`, `--lock`, `--shared-lock`, `--busy`."""
    for option in (
        click.option(
            "--busy",
            type=click.Choice(["wait", "reject"]),
            default="wait",
            show_default=True,
            help="When another plan holds one of its locks: wait in line, or fail.",
        ),
        click.option(
            "--shared-lock",
            "shared",
            multiple=True,
            metavar="NAME",
            help="The same, shared with others that say so.",
        ),
        click.option("--lock", "locks", multiple=True, metavar="NAME", help="Hold this lock while it is under way."),
        click.option(
            "--label",
            "labels",
            multiple=True,
            metavar="TEXT",
            shell_complete=completion.labels,
            help="To find it by: plan list --label.",
        ),
    ):
        function = option(function)
    return function


def known_action(settings: Settings, name: str) -> tuple[Action[..., Any], Mapping[str, Action[..., Any]]]:
    """The action, and all there are."""
    from chargehand.registry import load_actions

    registry = load_actions(settings)
    found = registry.actions.get(name)
    if found is None:
        hints = [f"there is no action {name!r} (known: {', '.join(sorted(registry.actions)) or 'none'})"]
        raise CliError("\n".join(hints + registry.problems))
    return found, registry.actions


def planned(
    action: Action[..., Any],
    actions: Mapping[str, Action[..., Any]],
    inputs: tuple[str, ...],
    *,
    nodes: list[str] | None = None,
    labels: tuple[str, ...] = (),
    locks: tuple[str, ...] = (),
    shared: tuple[str, ...] = (),
    busy: Literal["wait", "reject"] = "wait",
    **options: Any,
) -> Plan:
    """The plan; `nodes`: a step on each."""
    from chargehand.planner import Plan
    from chargehand.wire import Lock

    if nodes is not None and action.plans:
        raise CliError(f"action {action.name!r} plans its steps itself: --node is for an action that runs")
    held: list[str | Lock] = [*locks, *(Lock(name, 0) for name in shared)]
    plan = Plan(action.name, actions, labels=labels, locks=held, busy=busy, **options)
    checked = action.check(dict(_pair(text) for text in inputs), unknown_yet=lambda _: False, loose=True)
    if nodes is None:
        plan.add(action, **checked)
    else:
        plan.add(action, node=nodes, **checked)
    return plan


def when(text: str | None, option: str) -> datetime | str | None:
    """A time of day with its zone, or how long from now, which Redis' clock counts."""
    from chargehand.config.quantities import parse_duration

    if text is None:
        return None
    try:
        parse_duration(text)
    except ValueError:
        pass
    else:
        return text
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise click.BadParameter(
            f'{text!r} is no time: write how long from now ("2h", "30m"), or "2026-11-24T10:00"', param_hint=option
        ) from None


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CliError(f"{text!r} is not NAME=VALUE", 2)
    return name, given_value(value, name)
