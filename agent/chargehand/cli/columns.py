"""Rows in columns that fit: the least important columns go first, nothing wraps, and ids are never cut.

Pure: the width is an argument. Elsewhere than on a terminal there is none, and all of it is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Cell", "Column", "Said", "arranged", "plain", "print_lines", "terminal_width"]

#: What stands in a column: the text, or the text and its style.
Cell: TypeAlias = str | tuple[str, str]

#: A line: pieces of text, with or without a style.
Said: TypeAlias = Sequence[Cell]

_GAP = 2
_READABLE = 16  # columns: less of a text says too little
_ASCII = str.maketrans(
    {**dict.fromkeys("├┼┤┴╰╯", "+"), "─": "-", "│": "|", "┊": ":", "●": "*", "○": "o", "…": "~", "└": "`"}
)


class Column(NamedTuple):
    title: str
    drop: int = 0  # which go first where there is no room: the highest number; 0: never
    right: bool = False
    cut: bool = False  # what is too long for the line ends with an ellipsis


def plain(text: str) -> str:
    """On one line and without control characters: what came from elsewhere does not steer the terminal."""
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)


def arranged(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None = None) -> list[Said]:
    """The titles and the rows as lines. Columns without any text in them are left out."""
    cells = [[(plain(_text(cell)), _style(cell)) for cell in row] for row in rows]
    needs = [max((_size(row[at][0]) for row in cells), default=0) for at in range(len(columns))]
    sizes = _fit(columns, [need and max(need, len(one.title)) for need, one in zip(needs, columns, strict=True)], width)
    last = max(sizes, default=0)
    lines: list[Said] = []
    for row in ([(column.title, "bold") for column in columns], *cells):
        line: list[Cell] = []
        for at, size in sizes.items():
            text, style = _cut(row[at][0], size), row[at][1]
            pad = " " * (size - _size(text))
            before, after = (pad, "") if columns[at].right else ("", pad)
            line += [before, (text, style), after + " " * _GAP if at != last else ""]
        lines.append(line)
    return lines


def _fit(columns: Sequence[Column], needs: Sequence[int], width: int | None) -> dict[int, int]:
    """Which columns are shown, and how wide. What can be cut is cut to something readable before another one goes."""
    sizes = {at: need for at, need in enumerate(needs) if need}
    if width is None:
        return sizes
    least = {at: min(need, _READABLE) if columns[at].cut else need for at, need in sizes.items()}
    while _total(least) > width and columns[at := max(least, key=lambda at: columns[at].drop)].drop:
        del least[at], sizes[at]
    for at in [at for at in sizes if columns[at].cut]:
        sizes[at] -= max(0, min(sizes[at] - least[at], _total(sizes) - width))
    return sizes


def _total(sizes: Mapping[int, int]) -> int:
    return sum(sizes.values()) + _GAP * (len(sizes) - 1)


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _style(cell: Cell) -> str:
    return "" if isinstance(cell, str) else cell[1]


def _size(text: str) -> int:
    """In columns of the terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, size: int) -> str:
    if _size(text) <= size:
        return text
    from rich.cells import set_cell_size

    return set_cell_size(text, max(0, size - 1)) + "…"


def terminal_width() -> int | None:
    """In columns; None where the output is no terminal."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_lines(lines: Iterable[Said], width: int | None = None) -> None:
    """Each on a line of its own, cut where the terminal ends; with colours where it has some."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    ascii_only = not console.encoding.lower().startswith("utf")
    for line in lines:
        if console.color_system is not None:
            console.print(_styled(line, width))
            continue
        text = "".join(map(_text, line))
        text = text if width is None else _cut(text, width)
        console.file.write(f"{text.translate(_ASCII) if ascii_only else text}".rstrip() + "\n")


def _styled(line: Said, width: int | None) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True)
    for piece in line:
        text.append(_text(piece), _style(piece) or None)
    if width is not None:
        text.truncate(width, overflow="ellipsis")
    text.rstrip()
    return text
