"""Whether a regular expression is one. Pure."""

from __future__ import annotations

import re
import warnings

__all__ = ["pattern_fault"]


def pattern_fault(text: str) -> str | None:
    """Why this is no regular expression, in a few words; None when it is one."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Python's hints about its own future are no fault of the file
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return None
