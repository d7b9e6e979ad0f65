"""What is wrong with a configuration, for the person who wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["ConfigError", "KeyPath", "Problem"]

KeyPath = tuple[str, ...]


class Problem(NamedTuple):
    file: Path | None
    line: int | None
    key: KeyPath  # ("worker", "hosts", "threads")
    found: str
    expected: str
    advice: str = ""

    @property
    def place(self) -> str:
        where = str(self.file) if self.file is not None else "configuration"
        return f"{where}:{self.line}" if self.line else where

    @property
    def name(self) -> str:
        """The key as a person would point at it: `worker "hosts": threads`."""
        if len(self.key) > 1 and self.key[0] in {"worker", "action"}:
            rest = ".".join(self.key[2:])
            return f'{self.key[0]} "{self.key[1]}"' + (f": {rest}" if rest else "")
        return ".".join(self.key)

    def __str__(self) -> str:
        parts = [self.place]
        if self.key:
            parts.append(self.name)
        text = ": ".join([*parts, self.found])
        if self.expected:
            text += f"; expected {self.expected}"
        return f"{text} ({self.advice})" if self.advice else text


class ConfigError(Exception):
    """The configuration is refused. `str()` is a line a problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)
