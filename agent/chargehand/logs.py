"""How orchestrators and workers log: one event a line, for whatever reads it.

The agent says with `CHARGEHAND_OUTPUT` what takes their output: the journal, which wants a line's priority before
it and has its own time and name for it, or the agent itself, which puts the name before it.
"""

from __future__ import annotations

import logging
import os
import sys

from chargehand.linux.journal import prefixes, writes_to_journal

__all__ = ["configure"]

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


class _JournalFormatter(logging.Formatter):
    """`<4>message`; each line of a traceback too, for each is an entry of its own."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((one for level, one in _PRIORITIES if record.levelno >= level), 7)
        mark = prefixes(priority)
        return "\n".join(mark + line for line in super().format(record).splitlines() or [""])


def configure(name: str, node: str) -> None:
    """`name`, `node`: of the child, for output that says neither by itself."""
    reader = os.environ.get("CHARGEHAND_OUTPUT") or ("journal" if writes_to_journal() else "")
    handler = logging.StreamHandler(sys.stderr)
    if reader == "journal":
        handler.setFormatter(_JournalFormatter("%(message)s"))
    elif reader == "agent":
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    else:
        handler.setFormatter(logging.Formatter(f"%(levelname)s {name}@{node}: %(message)s"))
    logging.basicConfig(level=os.environ.get("CHARGEHAND_LOG", "INFO").upper(), handlers=[handler])
