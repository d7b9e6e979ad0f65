"""The documents of this project: their examples, links and headings."""

from __future__ import annotations

import re
import sys
import textwrap
import types
from functools import cache
from pathlib import Path

__all__ = ["DOCS", "ROOT", "anchors", "blocks", "code_spans", "links", "read", "run", "shown"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@cache
def read(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def blocks(document: Path, language: str) -> list[str]:
    """The code of each example, in order."""
    return [textwrap.dedent(code) for _, word, code in _BLOCK.findall(read(document)) if word == language]


def shown(document: Path) -> list[str]:
    """What is typed and what it answers: the examples of a shell, and those of no language."""
    return [code for language in ("console", "") for code in blocks(document, language)]


def code_spans(document: Path) -> list[str]:
    """What stands between backticks in its text."""
    return re.findall(r"`([^`\n]+)`", _BLOCK.sub("", read(document)))


def links(document: Path) -> list[str]:
    """Where its text leads to, but for other sites."""
    found = re.findall(r"\]\(([^)\s]+)[^)]*\)", _BLOCK.sub("", read(document)))
    return [target for target in found if not target.startswith("http")]


@cache
def anchors(document: Path) -> set[str]:
    """Of its headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", read(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(code: str, document: Path, module: types.ModuleType) -> None:
    """Run an example as part of this module."""
    sys.modules[module.__name__] = module  # where its annotations are looked up
    try:
        exec(compile(code, str(document), "exec", dont_inherit=True), module.__dict__)
    finally:
        del sys.modules[module.__name__]
