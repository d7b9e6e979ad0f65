"""What is wrong with a configuration, for the person who wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["NAMED", "ConfigError", "KeyPath", "Problem", "absolute", "masked", "problem", "shown"]

KeyPath = tuple[str, ...]

#: Arrays of tables whose items have a name: they merge by it, and stand in a key path with it.
NAMED = ("executors", "worker", "queue", "action", "child")

#: Where people put a password by mistake, in place of the path of its file: never repeated.
_UNSHOWN = ("password_file", "sentinel_password_file")
_CONNECTIONS = ("redis", "executors")
_ENVIRONMENTS = (("orchestrator", "env"), ("console", "env"))  # those of named items have their name between
_KINDS = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "a list", dict: "a table"}
_MOST = 60  # characters of a value in a message


class Problem(NamedTuple):
    file: Path | None
    line: int | None
    key: KeyPath  # ("worker", "hosts", "threads")
    found: str
    expected: str
    advice: str = ""
    meant: KeyPath = ()  # of an unknown key: the key that it probably is

    @property
    def place(self) -> str:
        where = str(self.file) if self.file is not None else "configuration"
        return f"{where}:{self.line}" if self.line else where

    @property
    def name(self) -> str:
        """The key as a person would point at it: `worker "hosts": threads`."""
        if len(self.key) > 1 and self.key[0] in NAMED:
            rest = ".".join(self.key[2:])
            return f'{self.key[0]} "{self.key[1]}"' + (f": {rest}" if rest else "")
        return ".".join(self.key)

    def __str__(self) -> str:
        """One line, whatever the file holds."""
        parts = [self.place]
        if self.key:
            parts.append(self.name)
        text = ": ".join([*parts, self.found])
        if self.expected:
            text += f"; expected {self.expected}"
        if self.advice:
            text += f" ({self.advice})"
        return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class ConfigError(Exception):
    """The configuration is refused. `str()` is a line a problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


def problem(*key: str, found: str, expected: str, advice: str = "") -> Problem:
    """One whose place in the files is still to be looked up."""
    return Problem(None, None, key, found, expected, advice)


def absolute(*key: str, value: str) -> Iterator[Problem]:
    """A path must not depend on where a process happens to stand."""
    if not value.startswith("/") or "\0" in value:
        yield problem(*key, found=f"found {shown(key, value)}", expected="an absolute path")


def shown(key: KeyPath, value: Any) -> str:
    """A value for a message: with its type, cut, and without what may be a secret."""
    kind = _KINDS.get(type(value), "a date or time")
    if key[-1] in _UNSHOWN or key[2:3] == ("env",) or key[:2] in _ENVIRONMENTS:
        return f"{kind} (not shown)"
    if isinstance(value, list | dict):
        return kind if key[0] in _CONNECTIONS else f"{kind} of {len(value)}"
    if isinstance(value, str):
        text = f'"{masked(value) if key[0] in _CONNECTIONS or "://" in value else value}"'
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{text if len(text) <= _MOST else text[: _MOST - 3] + '...'} ({kind})"


def masked(url: str) -> str:
    """A URL without anything that could be a password, however wrongly it is written."""
    before, at, rest = url.rpartition("@")
    address, query, _ = rest.partition("?")
    scheme, colon, _ = before.partition("://")
    return f"{scheme if colon else ''}{colon}{'***@' if at else ''}{address}{'?***' if query else ''}"
