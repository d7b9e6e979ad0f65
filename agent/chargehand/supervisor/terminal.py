"""Output in a terminal: a colour a child."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

__all__ = ["Terminal"]

_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_red", "bright_cyan", "bright_green")


class Terminal:
    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._styles: dict[str, str] = {"agent": "bold"}

    def show(self, name: str, text: str) -> None:
        style = self._styles.setdefault(name, _COLOURS[(len(self._styles) - 1) % len(_COLOURS)])
        self._console.print(Text.assemble((f"{name:<14} ", style), text))
