"""What the documents say is true: links lead somewhere, examples run, configurations load."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from chargehand.actions import registered
from chargehand.config.load import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "tests/README.md"]


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        pytest.param(document, code, id=f"{document.name}-{number}")
        for document in DOCUMENTS
        for number, code in enumerate(blocks(document, "python"), 1)
    ],
)
def test_python_examples_run(document: Path, code: str) -> None:
    before = dict(registered)
    module = types.ModuleType("example")
    sys.modules["example"] = module
    try:
        exec(compile(code, document.name, "exec", dont_inherit=True), module.__dict__)
        planners = [name for name in registered if name not in before and registered[name].plans]
        for name in planners:
            assert registered[name].parameters is not None, "its signature can be read"
    finally:
        del sys.modules["example"]
        registered.clear()
        registered.update(before)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=f"{document.name}-{number}")
        for document in DOCUMENTS
        for number, code in enumerate(blocks(document, "toml"), 1)
    ],
)
def test_configurations_load(code: str, tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text(code)
    load(path)


def test_planning_example_makes_the_graph_it_describes() -> None:
    """docs/actions.md: the backups run side by side, the report when all of them are done."""
    from chargehand import Plan, action

    before = dict(registered)
    try:

        @action(name="documented-backup")
        def backup(host: str) -> dict[str, int]:
            return {"bytes": len(host)}

        @action(name="documented-report")
        def report(sizes: list[int], label: str) -> str:
            return f"{label}: {sum(sizes)}"

        plan = Plan("documented")
        backups = [plan.add(backup, host=host) for host in "abc"]
        plan.add(report, sizes=[one["bytes"] for one in backups], label="tonight")
        steps = plan.definition().steps
        assert [step.after for step in steps] == [[], [], [], [(0, 3)]]
    finally:
        registered.clear()
        registered.update(before)
