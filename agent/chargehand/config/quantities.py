"""Durations and sizes as people write them: a number and its unit, and nothing else."""

from __future__ import annotations

import re

from chargehand.config.settings import Duration, Size

__all__ = ["format_duration", "format_size", "parse_duration", "parse_size"]

#: Smallest first: formatting takes the largest unit that leaves a whole number.
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def parse_duration(text: str) -> Duration:
    """Seconds of `500ms`, `5s`, `1.5m`, `1h`, `30d`. Raises `ValueError`, saying what would do."""
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in _SECONDS:
        raise ValueError(f'{text!r} is no duration; write a number and one of ms, s, m, h, d, like "5s"')
    return Duration(round(float(found[1]) * _SECONDS[found[2]], 6))


def parse_size(text: str) -> Size:
    """Bytes of `512B`, `64KiB`, `1.5GiB`. Raises `ValueError`, saying what would do."""
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in _BYTES:
        raise ValueError(f'{text!r} is no size; write a number and one of B, KiB, MiB, GiB, TiB, like "64KiB"')
    return Size(round(float(found[1]) * _BYTES[found[2]]))


def format_duration(value: float) -> str:
    """The shortest text that `parse_duration` reads as the same (to a microsecond)."""
    for unit, seconds in reversed(_SECONDS.items()):
        count = value / seconds
        if value and count >= 1 and abs(count - round(count)) < 1e-9:
            return f"{round(count)}{unit}"
    return f"{value * 1000:g}ms" if 0 < value < 1 else f"{value:g}s"


def format_size(value: int) -> str:
    """The shortest text that `parse_size` reads as the same."""
    for unit, size in reversed(_BYTES.items()):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return f"{value}B"
