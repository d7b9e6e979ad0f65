"""How orchestrators and workers log: one event a line, for whatever reads it.

The agent says with `CHARGEHAND_OUTPUT` what takes their output: the journal, which wants a line's priority before
it and has its own time and name for it, or the agent itself, which puts the name before it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from chargehand.linux.journal import prefixes, writes_to_journal

__all__ = ["configure"]

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


class _Formatter(logging.Formatter):
    """Each line with its mark, those of a traceback too: each is an entry of its own."""

    def __init__(self, mark: Callable[[logging.LogRecord], str]) -> None:
        super().__init__("%(message)s")
        self._mark = mark

    def format(self, record: logging.LogRecord) -> str:
        mark = self._mark(record)
        return "\n".join(mark + line for line in super().format(record).splitlines() or [""])


def _priority(record: logging.LogRecord) -> str:
    return prefixes(next((one for level, one in _PRIORITIES if record.levelno >= level), 7))


def configure(name: str, node: str) -> None:
    """`name`, `node`: of the child, for output that says neither by itself."""
    reader = os.environ.get("CHARGEHAND_OUTPUT") or ("journal" if writes_to_journal() else "")
    handler = logging.StreamHandler(sys.stderr)
    if reader == "journal":
        mark = _priority
    elif reader == "agent":
        mark = lambda record: f"{record.levelname} "  # noqa: E731 - one of three
    else:
        mark = lambda record: f"{record.levelname} {name}@{node}: "  # noqa: E731
    handler.setFormatter(_Formatter(mark))
    logging.basicConfig(level=os.environ.get("CHARGEHAND_LOG", "INFO").upper(), handlers=[handler])
