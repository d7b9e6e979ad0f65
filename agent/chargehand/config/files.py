"""Reading the TOML files: which ones, merged how, and where each value stands."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from chargehand.config.lines import locate
from chargehand.config.problems import NAMED, ConfigError, KeyPath, Problem, shown

__all__ = [
    "DEFAULT",
    "Merged",
    "StandIn",
    "config_path",
    "drop_in_directory",
    "instance",
    "is_one_value",
    "merge",
    "origin",
]

DEFAULT = Path("/etc/chargehand/chargehand.toml")

#: Keys whose table is one value (weights; a kind of readiness), not a table of keys: replaced as a whole.
_ONE_VALUE = {("worker", "queues"), ("child", "ready")}

Origins = dict[KeyPath, tuple[Path, int | None]]


class Merged(NamedTuple):
    data: dict[str, Any]  # named arrays are dicts here: name -> table
    origins: Origins
    files: list[Path]
    problems: list[Problem]

    def origin(self, key: KeyPath) -> tuple[Path | None, int | None]:
        return origin(key, self.origins, self.files)


class _Unreadable(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def origin(key: KeyPath, origins: Origins, files: list[Path]) -> tuple[Path | None, int | None]:
    """Where a key stands, or the nearest table around it, or the main file."""
    for end in range(len(key), 0, -1):
        if key[:end] in origins:
            return origins[key[:end]]
    return (files[0] if files else None), None


def is_one_value(key: KeyPath) -> bool:
    """True for a key whose table is one value: no file gives a part of it."""
    return len(key) == 3 and (key[0], key[2]) in _ONE_VALUE


def config_path(given: str | Path | None) -> tuple[Path, bool]:
    """The main file, and whether somebody named it (then it must exist)."""
    named = given or os.environ.get("CHARGEHAND_CONFIG")
    return (Path(named).absolute(), True) if named else (DEFAULT, False)


def instance(main: Path) -> str:
    """What the unit of this file is an instance of: NAME for /etc/chargehand/NAME.toml, "" for every other file.

    `chargehand@NAME.service` serves it beside `chargehand.service`, with directories of its own.
    """
    other = main.parent == DEFAULT.parent and main.suffix == ".toml" and main.name != DEFAULT.name
    return main.stem if other else ""


def drop_in_directory(main: Path) -> Path:
    """`conf.d` belongs to chargehand.toml; any other NAME.toml has NAME.d beside it."""
    return main.parent / ("conf.d" if main.name == DEFAULT.name else f"{main.name.removesuffix('.toml')}.d")


class StandIn(NamedTuple):
    """A file that is read as if it stood at another place: what somebody is about to write there."""

    file: Path
    place: Path

    @property
    def main(self) -> Path:
        """The main file of the configuration that the place belongs to."""
        directory = self.place.parent
        if directory.name == "conf.d":
            return directory.parent / DEFAULT.name
        return directory.with_suffix(".toml") if directory.suffix == ".d" else self.place


def merge(given: str | Path | None, stand_in: StandIn | None = None) -> Merged:
    """Read the main file and its drop-ins, in name order. Raises `ConfigError` when one cannot be read at all."""
    main, named = config_path(given)
    merged = Merged({}, {}, [], [])
    unreadable: list[Problem] = []
    try:
        drop_ins = _drop_ins(drop_in_directory(main))
    except _Unreadable as error:
        drop_ins = []
        unreadable.append(error.problem)
    # A link that points nowhere is there, and is refused: the default file may be absent, not broken.
    paths = [*([main] if named or os.path.lexists(main) else []), *drop_ins]
    if stand_in is not None:
        rest = sorted({*paths, stand_in.place} - {main})
        paths = [*([main] if main in {*paths, stand_in.place} else []), *rest]
    for path in paths:
        if stand_in is not None and path == stand_in.place:
            path = stand_in.file
        try:
            data, lines = _read(path)
        except _Unreadable as error:
            unreadable.append(error.problem)
        else:
            merged.files.append(path)
            _add(merged, path, data, lines)
    if unreadable:
        raise ConfigError(unreadable)
    return merged


def _drop_ins(directory: Path) -> list[Path]:
    try:
        # Hidden files are editors' own: locks and copies.
        return sorted(path for path in directory.iterdir() if path.suffix == ".toml" and path.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _Unreadable(Problem(directory, None, (), _why(error), "a directory that can be read")) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    try:
        content = path.read_bytes()
        text = content.decode()
        return tomllib.loads(text), locate(text)
    except FileNotFoundError as error:
        found = "a link to a file that does not exist" if path.is_symlink() else "no such file"
        problem = Problem(path, None, (), found, "", "name a file that exists, or none at all")
        raise _Unreadable(problem) from error
    except OSError as error:
        raise _Unreadable(Problem(path, None, (), _why(error), "a file that can be read")) from error
    except UnicodeDecodeError as error:
        problem = Problem(path, None, (), f"byte {error.start + 1} is not UTF-8", "a TOML file in UTF-8")
        raise _Unreadable(problem) from error
    except RecursionError as error:
        raise _Unreadable(Problem(path, None, (), "lists or tables nested too deeply", "TOML")) from error
    except ValueError as error:  # TOMLDecodeError, and Python's own for a number of thousands of digits
        raise _Unreadable(_syntax(path, str(error), content.count(b"\n") + 1)) from error


def _why(error: OSError) -> str:
    return os.strerror(error.errno or 0)


def _syntax(path: Path, message: str, lines: int) -> Problem:
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if found is not None:
        text = f"not TOML: {message[: found.start()]} (column {found[2]})"
        return Problem(path, int(found[1]), (), text, "")
    at_end = message.endswith("(at end of document)")
    return Problem(path, lines if at_end else None, (), f"not TOML: {message}", "")


def _add(merged: Merged, path: Path, data: dict[str, Any], lines: dict[KeyPath, int]) -> None:
    for key, value in data.items():
        if key not in NAMED:
            _put(merged, path, merged.data, (key,), value, lines, (key,))
        elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
            _add_named(merged, path, key, value, lines)
        else:
            expected = f"[[{key}]] above the keys of each, in double brackets"
            merged.problems.append(Problem(path, lines.get((key,)), (key,), f"found {shown((key,), value)}", expected))


def _add_named(merged: Merged, path: Path, key: str, items: list[dict[str, Any]], lines: dict[KeyPath, int]) -> None:
    one = key.removesuffix("s")  # what one of them is called
    known = merged.data.setdefault(key, {})
    merged.origins.setdefault((key,), (path, lines.get((key,))))
    seen: dict[str, int | None] = {}
    for index, item in enumerate(items):
        at: KeyPath = (key, str(index))
        line = lines.get(at)
        name = item.get("name")
        if not isinstance(name, str):
            found = "no name" if name is None else f"found {shown((key, 'name'), name)} as name"
            line = lines.get((*at, "name"), line)
            merged.problems.append(Problem(path, line, (key,), found, f"a name for each {one}, as a string"))
            continue
        if name in seen:
            merged.problems.append(
                Problem(
                    path,
                    line,
                    (key, name),
                    f"a second {one} of this name in this file (the first: line {seen[name]})",
                    "names that differ",
                    "a later file may name one again, to change it",
                )
            )
            continue
        seen[name] = line
        table = known.setdefault(name, {})
        merged.origins.setdefault((key, name), (path, line))
        for inner, value in item.items():
            _put(merged, path, table, (key, name, inner), value, lines, (*at, inner))


def _put(
    merged: Merged,
    path: Path,
    into: dict[str, Any],
    key: KeyPath,
    value: Any,
    lines: dict[KeyPath, int],
    at: KeyPath,
) -> None:
    """Tables merge; everything else replaces what an earlier file said."""
    last = key[-1]
    merged.origins[key] = (path, lines.get(at))
    if isinstance(value, dict) and isinstance(into.get(last, {}), dict) and not is_one_value(key):
        table = into.setdefault(last, {})
        for inner, content in value.items():
            _put(merged, path, table, (*key, inner), content, lines, (*at, inner))
    else:
        into[last] = value
