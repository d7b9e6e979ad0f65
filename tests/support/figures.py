"""Figures that tests take on their way: collected over the rounds, told below the tests' results."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["Figures", "print_figures"]


class Figures:
    """Seconds by what was measured, and counts of what went as it should; each over all rounds."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._counts: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def took(self, what: str, seconds: float) -> None:
        self._seconds[what].append(seconds)

    def went(self, what: str, count: int, of: int) -> None:
        self._counts[what].append((count, of))

    def lines(self) -> Iterator[str]:
        """A table: medians (smallest..largest) of seconds, sums of counts."""
        cells = {what: _spread(found) for what, found in self._seconds.items()}
        cells |= {
            what: f"{sum(n for n, _ in found)} of {sum(n for _, n in found)}" for what, found in self._counts.items()
        }
        yield "| what | figure |"
        yield "| --- | --- |"
        for what in sorted(cells):
            yield f"| {what} | {cells[what]} |"


def _spread(found: list[float]) -> str:
    middle = _short(statistics.median(found))
    return middle if len(found) == 1 else f"{middle} ({_short(min(found))}..{_short(max(found))})"


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def print_figures(request: pytest.FixtureRequest, figures: Figures) -> None:
    """Between the tests' results, captured or not. A worker of pytest-xdist has no terminal: nothing is told there."""
    terminal: Any = request.config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = request.config.pluginmanager.get_plugin("capturemanager")
    if terminal is None:
        return
    with capture.global_and_fixture_disabled():
        terminal.write_line("")
        for line in figures.lines():
            terminal.write_line(line)
