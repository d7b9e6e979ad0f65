"""What every document says is true: its links lead somewhere, its Python runs, its configurations load."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from chargehand.actions import registered
from chargehand.config.load import load
from support.documents import DOCS, ROOT, anchors, blocks, links, run

DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "tests/README.md"),
    *sorted(DOCS.glob("*.md")),
    *sorted((ROOT / "packaging").rglob("*.md")),
]


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def examples(language: str, *, but: str = "") -> list[object]:
    return [
        pytest.param(document, code, id=f"{name_of(document)}-{number}")
        for document in DOCUMENTS
        if document.name != but
        for number, code in enumerate(blocks(document, language), 1)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    for target in links(document):
        path, _, anchor = target.partition("#")
        page = document.parent / path if path else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target


@pytest.mark.parametrize(("document", "code"), examples("python", but="client.md"))
def test_python_runs(document: Path, code: str) -> None:
    """Each example by itself. Those of docs/client.md need a server: integration/test_docs_client.py."""
    before = dict(registered)
    run(code, document, types.ModuleType("example"))
    for name in registered.keys() - before.keys():
        assert registered[name].parameters is not None, "its signature can be read"


@pytest.mark.parametrize(("document", "code"), examples("toml"))
def test_configurations_load(document: Path, code: str, tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text(code)
    load(path)
