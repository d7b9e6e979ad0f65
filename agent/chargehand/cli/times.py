"""Times and durations as people read them in a table."""

from __future__ import annotations

from datetime import datetime

__all__ = ["lasting", "moment_in_brief"]

_UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"))


def lasting(seconds: float) -> str:
    """How long, with two figures that matter: "0.42 s", "12 s", "3 min", "2 h 5 min", "4 d 1 h"."""
    if seconds < 10:
        return f"{max(0.0, seconds):.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 3_600:
        return f"{seconds / 60:.0f} min"
    for size, unit, part, smaller in _UNITS:
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            return f"{whole} {unit} {rest // part} {smaller}" if rest // part else f"{whole} {unit}"
    raise AssertionError(seconds)  # the last unit holds from 3,600 s on


def moment_in_brief(ms: int, now: datetime) -> str:
    """When, as briefly as it is clear on the day of `now` (local time): its time, its day and time, or its date."""
    if not ms:
        return "-"
    then = datetime.fromtimestamp(ms / 1000).astimezone(now.tzinfo)
    if then.date() == now.date():
        return f"{then:%H:%M:%S}"
    return f"{then:%m-%d %H:%M}" if abs((now - then).days) < 300 else f"{then:%Y-%m-%d}"
