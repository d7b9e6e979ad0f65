"""Reading the TOML files: which ones, merged how, and where each value stands."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from chargehand.config.problems import ConfigError, KeyPath, Problem

__all__ = ["DEFAULT", "Merged", "config_path", "drop_in_directory", "merge", "read"]

DEFAULT = Path("/etc/chargehand/chargehand.toml")

#: Arrays of tables that merge by their `name`.
_NAMED = ("worker", "action")

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


class Merged(NamedTuple):
    data: dict[str, Any]  # named arrays are dicts here: name -> table
    origins: dict[KeyPath, tuple[Path, int | None]]
    files: list[Path]
    problems: list[Problem]


def config_path(given: str | Path | None) -> tuple[Path, bool]:
    """The main file, and whether somebody named it (then it must exist)."""
    named = given or os.environ.get("CHARGEHAND_CONFIG")
    return (Path(named), True) if named else (DEFAULT, False)


def drop_in_directory(main: Path) -> Path:
    """`conf.d` belongs to chargehand.toml; any other NAME.toml has NAME.d beside it."""
    return main.parent / ("conf.d" if main.name == DEFAULT.name else f"{main.stem}.d")


def merge(given: str | Path | None) -> Merged:
    """Read the main file and its drop-ins, in name order. Raises `ConfigError` when one cannot be read at all."""
    main, named = config_path(given)
    merged = Merged({}, {}, [], [])
    if named and not main.exists():
        raise ConfigError([Problem(main, None, (), "no such file", "", "name a file that exists, or none at all")])
    files = [main] if main.exists() else []
    directory = drop_in_directory(main)
    if directory.is_dir():
        files += sorted(path for path in directory.glob("*.toml") if path.is_file())
    unreadable: list[Problem] = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
            data = tomllib.loads(text)
        except OSError as error:
            unreadable.append(Problem(path, None, (), os.strerror(error.errno or 0), "a file that can be read"))
        except UnicodeDecodeError as error:
            unreadable.append(Problem(path, None, (), f"byte {error.start} is not UTF-8", "UTF-8 text"))
        except tomllib.TOMLDecodeError as error:
            unreadable.append(_syntax(path, str(error)))
        else:
            merged.files.append(path)
            _add(merged, path, data, _lines(text))
    if unreadable:
        raise ConfigError(unreadable)
    return merged


def _syntax(path: Path, message: str) -> Problem:
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    line = int(found[1]) if found else None
    text = message[: found.start()] + f" (column {found[2]})" if found else message
    return Problem(path, line, (), text, "TOML")


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _add(merged: Merged, path: Path, data: dict[str, Any], lines: dict[KeyPath, int]) -> None:
    for key, value in data.items():
        if key in _NAMED and isinstance(value, list) and all(isinstance(item, dict) for item in value):
            _add_named(merged, path, key, value, lines)
        else:
            _put(merged, path, merged.data, (key,), value, lines, (key,))


def _add_named(merged: Merged, path: Path, key: str, items: list[dict[str, Any]], lines: dict[KeyPath, int]) -> None:
    known = merged.data.setdefault(key, {})
    seen: dict[str, int | None] = {}
    for index, item in enumerate(items):
        at: KeyPath = (key, str(index))
        line = lines.get(at)
        name = item.get("name")
        if not isinstance(name, str):
            found = "no name" if name is None else f"name = {name!r}"
            merged.problems.append(Problem(path, line, (key, "name"), found, "a name, as a string"))
            continue
        if name in seen:
            first = f"line {seen[name]}" if seen[name] else "above"
            merged.problems.append(
                Problem(
                    path, line, (key, name), f"a second {key} of this name (the first: {first})", "names that differ"
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
    line = next((lines[at[:end]] for end in range(len(at), 0, -1) if at[:end] in lines), None)
    merged.origins[key] = (path, line)
    if isinstance(value, dict) and isinstance(into.get(last, {}), dict) and last != "queues":
        table = into.setdefault(last, {})
        for inner, content in value.items():
            _put(merged, path, table, (*key, inner), content, lines, (*at, inner))
    else:
        into[last] = value


def _lines(text: str) -> dict[KeyPath, int]:
    """Where tables and keys stand. A simple scan: a key inside a multi-line value has its table's line."""
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            parts = tuple(part.strip("\"'") for part in _PART.findall(header[2]))
            if header[1] == "[[":
                index = counts.get(parts[0], -1) + 1
                counts[parts[0]] = index
                table = (*parts, str(index))
            elif parts[0] in counts and len(parts) > 1:  # a table of the latest element: [action.retry]
                table = (parts[0], str(counts[parts[0]]), *parts[1:])
            else:
                table = parts
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            parts = tuple(part.strip("\"'") for part in _PART.findall(key[1]))
            for end in range(1, len(parts) + 1):
                found.setdefault((*table, *parts[:end]), number)
    return found
