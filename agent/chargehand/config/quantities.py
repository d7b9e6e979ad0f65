"""Durations, sizes and rates as people write them: a number and its unit, and nothing else."""

from __future__ import annotations

import re

from chargehand.config.settings import Duration, Size

__all__ = ["format_duration", "format_size", "parse_duration", "parse_rate", "parse_size"]

#: Smallest first: formatting takes the largest unit that leaves a whole number. In microseconds, so that
#: every step is exact.
_MICROSECONDS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_RATE = re.compile(r"\s*([0-9]+)\s*/\s*(ms|s|m|h|d)\s*")
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")

# Limits keep every value within 2**53, where a float still counts by ones, and far above any real use.
_LONGEST = 36_500 * _MICROSECONDS["d"]
_LARGEST = 4096 * _BYTES["TiB"]


def parse_duration(text: str) -> Duration:
    """Seconds of `500ms`, `5s`, `1.5m`, `1h`, `30d`, to a microsecond. Raises `ValueError`, saying what would do."""
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in _MICROSECONDS:
        raise ValueError(f'{text!r} is no duration; write a number and one of ms, s, m, h, d, like "5s"')
    count = float(found[1]) * _MICROSECONDS[found[2]]
    if count > _LONGEST:
        raise ValueError(f"{text!r} is too long; at most 36500d")
    return Duration(round(count) / 1_000_000)


def parse_size(text: str) -> Size:
    """Bytes of `512B`, `64KiB`, `1.5GiB`. Raises `ValueError`, saying what would do."""
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in _BYTES:
        raise ValueError(f'{text!r} is no size; write a number and one of B, KiB, MiB, GiB, TiB, like "64KiB"')
    count = float(found[1]) * _BYTES[found[2]]
    if count > _LARGEST:
        raise ValueError(f"{text!r} is too large; at most 4096TiB")
    return Size(round(count))


def parse_rate(text: str) -> tuple[int, int]:
    """How many in how many ms: of `10/s`, `100/m`. Raises `ValueError`, saying what would do."""
    found = _RATE.fullmatch(text)
    if found is None or not int(found[1]):
        raise ValueError(f'{text!r} is no rate; write a count, "/" and one of ms, s, m, h, d, like "10/s"')
    return int(found[1]), _MICROSECONDS[found[2]] // 1_000


def format_duration(value: float) -> str:
    """A short text that `parse_duration` reads as the same, to a microsecond."""
    count = round(value * 1_000_000)
    if not count:
        return "0s"
    for unit, size in reversed(_MICROSECONDS.items()):
        if count % size == 0:
            return f"{count // size}{unit}"
    whole, rest = divmod(count, 1_000)
    return f"{whole}.{rest:03}".rstrip("0") + "ms"


def format_size(value: int) -> str:
    """A short text that `parse_size` reads as the same."""
    for unit, size in reversed(_BYTES.items()):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return f"{value}B"
