"""`chargehand events`: what the agent does, as it does it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from chargehand.cli import completion
from chargehand.cli.agent import follow
from chargehand.cli.options import config_option

__all__ = ["event_line", "events"]

_LOOK = 0.5  # seconds between two looks at the executor
_FRAME = {"event", "time", "node"}


@click.command()
@click.option("-f", "--follow", "_follow", is_flag=True, help="It always does: for those who are used to it.")
@click.option(
    "--executor",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    shell_complete=completion.executors,
    help="Follow the executor instead: all its plans' states, and its lease.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line, for programs.")
@config_option
def events(executor: str | None, *, as_json: bool, _follow: bool) -> int:
    """Follow what this node's agent does: a line an event, from now on, until Ctrl-C or until the agent ends.

    What was before stands in the journal: chargehand logs agent. With --executor it looks twice a second, and goes on
    through outages: what lasts shorter is not seen.

    Exit code: 0, or 1 when no agent answers (with --executor: when Redis does not).
    """
    try:
        for event in _of_agent() if executor is None else _of_executor(executor):
            print(json.dumps(event) if as_json else event_line(event), flush=True)
    except KeyboardInterrupt:
        return 0  # the way to end it
    print("chargehand: the agent has ended", file=sys.stderr)
    return 0


def _of_agent() -> Iterator[Mapping[str, Any]]:
    for answer in follow("Events"):
        yield answer.get("event") or {}


def _of_executor(name: str) -> Iterator[Mapping[str, Any]]:
    """Plans that come into a state, and who holds the lease; of the node's own executor, or one of several."""
    from chargehand.cli.options import connected
    from chargehand.store.connection import Unavailable

    away = False
    lease: str | None = ""
    with connected() as executors:
        client = executors.of(name or None)
        moves = client.moves()
        while True:
            try:
                views, census = client.moved(moves), client.census()
            except Unavailable as error:
                if not away:
                    yield {"event": "redis_away", "time": time.time(), "why": str(error)}
                away = True
                time.sleep(_LOOK)
                continue
            if away:
                yield {"event": "redis_back", "time": time.time()}
                away = False
            for view in views:
                what = {"plan": view.plan, "action": view.label, "by": view.by}
                yield {"event": f"plan_{view.state}", "time": view.since_ms / 1000, **what}
            if census.lease_token != lease:
                lease = census.lease_token
                if lease is None:
                    yield {"event": "lease_free", "time": census.now_ms / 1000}
                else:
                    epoch = lease.partition(":")[0]
                    since = census.holder_since_ms / 1000
                    yield {"event": "lease_held", "time": since, "by": census.holder, "epoch": epoch}
            time.sleep(_LOOK)


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
