"""Figures of repeated runs, side by side, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

__all__ = ["Figures", "Row", "print_columns", "print_table"]


@dataclass(frozen=True)
class Figures:
    """Several runs of one measure."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(min(self.values))}..{_short(max(self.values))})"


@dataclass(frozen=True)
class Row:
    what: str
    unit: str
    ours: Figures
    peer: Figures | None = None
    limit: Figures | None = None

    @property
    def faster_is_more(self) -> bool:
        return self.unit.endswith("/s")

    @property
    def ratio(self) -> str:
        if self.peer is None:
            return "-"
        ratio = self.ours.median / self.peer.median
        return f"{ratio if self.faster_is_more else 1 / ratio:.1f} x"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def print_table(title: str, rows: Sequence[Row]) -> None:
    table = Table(title=title, box=None, title_justify="left")
    for column in ("MEASURE", "UNIT", "CHARGEHAND median (min..max)", "HUEY", "RATIO", "REDIS ALONE"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.what, row.unit, str(row.ours), str(row.peer or "-"), row.ratio, str(row.limit or "-"))
    Console(width=140).print(table)


def print_columns(
    title: str, columns: Sequence[str], rows: Sequence[tuple[str, str, Sequence[Figures | None]]]
) -> None:
    """Each row: what, its unit, and its figures in the order of `columns`; of one figure only that."""
    table = Table(box=None)
    for column in ("MEASURE", "UNIT", *columns):
        table.add_column(column)
    for what, unit, found in rows:
        table.add_row(what, unit, *(_cell(figures) for figures in found))
    console = Console(width=160)
    console.print(title, style="italic")
    console.print(table)


def _cell(figures: Figures | None) -> str:
    if figures is None:
        return "-"
    return str(figures) if len(figures.values) > 1 else _short(figures.values[0])
