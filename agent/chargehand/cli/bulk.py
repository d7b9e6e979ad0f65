"""The same asked of many plans: named by their ids, or by what they are, with a look at them and a count first."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from chargehand.cli.errors import CliError
from chargehand.cli.options import connected
from chargehand.cli.selecting import Wanted, selecting_options

if TYPE_CHECKING:
    from chargehand.client import Client
    from chargehand.executors import Executors
    from chargehand.plan.asking import Request
    from chargehand.store.plans import PlanView

__all__ = ["Chosen", "ask_all", "bulk_options", "each"]

F = TypeVar("F", bound=Callable[..., Any])

_SHOWN = 10  # plans that are told one by one before they are asked
_DECIDED = 1.0  # seconds that the orchestrator gets to decide on what was asked; it does all the same
_ALL = 10_000_000  # plans: as many as there are


class Chosen(NamedTuple):
    """Which plans: by name, or by what they are like."""

    plans: tuple[str, ...]
    wanted: Wanted
    dry_run: bool
    yes: int | None


def bulk_options(function: F) -> F:
    """The filters of `plan list`, `--dry-run` and `--yes`."""
    for option in (
        click.option(
            "--yes",
            type=click.IntRange(0),
            metavar="COUNT",
            help="Do not ask: they are so many, or nothing is done.",
        ),
        click.option("--dry-run", is_flag=True, help="Only show which plans, and how many."),
    ):
        function = option(function)
    return selecting_options(function)


def chosen(plans: tuple[str, ...], *, dry_run: bool, yes: int | None, **wanted: Any) -> Chosen:
    """Raises `UsageError` when they are named in both ways, or in none."""
    filters = Wanted(**wanted)
    if plans and not filters.empty:
        raise click.UsageError("name plans, or say what they are like (--state, --action, ...): not both")
    if not plans and filters.empty:
        raise click.UsageError("which plans? Name them, or say what they are like: --state, --action, --label, ...")
    return Chosen(plans, filters, dry_run, yes)


def each(
    names: Iterable[str],
    ask: Callable[[Client, str], None],
    done: str,
    *,
    find: Callable[[Executors, str], Client] = lambda executors, plan: executors.at(plan),
) -> int:
    """Ask it of each (of a plan: its id). What does not fit is told, and the others are asked all the same."""
    with connected() as executors:
        return int(_each(executors, names, ask, done, find) > 0)


def ask_all(chosen: Chosen, request: Request, ask: Callable[[Client, str], None], done: str) -> int:
    """Ask it of the plans that are chosen and can be asked that; of those that are not named, after a look at them.

    Returns the exit code: 1 when one of them cannot be asked.
    """
    with connected() as executors:
        if chosen.plans and not chosen.dry_run:
            return int(_each(executors, chosen.plans, ask, done) > 0)
        views = _named(executors, chosen.plans) if chosen.plans else _like(executors, chosen.wanted, request)
        if not views:
            print(f"no plan is like that and can be {request.value}")
            return 0
        if chosen.dry_run:
            return _would(views, request)
        _confirm(views, request, chosen.yes)
        plans = [view.plan for view in views]
        refused = _each(executors, plans, ask, done)
        print(f"chargehand: {_count(len(plans) - refused)} asked, {refused:,} refused", file=sys.stderr)
        return int(refused > 0)


def _each(
    executors: Executors,
    names: Iterable[str],
    ask: Callable[[Client, str], None],
    done: str,
    find: Callable[[Executors, str], Client] = lambda executors, plan: executors.at(plan),
) -> int:
    """How many refused."""
    from chargehand.client import NotPossible
    from chargehand.store.connection import Unavailable

    refused, asked = 0, None
    for name in dict.fromkeys(names):
        try:
            client = find(executors, name)
            ask(client, name)
        except NotPossible as why:
            print(f"chargehand: {why}", file=sys.stderr)
            refused += 1
        else:
            print(f"{name} {done}", flush=True)  # should Redis go away meanwhile, it is known how far it came
            asked = client, name
    if asked is not None:
        client, name = asked
        with contextlib.suppress(Unavailable):  # it stands in the inbox
            client.decided(name, _DECIDED)  # so that the next command finds it done
    return refused


def _like(executors: Executors, wanted: Wanted, request: Request) -> list[PlanView]:
    """Plans that are like that, in the states in which they can be asked it."""
    from chargehand.plan.asking import plan_refuses, word
    from chargehand.plan.life import PlanState

    refusals = {word(state): plan_refuses(request, state) for state in (None, *PlanState)}
    fitting = tuple(state for state in wanted.states or refusals if refusals[state] is None)
    if not fitting:
        raise CliError(f"a plan that is {refusals[wanted.states[0]]}", 2)
    return wanted._replace(states=fitting).search(executors, _ALL)


def _named(executors: Executors, plans: Iterable[str]) -> list[PlanView]:
    views = {plan: executors.read(plan, steps=False) for plan in plans}
    for plan, view in views.items():
        if view is None:
            print(f"chargehand: there is no plan {plan!r} (chargehand plan list)", file=sys.stderr)
    return [view for view in views.values() if view is not None]


def _would(views: list[PlanView], request: Request) -> int:
    """Show them; 1 when one of them cannot be asked that as it is now."""
    from chargehand.cli.listing import print_plans
    from chargehand.plan.asking import plan_refuses, word
    from chargehand.plan.life import PlanState

    refusals = {word(state): plan_refuses(request, state) for state in (None, *PlanState)}
    fitting = [view for view in views if refusals[view.state] is None]
    if fitting:
        print_plans(fitting)
    for view in views:
        if refusals[view.state] is not None:
            print(f"chargehand: plan {view.plan} is {refusals[view.state]}", file=sys.stderr)
    print(f"{_count(len(fitting))} would be {request.value}{_states(fitting)}; nothing was done")
    return int(len(fitting) < len(views))


def _confirm(views: list[PlanView], request: Request, yes: int | None) -> None:
    """Raises `CliError` unless somebody who knows how many they are wants it."""
    count, verb = len(views), request.name.lower()
    if yes is not None:
        if yes != count:
            raise CliError(
                f"{_count(count)} can be {request.value}, not {yes:,}: nothing was done (--dry-run shows them)"
            )
        return
    if not sys.stdin.isatty():
        raise CliError(f"{_count(count)} would be {request.value}: --yes {count} does it, --dry-run shows them", 2)
    from chargehand.cli.listing import print_plans

    print_plans(views[:_SHOWN])
    if count > _SHOWN:
        print(f"… and {count - _SHOWN:,} more (--dry-run shows them all)")
    typed = click.prompt(
        f"type {count} to {verb} {_count(count)}{_states(views)}", default="", show_default=False, err=True
    )
    if typed.strip() != str(count):
        raise CliError("nothing was done")


def _count(plans: int) -> str:
    return f"{plans:,} plan{'' if plans == 1 else 's'}"


def _states(views: Iterable[PlanView]) -> str:
    counts = Counter(view.state for view in views)
    return f" ({', '.join(f'{count:,} {state}' for state, count in counts.most_common())})" if counts else ""
