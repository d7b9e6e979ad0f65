"""`chargehand plan cancel|halt|resume|revert|retry|skip|event`: what people ask of plans."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from chargehand.cli.options import config_option, connected, given_value

if TYPE_CHECKING:
    from chargehand.client import Client
    from chargehand.executors import Executors

__all__ = ["COMMANDS", "each"]

_PLANS = click.argument("plans", metavar="PLAN...", nargs=-1, required=True)
_PLAN = click.argument("plan", metavar="PLAN")
_STEPS = click.argument("steps", metavar="STEP...", type=click.IntRange(0), nargs=-1, required=True)


def each(
    names: Iterable[str],
    ask: Callable[[Client, str], None],
    done: str,
    *,
    find: Callable[[Executors, str], Client] = lambda executors, plan: executors.at(plan),
) -> int:
    """Ask it of each (of a plan: its id). What does not fit is told, and the others are asked all the same."""
    from chargehand.client import NotPossible

    code = 0
    with connected() as executors:
        for name in dict.fromkeys(names):
            try:
                ask(find(executors, name), name)
            except NotPossible as refused:
                print(f"chargehand: {refused}", file=sys.stderr)
                code = 1
            else:
                print(f"{name} {done}")
    return code


@click.command()
@_PLANS
@click.option(
    "--grace", default="10s", show_default=True, metavar="TIME", help="What runs has so long to end by itself."
)
@config_option
def cancel(plans: tuple[str, ...], grace: str) -> int:
    """End plans: nothing new starts; what runs is told, and ended when the grace is over.

    A command gets SIGTERM, then SIGKILL. A step that succeeds within the grace has succeeded. "plan wait" waits for the
    end; a second cancel with a shorter grace, and halt, hasten it.

    Exit code: 0, or 1 when one of the plans cannot be cancelled.
    """
    from chargehand.config.quantities import parse_duration

    try:
        seconds = float(parse_duration(grace))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--grace") from None
    return each(plans, lambda client, plan: client.cancel(plan, grace=seconds), "is being cancelled")


@click.command()
@_PLANS
@config_option
def halt(plans: tuple[str, ...]) -> int:
    """End plans at once and for good, even while a step hangs. What runs is ended without a grace, and not waited for.

    Exit code: 0, or 1 when one of the plans has ended already.
    """
    return each(plans, lambda client, plan: client.halt(plan), "is being halted")


@click.command()
@_PLANS
@config_option
def resume(plans: tuple[str, ...]) -> int:
    """Run the failed steps of paused plans again.

    Exit code: 0, or 1 when one of the plans is not paused.
    """
    return each(plans, lambda client, plan: client.resume(plan), "is being resumed")


@click.command()
@_PLANS
@config_option
def revert(plans: tuple[str, ...]) -> int:
    """Undo plans: nothing new starts; then what succeeded is reverted, backwards.

    Steps of actions without a revert phase stay as they are.

    Exit code: 0, or 1 when one of the plans cannot be reverted.
    """
    return each(plans, lambda client, plan: client.revert(plan), "is being reverted")


@click.command()
@_PLAN
@_STEPS
@config_option
def skip(plan: str, steps: tuple[int, ...]) -> int:
    """Let a paused plan go on without steps that failed.

    What depends on them runs; a step that needs the output of one of them fails.
    """
    return each([plan], lambda client, one: client.skip(one, steps), f"goes on without {_named(steps)}")


@click.command()
@_PLAN
@_STEPS
@config_option
def retry(plan: str, steps: tuple[int, ...]) -> int:
    """Run steps that failed again. Other failed steps of the plan stay as they are; "plan resume" runs all of them."""
    return each([plan], lambda client, one: client.retry(one, steps), f"runs {_named(steps)} again")


@click.command()
@_PLAN
@click.argument("step", metavar="STEP", type=click.IntRange(0))
@click.argument("name", metavar="NAME")
@click.argument("data", metavar="[DATA]", default="")
@click.option("--optional", is_flag=True, help="Drop it unless the step is suspended when it comes.")
@config_option
def event(plan: str, step: int, name: str, data: str, *, optional: bool) -> int:
    """Send the event NAME to a step, with DATA: JSON where it is a list or a table, text otherwise.

    It is kept until the step is suspended.
    """
    given = given_value(data, "DATA") if data else None
    return each(
        [plan], lambda client, one: client.send_event(one, step, name, given, optional=optional), f"is sent {name!r}"
    )


def _named(steps: tuple[int, ...]) -> str:
    return f"{'step' if len(steps) == 1 else 'steps'} {', '.join(map(str, steps))}"


COMMANDS = (cancel, halt, resume, revert, skip, retry, event)
