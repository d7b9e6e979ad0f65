"""What running attempts say and how far they are, told while they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from chargehand.store.connection import Command, Line
from chargehand.store.keys import Keys
from chargehand.store.scripts import REPORT
from chargehand.wire import read_key

__all__ = ["MAX_SAID", "Report", "report", "report_command"]

MAX_SAID = 10_000  # entries that are kept of what one plan has said, about: the latest


class Report(NamedTuple):
    """News of one attempt.

    progress: JSON `[fraction, message, ms]`, empty for none. entries: JSON `[step, attempt, ms, kind, payload]` each;
    ms is the worker's wall clock; for the kinds "out", "err" and "say" the payload is text, whole lines without the
    last one's end; for "progress" it is `[fraction, message]`.
    """

    key: str  # PLAN/STEP/ATTEMPT
    progress: bytes
    entries: list[bytes]


def report(line: Line, keys: Keys, incarnation: str, reports: Sequence[Report]) -> list[bool]:
    """False: stale, this attempt is no longer this worker's. Raises `Full`: there is no room for what they say."""
    return [bool(reply) for reply in line.call(*report_command(keys, incarnation, reports))]


def report_command(keys: Keys, incarnation: str, reports: Sequence[Report]) -> Command:
    names = [keys.own(incarnation)]
    arguments: list[Any] = [MAX_SAID]
    for one in reports:
        plan, step, _ = read_key(one.key)
        names += (keys.said(plan), keys.progress(plan))
        arguments += (one.key, step, keys.plan_channel(plan), one.progress, len(one.entries), *one.entries)
    return REPORT(names, *arguments)
