"""Plans as a table, a line each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from chargehand.cli.columns import Column, arranged, print_lines, terminal_width
from chargehand.cli.options import time_of_day
from chargehand.cli.showing import BAD, colored
from chargehand.cli.times import moment_in_brief

if TYPE_CHECKING:
    from chargehand.store.plans import PlanView

__all__ = ["print_plans"]

_COLUMNS = (
    Column("PLAN"),
    Column("EXECUTOR", drop=2),
    Column("STATE"),
    Column("SINCE", drop=1),
    Column("ACTION", cut=True),
    Column("STEPS", right=True),
    Column("FAILED", drop=3, right=True),
    Column("SUBMITTED", drop=5),
    Column("BY", drop=4, cut=True),
    Column("LABELS", drop=6, cut=True),
)

_ID = 28  # characters: the ids of recurring plans and their like are longer
_WIDE = 140  # columns: room for those too


def print_plans(views: Sequence[PlanView]) -> None:
    """On a terminal what fits there; elsewhere all of it, with whole times."""
    width = terminal_width()
    now = datetime.now().astimezone()

    def when(ms: int) -> str:
        return moment_in_brief(ms, now) if width is not None else time_of_day(ms)

    apart = width is not None and width < _WIDE
    rows = [
        [
            "" if apart and len(view.plan) > _ID else view.plan,
            view.executor,
            colored(view.state),
            when(view.since_ms),
            view.label,
            f"{view.counts.get('succeeded', 0) + view.counts.get('skipped', 0):,}/{view.total:,}",
            f"{failed:,}" if (failed := sum(view.counts.get(state, 0) for state in BAD)) else "",
            when(view.submitted_ms),
            view.by,
            ", ".join(view.labels),
        ]
        for view in views
    ]
    titles, *lines = arranged(_COLUMNS, rows, width)
    shown = [titles]
    for view, row, line in zip(views, rows, lines, strict=True):
        # An id is not cut: a long one has a line of its own.
        shown += [line] if row[0] else [[view.plan], line]
    print_lines(shown, width)
