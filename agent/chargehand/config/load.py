"""From merged TOML to `Settings`, or to every reason why not."""

from __future__ import annotations

import socket
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from chargehand.config.files import Merged, merge
from chargehand.config.problems import ConfigError, KeyPath, Problem
from chargehand.config.quantities import format_duration, format_size, parse_duration, parse_size
from chargehand.config.rules import broken_rules
from chargehand.config.settings import Duration, Settings, Size

__all__ = ["ConfigError", "Loaded", "from_builtins", "load", "to_builtins"]


class Loaded(NamedTuple):
    settings: Settings
    origins: dict[str, str]  # "worker.hosts.threads" -> "FILE:LINE"; what is not here is a default
    files: list[Path]


def load(path: str | Path | None = None) -> Loaded:
    """Read the configuration. Raises `ConfigError` with all that is wrong.

    `path`: the main file (default: CHARGEHAND_CONFIG, else /etc/chargehand/chargehand.toml; the last may be
    absent, everything has a default).
    """
    merged = merge(path)
    problems = [*merged.problems, *_check(Settings, _listed(merged.data), (), merged)]
    if problems:
        raise ConfigError(problems)
    data = _listed(merged.data)
    data.setdefault("node", {}).setdefault("name", socket.gethostname())
    redis = data.setdefault("redis", {})
    if "url" not in redis:
        redis.setdefault("embedded", True)
    for key in ("worker", "action"):
        if key in data:
            data[key] = [item for item in data[key] if item.get("enabled", True)]
    try:
        settings = from_builtins(data)
    except msgspec.ValidationError as error:
        raise ConfigError([Problem(merged.files[0] if merged.files else None, None, (), str(error), "")]) from error
    broken = [_placed(problem, merged) for problem in broken_rules(settings)]
    if broken:
        raise ConfigError(broken)
    origins = {".".join(key): f"{file}:{line}" if line else str(file) for key, (file, line) in merged.origins.items()}
    return Loaded(settings, origins, merged.files)


def from_builtins(data: dict[str, Any]) -> Settings:
    """Settings of what `to_builtins` made. Raises `msgspec.ValidationError`."""
    return msgspec.convert(data, Settings, dec_hook=_decode)


def to_builtins(settings: Settings) -> dict[str, Any]:
    """Settings as JSON can hold them; durations and sizes as people write them."""
    plain: dict[str, Any] = msgspec.to_builtins(settings, enc_hook=_encode)
    return plain


def _decode(kind: type, value: Any) -> Any:
    if kind in _QUANTITIES:
        if not isinstance(value, str):
            raise ValueError(f"a number without a unit: {value!r}")
        return _QUANTITIES[kind][0](value)
    raise TypeError(kind)


def _encode(value: Any) -> str:
    if isinstance(value, Duration):
        return format_duration(value)
    if isinstance(value, Size):
        return format_size(value)
    raise TypeError(type(value))


_QUANTITIES: dict[type, tuple[Callable[[str], Any], str]] = {
    Duration: (parse_duration, 'a duration with its unit, like "5s" (ms, s, m, h, d)'),
    Size: (parse_size, 'a size with its unit, like "64KiB" (B, KiB, MiB, GiB, TiB)'),
}


def _listed(data: dict[str, Any]) -> dict[str, Any]:
    """Named tables back as the list that they are in TOML."""
    return {
        key: list(value.values()) if key in {"worker", "action"} and isinstance(value, dict) else value
        for key, value in data.items()
    }


def _placed(problem: Problem, merged: Merged) -> Problem:
    """The same problem with the file and line of its key, or of the nearest table around it."""
    for end in range(len(problem.key), 0, -1):
        origin = merged.origins.get(problem.key[:end])
        if origin is not None:
            return problem._replace(file=origin[0], line=origin[1])
    return problem._replace(file=merged.files[0] if merged.files else None)


# -- types ----------------------------------------------------------------------------------------


def _check(kind: Any, value: Any, key: KeyPath, merged: Merged) -> list[Problem]:
    """Every place where `value` is not what `kind` asks for."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _check_table(kind, value, key, merged)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if (
        origin is list
        and isinstance(value, list)
        and isinstance(arguments[0], type)
        and issubclass(arguments[0], Struct)
    ):
        found = []
        for item in value:
            name = item.get("name", "?") if isinstance(item, dict) else "?"
            found += _check(arguments[0], item, (*key, str(name)), merged)
        return found
    if (
        origin is dict
        and isinstance(value, dict)
        and isinstance(arguments[1], type)
        and issubclass(arguments[1], Struct)
    ):
        return [problem for name, item in value.items() for problem in _check(arguments[1], item, (*key, name), merged)]
    try:
        msgspec.convert(value, kind, dec_hook=_decode)
    except msgspec.ValidationError:
        return [_placed(Problem(None, None, key, f"found {_shown(value)}", _described(kind)), merged)]
    return []


def _check_table(kind: type[Struct], value: Any, key: KeyPath, merged: Merged) -> list[Problem]:
    if not isinstance(value, dict):
        return [_placed(Problem(None, None, key, f"found {_shown(value)}", "a table"), merged)]
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for name, inner in value.items():
        if name in hints:
            found += _check(hints[name], inner, (*key, name), merged)
        else:
            found.append(_placed(Problem(None, None, (*key, name), "unknown key", _nearest(name, hints)), merged))
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in value:
            found.append(
                _placed(Problem(None, None, (*key, field.name), "is missing", _described(hints[field.name])), merged)
            )
    return found


def _nearest(name: str, known: dict[str, Any]) -> str:
    import difflib  # noqa: PLC0415 - only for a mistake

    close = difflib.get_close_matches(name, known, n=1)
    return f'"{close[0]}"' if close else f"one of {', '.join(sorted(known))}"


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    kinds = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "a list", dict: "a table"}
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({kinds.get(type(value), type(value).__name__)})"


def _described(kind: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in _QUANTITIES:
        return _QUANTITIES[kind][1]
    if origin is Annotated:
        return _limited(_described(arguments[0]), [one for one in arguments[1:] if isinstance(one, Meta)])
    if origin is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in arguments)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_described(one) for one in arguments if one is not type(None))
    if origin is list:
        return f"a list ({_described(arguments[0])} each)"
    if origin is dict:
        return f"a table ({_described(arguments[1])} each)"
    words = {str: "a string", bool: "true or false", int: "an integer", float: "a number"}
    return words.get(kind, "a table")


def _limited(words: str, limits: list[Meta]) -> str:
    for limit in limits:
        if limit.pattern is not None:
            words = "a name of letters, digits, '.', '_' and '-', at most 63"
        if limit.ge is not None and limit.le is not None:
            words += f" from {limit.ge} to {limit.le}"
        elif limit.ge is not None:
            words += f" of at least {limit.ge}"
        if limit.min_length:
            words += f" with at least {limit.min_length} element"
    return words
