"""From merged TOML to `Settings`, or to every reason why not."""

from __future__ import annotations

import re
import socket
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from chargehand.config.files import Merged, Origins, StandIn, config_path, instance, is_one_value, merge, origin
from chargehand.config.plain import decode_quantity, from_builtins
from chargehand.config.problems import NAMED, ConfigError, KeyPath, Problem, shown
from chargehand.config.rules import ANY, broken_rules, inputs_of
from chargehand.config.settings import AgentSettings, Duration, LogPattern, Name, Rate, Settings, Size
from chargehand.decoding import converter

__all__ = ["ConfigError", "Loaded", "directories", "load"]


class Loaded(NamedTuple):
    settings: Settings
    origins: Origins  # ("worker", "hosts", "threads") -> its file and line; what is not here is a default
    files: list[Path]

    def placed(self, problem: Problem) -> Problem:
        """The same, with its place in the files: for what is found wrong only after loading."""
        file, line = origin(problem.key, self.origins, self.files)
        return problem._replace(file=file, line=line)


def load(path: str | Path | None = None, stand_in: StandIn | None = None) -> Loaded:
    """Read the configuration. Raises `ConfigError` with all that is wrong.

    `path`: the main file (default: CHARGEHAND_CONFIG, else /etc/chargehand/chargehand.toml; the last may be
    absent, everything has a default). `stand_in`: one of its files, to be read from somewhere else.
    """
    if stand_in is not None:
        path = stand_in.main
    merged = merge(path, stand_in)
    faults = _faults(merged)
    data = _sound(merged.data, faults)
    data["node"] = {"name": _host_name(), **data.get("node", {})}
    data["agent"] = {**directories(config_path(path)[0]), **data.get("agent", {})}
    data["redis"] = dict(data.get("redis", {}))
    if "url" not in data["redis"]:
        data["redis"].setdefault("embedded", True)
    problems = [*merged.problems, *faults]
    try:
        settings = from_builtins(data)
    except msgspec.ValidationError as error:  # all values were checked but one: the host's name
        name = Problem(None, None, ("node", "name"), f'the host name is "{_host_name()}"', _described(Name), _NAME_IT)
        raise ConfigError([*problems, name._replace(file=merged.files[0] if merged.files else None)]) from error
    broken = [fault.key if fault.meant in merged.origins else fault.meant or fault.key for fault in faults]
    broken += [problem.key for problem in merged.problems if len(problem.key) == 1]
    for problem in broken_rules(settings):
        # With a value that it reads in doubt, a rule would only repeat what is wrong.
        if not any(_overlap(one, key) for one in broken for key in inputs_of(problem.key)):
            file, line = merged.origin(problem.key)
            problems.append(problem._replace(file=file, line=line))
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: (str(problem.file), problem.line or 0)))
    return Loaded(settings, merged.origins, merged.files)


def directories(main: Path) -> dict[str, str]:
    """`state_dir` and `runtime_dir` where the files do not name them: as in the unit that runs this configuration.

    They follow from the file's name, not from what systemd says in the environment, so that commands find them too.
    """
    name = instance(main)
    default = AgentSettings()
    own = f"-{name}" if name else ""
    return {"state_dir": default.state_dir + own, "runtime_dir": default.runtime_dir + own}


_HINTS = typing.get_type_hints(Settings, include_extras=True)

_NAME_IT = "set node.name"

#: Of a connection: keys that people try -> the one that they mean, and what to do instead.
_CONNECTIONS = ("redis", "executors")
_MEANT = {"host": "url", "port": "url", "db": "url"}
_IN_THE_URL = 'host, port and database are in {}url, like "redis://HOST:6379/0"'
_ADVICE = {
    "password": "put the password into a file of its own and name that in {}password_file",
    "sentinel_password": "put the password into a file of its own and name that in sentinel_password_file",
    "host": _IN_THE_URL,
    "port": _IN_THE_URL,
    "db": _IN_THE_URL,
}

_UNIONS = {typing.Union, types.UnionType}
_WORDS: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    Duration: 'a duration with its unit, like "5s" (ms, s, m, h, d)',
    Size: 'a size with its unit, like "64KiB" (B, KiB, MiB, GiB, TiB)',
    Rate: 'a count in a time, like "10/s" (ms, s, m, h, d)',
    LogPattern: '{ log = "REGULAR EXPRESSION" }',
}


def _host_name() -> str:
    return socket.gethostname()


# -- types ----------------------------------------------------------------------------------------


def _faults(merged: Merged) -> list[Problem]:
    """Every value that is not of its key's type, and every key that nobody knows; in disabled items too."""
    found: list[Problem] = []
    for section, content in merged.data.items():
        if section not in _HINTS:
            found.append(_unknown((section,), _HINTS, merged))
        elif section in NAMED:
            (kind,) = typing.get_args(_HINTS[section])
            for name, item in content.items():
                found += _check_table(kind, item, (section, name), merged, whole=_enabled(item))
        else:
            found += _check(_HINTS[section], content, (section,), merged)
    return found


def _enabled(item: dict[str, Any]) -> bool:
    return item.get("enabled", True) is not False


