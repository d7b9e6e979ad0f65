from __future__ import annotations

import os
import socket
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from chargehand.config.quantities import parse_duration, parse_size
from chargehand.config.settings import Duration, Settings, Size


class ConfigError(Exception): ...


class Loaded(NamedTuple):
    settings: Settings
    origins: dict[str, str]
    files: list[Path]


def _hook(kind: type, value: Any) -> Any:
    if kind is Duration:
        return parse_duration(value)
    if kind is Size:
        return parse_size(value)
    raise TypeError(kind)


def from_builtins(data: dict[str, Any]) -> Settings:
    return msgspec.convert(data, Settings, dec_hook=_hook)


def to_builtins(settings: Settings) -> dict[str, Any]:
    from chargehand.config.quantities import format_duration, format_size

    def enc(v: Any) -> Any:
        if isinstance(v, Duration):
            return format_duration(v)
        if isinstance(v, Size):
            return format_size(v)
        raise TypeError(v)

    return msgspec.to_builtins(settings, enc_hook=enc)


def load(path: str | Path | None = None) -> Loaded:
    path = path or os.environ.get("CHARGEHAND_CONFIG") or "/etc/chargehand/chargehand.toml"
    data = tomllib.loads(Path(path).read_text())
    data.setdefault("node", {}).setdefault("name", socket.gethostname())
    return Loaded(from_builtins(data), {}, [Path(path)])
