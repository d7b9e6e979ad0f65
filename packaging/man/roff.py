"""A man page, and a document in Markdown as one.

Of Markdown what the documents of this project use: headings, paragraphs, lists, tables, code, emphasis, links. A
table becomes a list of terms: on a page of 80 columns nothing else can be read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["Page", "from_markdown"]

_MARKDOWN = MarkdownIt("commonmark").enable("table")


class Page:
    """Text goes in as Markdown's inline forms (`**bold**`, `*name*`, `` `code` ``), but for `help` and `code`."""

    def __init__(self, name: str, section: int, version: str, about: str) -> None:
        title = f'.TH "{name.upper()}" "{section}" "" "Chargehand {version}"'
        self._lines = [title, ".nh", ".ad l"]  # words of a configuration are not to be hyphenated or spread
        self.section("Name")
        self._lines.append(f"{name} \\- {_escaped(about)}")

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def section(self, title: str) -> None:
        """In capitals, as pages have it; but a table of the configuration is written as it is."""
        shown = title if title.startswith("[") else title.upper()
        self._lines.append(f'.SH "{_quoted(shown)}"')

    def subsection(self, title: str) -> None:
        self._lines.append(f'.SS "{_quoted(title)}"')

    def paragraph(self, text: str) -> None:
        self._lines += [".PP", _line(_parsed(text))]

    def item(self, term: str, *meanings: str) -> None:
        """A term and what it means, in paragraphs of their own."""
        self._lines += [".TP", _line(_parsed(term))]
        for number, meaning in enumerate(one for one in meanings if one):
            self._lines += [".IP"] if number else []
            self._lines.append(_line(_parsed(meaning)))

    def bullet(self, text: str, mark: str = "\\(bu") -> None:
        self._lines += [f".IP {mark} 3", _line(_parsed(text))]

    def code(self, text: str) -> None:
        body = [_safe(_escaped(line)) for line in text.rstrip("\n").split("\n")]
        self._lines += [".PP", ".RS 4", ".nf", *body, ".fi", ".RE"]

    def help(self, text: str) -> None:
        """A command's help: paragraphs to be filled, and those after a `\\b` as they stand."""
        for block in re.split(r"\n\s*\n", text.strip()):
            lines = block.split("\n")
            if lines[0].strip() == "\b":
                self.code("\n".join(lines[1:]))
            else:
                self._lines += [".PP", _safe(_escaped(" ".join(line.strip() for line in lines)))]


def from_markdown(page: Page, text: str) -> Page:
    """The document added to the page; its own title gives way to the page's."""
    tokens = _MARKDOWN.parse(text)
    page.section("Description")
    _blocks(page, tokens)
    return page


def _blocks(page: Page, tokens: Sequence[Token]) -> None:
    index = 0
    ordered = [0]
    while index < len(tokens):
        token = tokens[index]
        if token.type == "heading_open" and token.tag != "h1":
            title = _plain(tokens[index + 1])
            (page.section if token.tag == "h2" else page.subsection)(title)
            index += 2
        elif token.type == "heading_open":
            index += 2
        elif token.type == "table_open":
            index = _table(page, tokens, index)
        elif token.type in {"fence", "code_block"}:
            page.code(token.content)
        elif token.type == "ordered_list_open":
            ordered.append(1)
        elif token.type == "bullet_list_open":
            ordered.append(0)
        elif token.type in {"ordered_list_close", "bullet_list_close"}:
            ordered.pop()
        elif token.type == "inline":
            _text(page, token, ordered, in_list=len(ordered) > 1)
        elif token.type not in _SILENT:
            raise ValueError(f"line {(token.map or [0])[0] + 1}: no man page knows {token.type!r}: teach it here")
        index += 1


_SILENT = {"heading_close", "paragraph_open", "paragraph_close", "list_item_open", "list_item_close"}


def _text(page: Page, token: Token, ordered: list[int], *, in_list: bool) -> None:
    if not in_list:
        page.paragraph(token.content)
    elif ordered[-1]:
        page.bullet(token.content, f"{ordered[-1]}.")
        ordered[-1] += 1
    else:
        page.bullet(token.content)


def _table(page: Page, tokens: Sequence[Token], index: int) -> int:
    """Returns where it ends."""
    rows: list[list[str]] = []
    while tokens[index].type != "table_close":
        if tokens[index].type == "tr_open":
            rows.append([])
        elif tokens[index].type == "inline":
            rows[-1].append(tokens[index].content)
        index += 1
    header, *items = rows
    for cells in items:
        if header[1:3] == ["type", "default"]:
            fallback = "required" if cells[2] == "required" else f"default: {cells[2]}"
            page.item(f"**{cells[0]}** ({cells[1]}, {fallback})", *cells[3:])
        elif len(cells) == 2:
            page.item(cells[0] or "**-**", cells[1])
        else:
            named = zip(header[1:], cells[1:], strict=True)
            page.item(cells[0], *(f"*{title}:* {cell}" if title and cell else cell for title, cell in named))
    return index


# -- inline ---------------------------------------------------------------------------------------

#: What a link to another document is on a page.
_PAGES = {
    "agent.md": "chargehand.service(8)",
    "cli.md": "chargehand(1)",
    "configuration.md": "chargehand.toml(5)",
}
_FONTS = {"strong_open": "B", "em_open": "I", "code_inline": "B"}
_CHARACTERS = {"\\": "\\e", "-": "\\-", "`": "\\(ga", "'": "\\(aq", "^": "\\(ha", "~": "\\(ti", "…": "..."}


def _parsed(text: str) -> Token:
    (token,) = _MARKDOWN.parseInline(text)
    return token


def _line(token: Token) -> str:
    """One line of roff; it fills it by itself."""
    fonts = ["R"]
    parts: list[str] = []
    instead = ""
    for child in token.children or []:
        if child.type in {"link_open", "link_close"}:
            instead = _PAGES.get(str(child.attrGet("href") or "").partition("#")[0], "")
            parts.append(_escaped(instead))
        elif instead:
            continue
        if child.type in _FONTS:
            fonts.append(_FONTS[child.type])
            parts.append(f"\\f{fonts[-1]}")
        if child.type in {"text", "code_inline"}:
            parts.append(_escaped(child.content))
        elif child.type in {"softbreak", "hardbreak"}:
            parts.append(" ")
        if child.type in {"strong_close", "em_close", "code_inline"}:
            fonts.pop()
            parts.append(f"\\f{fonts[-1]}")
    return _safe("".join(parts)) or "\\&"


def _plain(token: Token) -> str:
    return "".join(child.content for child in token.children or [])


def _escaped(text: str) -> str:
    return "".join(_CHARACTERS.get(letter, letter) for letter in text)


def _safe(line: str) -> str:
    """A line that begins with a point or a quote would be a request."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', "\\(dq")