def _sound(data: dict[str, Any], faults: list[Problem]) -> dict[str, Any]:
    """The data without what is at fault: the rest is to be asked for more that is wrong."""
    # A hook goes as a whole: without its action the rest of it says nothing.
    keys = [fault.key[:4] if fault.key[2:3] == ("hooks",) else fault.key for fault in faults]
    kept: dict[str, Any] = _without(data, keys)
    for section in NAMED:
        if section in kept:
            (kind,) = typing.get_args(_HINTS[section])
            needed = {field.name for field in msgspec.structs.fields(kind) if field.required}
            kept[section] = [item for item in kept[section].values() if _enabled(item) and needed <= item.keys()]
    return kept


def _without(table: Any, keys: list[KeyPath]) -> Any:
    if not isinstance(table, dict):
        return table
    gone = {key[0] for key in keys if len(key) == 1}
    return {
        name: _without(inner, [key[1:] for key in keys if len(key) > 1 and key[0] == name])
        for name, inner in table.items()
        if name not in gone
    }


def _overlap(one: KeyPath, other: KeyPath) -> bool:
    return all(left == right or ANY in {left, right} for left, right in zip(one, other, strict=False))


def _check(kind: Any, value: Any, key: KeyPath, merged: Merged) -> list[Problem]:
    """Every place where `value` is not what `kind` asks for."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _check_table(kind, value, key, merged)
    form, arguments = typing.get_origin(kind), typing.get_args(kind)
    if form is dict and isinstance(value, dict) and not is_one_value(key):
        return [problem for name, item in value.items() for problem in _check(arguments[1], item, (*key, name), merged)]
    if form in _UNIONS and isinstance(value, dict) and not is_one_value(key):
        for table in arguments:
            if isinstance(table, type) and issubclass(table, Struct):
                return _check_table(table, value, key, merged)
    try:
        converter(kind, dec_hook=decode_quantity)(value)
    except msgspec.ValidationError as error:
        # Of a list or a table of weights, the one element that is wrong, when msgspec names it.
        return [_problem(key, f"found {_guilty(value, str(error), key)}", _described(kind), merged)]
    return []


def _check_table(kind: type[Struct], value: Any, key: KeyPath, merged: Merged, *, whole: bool = True) -> list[Problem]:
    if not isinstance(value, dict):
        return [_problem(key, f"found {shown(key, value)}", f"a table of {', '.join(_hints(kind))}", merged)]
    hints = _hints(kind)
    found: list[Problem] = []
    for name, inner in value.items():
        if name in hints:
            found += _check(hints[name], inner, (*key, name), merged)
        else:
            found.append(_unknown((*key, name), hints, merged))
    meant = {problem.meant for problem in found}
    for field in msgspec.structs.fields(kind) if whole else ():
        if field.required and field.name not in value and (*key, field.name) not in meant:
            found.append(_problem((*key, field.name), "is missing", _described(hints[field.name]), merged))
    return found


def _hints(kind: type[Struct]) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _problem(key: KeyPath, found: str, expected: str, merged: Merged, advice: str = "") -> Problem:
    return Problem(*merged.origin(key), key, found, expected, advice)


def _unknown(key: KeyPath, known: dict[str, Any], merged: Merged) -> Problem:
    if key[0] in _CONNECTIONS and key[-1] in _ADVICE:
        advice = _ADVICE[key[-1]].format("redis." if key[0] == "redis" else "")
        meant = (*key[:-1], _MEANT[key[-1]]) if key[-1] in _MEANT else ()
        return _problem(key, "unknown key", "", merged, advice)._replace(meant=meant)
    close = _nearest(key[-1], known)
    if close is None:
        return _problem(key, "unknown key", f"one of {', '.join(sorted(known))}", merged)
    return _problem(key, "unknown key", f'"{close}"', merged)._replace(meant=(*key[:-1], close))


def _guilty(value: Any, message: str, key: KeyPath) -> str:
    at = re.search(r" - at `\$(?:\[(\d+)\](?:\.\w+)*|\.(\w+))`$", message)
    if isinstance(value, list) and at is not None and at[1]:
        return f"{shown(key, value[int(at[1])])} in the list"
    if isinstance(value, dict) and is_one_value(key):
        if at is not None and at[2] in value:
            return f"{shown(key, value[at[2]])} as {at[2]}"
        if not re.search(r" - at `", message):
            return f"a table of {', '.join(value) or 'nothing'}"
    return shown(key, value)


def _nearest(name: str, known: dict[str, Any]) -> str | None:
    import difflib  # noqa: PLC0415 - only for a mistake

    close = difflib.get_close_matches(name, known, n=1)
    return close[0] if close else None


def _described(kind: Any) -> str:
    """A type in words."""
    form, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if form is Annotated:
        return _limited(_described(arguments[0]), [one for one in arguments[1:] if isinstance(one, Meta)])
    if form is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in arguments)
    if form in _UNIONS:
        return " or ".join(_described(one) for one in arguments if one is not type(None))
    if form is list:
        return f"a list ({_described(arguments[0])} each)"
    if form is dict:
        return f"a table ({_described(arguments[1])} each)"
    if isinstance(kind, type) and issubclass(kind, Struct):
        return f"a table of {', '.join(_hints(kind))}"
    return "a table"


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
