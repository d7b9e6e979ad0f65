"""Text of the program as Markdown has it."""

from __future__ import annotations

import re

__all__ = ["cell", "escaped"]


def escaped(text: str) -> str:
    """Nothing in it is markup."""
    return re.sub(r"([*_`\[])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")


def cell(text: str) -> str:
    """In a table: one line, with no end of a cell in it."""
    return " ".join(text.split()).replace("|", "\\|")
