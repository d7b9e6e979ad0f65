"""`chargehand doctor`: what is wrong with this set-up, and how to mend it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["Finding", "Severity"]

Severity = Literal["ok", "note", "warning", "error"]


class Finding(Struct, omit_defaults=True):
    """What one check found."""

    check: str  # its name: `redis-eviction`
    severity: Severity
    text: str  # one sentence: what was found, and what is expected
    evidence: list[str] = []
    advice: list[str] = []  # what to do, one line each; commands as they are typed
