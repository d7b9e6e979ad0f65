"""docs/features.md names tests that exist, and pages that say what it says they do."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from support.documents import DOCS, ROOT, anchors, read

PAGE = DOCS / "features.md"


class Row(NamedTuple):
    feature: str
    here: str
    links: list[str]
    tests: list[str]


def rows() -> list[Row]:
    """Of every table of the page; the cells of a row that is not whole are empty."""
    found = []
    for line in read(PAGE).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| ") else []
        if cells and cells[0] not in {"feature", "---"}:
            feature, here, described, tests = (*cells, "", "", "")[:4]
            found.append(Row(feature, here, re.findall(r"\]\((\S+)\)", described), re.findall(r"`(\S+)`", tests)))
    return found


ROWS = rows()


@cache
def functions_of(path: Path) -> set[str]:
    """Its test functions; those of a class as `Class::name`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.update(f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef))
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def test_every_row_is_read() -> None:
    table = [line for line in read(PAGE).splitlines() if line.startswith("|")]
    assert len(ROWS) == len(table) - 2 * table.count("| --- | --- | --- | --- |")
    assert len(ROWS) == len({row.feature for row in ROWS}) > 20, "a feature stands once"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.feature)
def test_row(row: Row) -> None:
    assert row.here
    assert row.links, "described nowhere"
    for link in row.links:
        page, _, anchor = link.partition("#")
        assert anchor in anchors(DOCS / page), link
    real = any(test.startswith("integration/") for test in row.tests)
    assert real or row.feature == "testing actions", "no test against a real server"  # that feature is to have none
    for test in row.tests:
        path, _, name = test.partition("::")
        assert name in functions_of(ROOT / "tests" / path), test
