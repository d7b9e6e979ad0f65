"""`chargehand why`: where a plan stands, and why it does not go on."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from chargehand.cli import completion
from chargehand.cli.options import config_option, connected, json_option, print_json

if TYPE_CHECKING:
    from chargehand.why import Answer, Cause

__all__ = ["answer_lines", "first_line", "why"]

_WIDTH = 100  # columns where it is not written to a terminal, and at most: longer lines are hard to read
_TOLD = 10  # causes that are told one by one


@click.command()
@click.argument("plan", metavar="PLAN", shell_complete=completion.plans)
@json_option
@config_option
def why(plan: str, *, as_json: bool) -> int:
    """Where a plan stands and why it does not go on: one sentence, what was seen, and what to do.

    PLAN is a plan's id, the beginning of one that no other has, or the name of a recurring plan.

    \b
    Exit code:
      0  it goes on by itself, or has ended as somebody wanted
      1  somebody must do something, or there is no such plan
      2  Redis cannot be reached
    """
    from chargehand.why import needs_somebody

    with connected() as executors:
        answer = executors.why(plan)
    away = answer.state == "unknown"
    if away:
        answer.causes[0].evidence[:0] = _agent_says()
    if as_json:
        print_json(answer)
    else:
        width = min(shutil.get_terminal_size().columns, _WIDTH) if sys.stdout.isatty() else _WIDTH
        print("\n".join(answer_lines(answer, width=width, color=sys.stdout.isatty())))
    return 2 if away else int(needs_somebody(answer))


def first_line(answer: Answer) -> str:
    """The answer as a sentence of its own."""
    return f"{answer.text[:1].upper()}{answer.text[1:]}"


def answer_lines(answer: Answer, *, width: int, color: bool = False) -> Iterator[str]:
    """For people: the sentence, the plan, then each cause with what was seen and what to do."""
    sentence = textwrap.wrap(first_line(answer), width, break_long_words=False, break_on_hyphens=False)
    yield from (click.style(line, bold=True) if color else line for line in sentence)
    if answer.state not in {"none", "unknown"}:
        what = f" ({answer.label})" if answer.label else ""
        where = f" in executor {answer.executor}" if answer.executor else ""
        yield from _wrapped(f"plan {answer.plan}{what}{where}: {answer.state}", "  ", width)
    for number, cause in enumerate(answer.causes[:_TOLD]):
        if number:
            yield ""
            yield from _wrapped(f"also: {cause.text}", "", width)
        yield from _cause_lines(cause, width)
    if len(answer.causes) > _TOLD:
        yield f"and {len(answer.causes) - _TOLD} more (--json has all)"


def _cause_lines(cause: Cause, width: int) -> Iterator[str]:
    for line in cause.evidence:
        yield from _wrapped(line.strip(), "    " if line.startswith(" ") else "  ", width)
    for line in cause.advice:
        yield from _wrapped(line, "  to do: ", width)


def _wrapped(text: str, before: str, width: int) -> list[str]:
    after = " " * (len(before) + 2)
    return textwrap.wrap(
        text, width, initial_indent=before, subsequent_indent=after, break_long_words=False, break_on_hyphens=False
    )


def _agent_says() -> list[str]:
    """Since when it has been away, as this node's agent sees it; nothing where none runs."""
    from chargehand.cli.agent import ControlError, ask, node_status
    from chargehand.config.problems import ConfigError

    try:
        node = node_status(ask("Status", timeout=2.0))
    except (ControlError, ConfigError, OSError) as error:
        return [f"the agent of this node does not say since when: {str(error).partition(chr(10))[0]}"]
    return [f"the agent of this node ({node.node}) says at {datetime.now().astimezone():%H:%M:%S}: {node.status}"]
