"""`chargehand events`: what the agent does, as it does it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from chargehand.cli.agent import follow
from chargehand.cli.options import config_option

__all__ = ["event_line", "events"]

_FRAME = {"event", "time", "node"}


@click.command()
@click.option("-f", "--follow", "_follow", is_flag=True, help="It always does: for those who are used to it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line, for programs.")
@config_option
def events(*, as_json: bool, _follow: bool) -> int:
    """Follow what this node's agent does: a line an event, from now on, until Ctrl-C or until the agent ends.

    What was before stands in the journal: chargehand logs agent.

    Exit code: 0, or 1 when no agent answers.
    """
    try:
        for answer in follow("Events"):
            event = answer.get("event") or {}
            print(json.dumps(event) if as_json else event_line(event), flush=True)
    except KeyboardInterrupt:
        return 0  # the way to end it
    print("chargehand: the agent has ended", file=sys.stderr)
    return 0


def event_line(event: Mapping[str, Any]) -> str:
    """Its time of day here, its name, its fields. A value that would not be one word stands in quotes."""
    try:
        moment = datetime.fromtimestamp(float(event.get("time", 0))).astimezone()
    except (TypeError, ValueError, OverflowError):
        moment = datetime.fromtimestamp(0).astimezone()
    when = moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
    fields = [f"{name}={_word(str(value))}" for name, value in event.items() if name not in _FRAME]
    return " ".join([when, str(event.get("event", "?")), *fields])


def _word(text: str) -> str:
    plain = text.isprintable() and text and not set(text) & set(" \"'=")
    return text if plain else json.dumps(text)
