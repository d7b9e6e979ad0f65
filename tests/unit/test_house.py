"""Imports point down, as docs/design.md says of the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import chargehand

ROOT = Path(chargehand.__file__).parent
PROGRAMS = {"supervisor", "orchestrator", "worker"}
ABOVE_ALL = {"cli", "console", "demo", "doctor", "testing", "__main__"}  # commands, pages, and what authors test with
GROUND = {"config", "decoding", "linux", "link", "notify", "wire"}
BELOW = {
    **dict.fromkeys(GROUND, GROUND),
    "plan": GROUND,
    "store": GROUND | {"plan"},
    # It starts fast and stays small: it knows neither Redis nor anybody's actions.
    "supervisor": GROUND | {"greeting", "program", "__version__"},
}


def modules() -> dict[str, list[Path]]:
    """The files of each folder and of each module beside the folders."""
    found: dict[str, list[Path]] = {}
    for file in ROOT.rglob("*.py"):
        found.setdefault(file.relative_to(ROOT).parts[0].removesuffix(".py"), []).append(file)
    return found


def imported(file: Path) -> Iterator[str]:
    """Whole names of modules, wherever in the file they are imported."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module: str) -> set[str]:
    """What a folder or module imports of the house, besides itself."""
    names = (name.split(".") for file in modules()[module] for name in imported(file))
    return {parts[1] for parts in names if parts[0] == "chargehand" and len(parts) > 1} - {module}


@pytest.mark.parametrize("module", sorted(BELOW))
def test_what_is_below_knows_nothing_of_what_is_above(module: str) -> None:
    assert ours(module) <= BELOW[module]


@pytest.mark.parametrize("module", sorted(set(modules()) - ABOVE_ALL - PROGRAMS))
def test_nothing_below_imports_a_program_or_a_command(module: str) -> None:
    assert not ours(module) & (PROGRAMS | ABOVE_ALL)


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_programs_do_not_import_each_other(program: str) -> None:
    assert not ours(program) & (PROGRAMS | ABOVE_ALL)


def test_only_the_store_speaks_redis() -> None:
    speakers = {
        module
        for module, files in modules().items()
        if any(name.split(".")[0] in {"redis", "hiredis"} for file in files for name in imported(file))
    }
    assert speakers == {"store"}
