"""Settings as plain values that JSON can hold, and back: how they travel between our own processes.

Apart from `load.py`, because the agent and its children need this and not the reading of TOML.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from chargehand.config.quantities import format_duration, format_size, parse_duration, parse_rate, parse_size
from chargehand.config.settings import (
    Duration,
    ExecutorSettings,
    Rate,
    RedisAddress,
    RedisSettings,
    Settings,
    Size,
)
from chargehand.decoding import converter

__all__ = ["decode_quantity", "executors_of", "from_builtins", "reachable", "to_builtins"]


def _rate(text: str) -> Rate:
    parse_rate(text)
    return Rate(text)


_PARSE: dict[type, Callable[[str], Any]] = {Duration: parse_duration, Size: parse_size, Rate: _rate}


def from_builtins(data: dict[str, Any]) -> Settings:
    """Settings of what `to_builtins` made, here or in another version: what is missing has its default, and keys
    that are not known here say nothing. Raises `msgspec.ValidationError`.
    """
    settings: Settings = converter(Settings, dec_hook=decode_quantity)(data)
    return settings


def to_builtins(settings: Settings) -> dict[str, Any]:
    """Settings as JSON can hold them; durations and sizes as people write them."""
    plain: dict[str, Any] = msgspec.to_builtins(settings, enc_hook=_encode)
    return plain


def reachable(settings: Settings) -> Settings:
    """Settings that a client can connect by: with an embedded server, its socket."""
    if not settings.redis.embedded:
        return settings
    url = f"unix://{settings.agent.runtime_dir}/redis.sock"
    redis = msgspec.structs.replace(settings.redis, url=url, embedded=False)
    return msgspec.structs.replace(settings, redis=redis)


def executors_of(settings: Settings) -> dict[str, Settings]:
    """Each executor that plans may go to -> settings for a client of it. Without `[[executors]]`: the node's own."""
    if not settings.executors:
        return {settings.executor.name: settings}
    return {
        one.name: msgspec.structs.replace(
            settings,
            executor=ExecutorSettings(one.name),
            redis=settings.redis if one.url is None else _redis_of(one),
        )
        for one in settings.executors
    }


def _redis_of(address: RedisAddress) -> RedisSettings:
    return RedisSettings(**{key: getattr(address, key) for key in RedisAddress.__struct_fields__})


def decode_quantity(kind: type, value: Any) -> Any:
    """A duration, size or rate of its text, for a converter."""
    if kind in _PARSE:
        if not isinstance(value, str):
            raise ValueError(f"a number without a unit: {value!r}")
        return _PARSE[kind](value)
    raise TypeError(kind)


def _encode(value: Any) -> str:
    if isinstance(value, Duration):
        return format_duration(value)
    if isinstance(value, Size):
        return format_size(value)
    if isinstance(value, Rate):
        return str(value)
    raise TypeError(type(value))
