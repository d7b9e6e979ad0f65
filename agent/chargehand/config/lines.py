"""Where each key of a TOML document stands. tomllib tells values only, and an error wants a line.

For documents that tomllib has read: nothing is validated here, so this is only as much of a parser as it
takes to skip values rightly.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left

from chargehand.config.problems import KeyPath

__all__ = ["locate"]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BETWEEN = re.compile(r"(?:[ \t\n,]|#[^\n]*)*")  # elements
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]*")
_STRING = re.compile(
    r"""
      ""\"(?: [^\\"] | \\. | "{1,2}(?!") )* "{3,5}
    | '''(?: [^'] | '{1,2}(?!') )* '{3,5}
    | "(?: [^"\\] | \\. )*"
    | '[^']*'
    """,
    re.DOTALL | re.VERBOSE,
)


def locate(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every table, key and element; of one that is named twice (a table), the first.

    An element of a list is named by its index: `("worker", "0", "queues", "1")`.
    """
    scan = _Scan(text.replace("\r\n", "\n"))
    scan.document()
    return scan.found


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [at for at, letter in enumerate(text) if letter == "\n"]
        self._counts: dict[KeyPath, int] = {}  # arrays of tables: how many so far
        self.found: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        line = self._line()
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        parts = self._key()
        self._at += brackets
        table: KeyPath = ()
        for index, part in enumerate(parts, 1):
            table += (part,)
            if brackets == 2 and index == len(parts):
                self._counts[table] = self._counts.get(table, 0) + 1
            self.found.setdefault(table, line)
            if table in self._counts:  # what follows belongs to the latest element
                table += (str(self._counts[table] - 1),)
                self.found.setdefault(table, line)
        return table

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        parts = self._key()
        self._at += 1  # the =
        self._skip(_SPACE)
        for end in range(1, len(parts) + 1):
            self.found.setdefault(table + parts[:end], line)
        self._value(table + parts)

    def _key(self) -> KeyPath:
        parts: KeyPath = ()
        while True:
            self._skip(_SPACE)
            if self._text[self._at] in "\"'":
                quoted = self._skip(_STRING)
                parts += (tomllib.loads(f"key = {quoted}")["key"] if "\\" in quoted else quoted[1:-1],)
            else:
                parts += (self._skip(_BARE),)
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        letter = self._text[self._at]
        if letter in "\"'":
            self._skip(_STRING)
        elif letter == "[":
            self._at += 1
            index = 0
            while self._more("]"):
                element = (*path, str(index))
                self.found.setdefault(element, self._line())
                self._value(element)
                index += 1
        elif letter == "{":
            self._at += 1
            while self._more("}"):
                self._pair(path)
        else:
            self._skip(_SCALAR)

    def _more(self, end: str) -> bool:
        self._skip(_BETWEEN)
        if self._text[self._at] != end:
            return True
        self._at += 1
        return False

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None, "tomllib has read this document"
        self._at = found.end()
        return found[0]

    def _line(self) -> int:
        return bisect_left(self._ends, self._at) + 1
