"""`chargehand plan cancel|halt|resume|revert|retry|skip|event`: what people ask of plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from chargehand.cli import completion
from chargehand.cli.bulk import ask_all, bulk_options, chosen, each
from chargehand.cli.options import config_option, given_value
from chargehand.plan.asking import Request

if TYPE_CHECKING:
    from chargehand.client import Client

__all__ = ["COMMANDS"]

_AT_ONCE = 500  # steps in one request


def _plans(request: Request) -> Callable[..., Any]:
    return click.argument("plans", metavar="[PLAN]...", nargs=-1, shell_complete=completion.plans_for(request))


@click.command()
@_plans(Request.CANCEL)
@click.option(
    "--grace", default="10s", show_default=True, metavar="TIME", help="What runs has so long to end by itself."
)
@bulk_options
@config_option
def cancel(plans: tuple[str, ...], grace: str, **options: Any) -> int:
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
    return ask_all(
        chosen(plans, **options),
        Request.CANCEL,
        lambda client, plan: client.cancel(plan, grace=seconds),
        "is being cancelled",
    )


@click.command()
@_plans(Request.HALT)
@bulk_options
@config_option
def halt(plans: tuple[str, ...], **options: Any) -> int:
    """End plans at once and for good, even while a step hangs. What runs is ended without a grace, and not waited for.

    Exit code: 0, or 1 when one of the plans has ended already.
    """
    return ask_all(chosen(plans, **options), Request.HALT, lambda client, plan: client.halt(plan), "is being halted")


@click.command()
@_plans(Request.RESUME)
@bulk_options
@config_option
def resume(plans: tuple[str, ...], **options: Any) -> int:
    """Run the failed steps of paused plans again.

    Exit code: 0, or 1 when one of the plans is not paused.
    """
    return ask_all(
        chosen(plans, **options), Request.RESUME, lambda client, plan: client.resume(plan), "is being resumed"
    )


@click.command()
@_plans(Request.REVERT)
@bulk_options
@config_option
def revert(plans: tuple[str, ...], **options: Any) -> int:
    """Undo plans: nothing new starts; then what succeeded is reverted, backwards.

    Steps of actions without a revert phase stay as they are.

    Exit code: 0, or 1 when one of the plans cannot be reverted.
    """
    return ask_all(
        chosen(plans, **options), Request.REVERT, lambda client, plan: client.revert(plan), "is being reverted"
    )


@click.command()
@click.argument("words", metavar="[PLAN STEP...]", nargs=-1, shell_complete=completion.steps_for(Request.SKIP))
@click.option("--failed", is_flag=True, help="All steps that failed; of each of several plans.")
@bulk_options
@config_option
def skip(words: tuple[str, ...], *, failed: bool, **options: Any) -> int:
    """Let a paused plan go on without steps that failed.

    What depends on them runs; a step that needs the output of one of them fails.

    Exit code: 0, or 1 when one of the steps cannot be skipped.
    """
    return _ask_of_steps(words, failed, options, Request.SKIP, "goes on without {}")


@click.command()
@click.argument("words", metavar="[PLAN STEP...]", nargs=-1, shell_complete=completion.steps_for(Request.RETRY))
@click.option("--failed", is_flag=True, help="All steps that failed; of each of several plans.")
@bulk_options
@config_option
def retry(words: tuple[str, ...], *, failed: bool, **options: Any) -> int:
    """Run steps that failed again. Other failed steps of the plan stay as they are.

    With --failed it is as "plan resume", for plans that still run too.

    Exit code: 0, or 1 when one of the steps cannot be run again.
    """
    return _ask_of_steps(words, failed, options, Request.RETRY, "runs {} again")


def _ask_of_steps(words: tuple[str, ...], failed: bool, options: dict[str, Any], request: Request, done: str) -> int:
    """PLAN STEP..., or with `failed` all failed steps of plans that are named, or are like that."""
    if failed:
        return ask_all(
            chosen(words, **options),
            request,
            lambda client, plan: _ask(client, request, plan, None),
            done.format("its failed steps"),
        )
    picked = chosen(words[:1], **options)
    if not picked.plans:
        raise click.UsageError("of plans that are not named it is --failed: all steps that failed")
    if not words[1:]:
        raise click.UsageError(f"which steps of plan {words[0]}? Name them, or --failed: all that failed")
    steps = [_step(word) for word in words[1:]]
    return ask_all(picked, request, lambda client, plan: _ask(client, request, plan, steps), done.format(_named(steps)))


def _ask(client: Client, request: Request, plan: str, steps: list[int] | None) -> None:
    """Of these steps; None: of those that failed."""
    if steps is None:
        view = client.read(plan)
        steps = [step.index for step in view.steps if step.state == "failed"] if view is not None else [0]
    if not steps:
        from chargehand.client import NotPossible

        raise NotPossible(f"plan {plan} has no step that failed")
    ask = client.skip if request is Request.SKIP else client.retry
    for at in range(0, len(steps), _AT_ONCE):
        ask(plan, steps[at : at + _AT_ONCE])


def _step(word: str) -> int:
    if not word.isdecimal():
        raise click.BadParameter(f"{word!r} is no step: they are numbered from 0", param_hint="STEP")
    return int(word)


@click.command()
@click.argument("plan", metavar="PLAN", shell_complete=completion.plans_for(Request.SEND))
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


def _named(steps: Iterable[int]) -> str:
    numbers = [str(step) for step in steps]
    return f"{'step' if len(numbers) == 1 else 'steps'} {', '.join(numbers)}"


COMMANDS = (cancel, halt, resume, revert, skip, retry, event)
