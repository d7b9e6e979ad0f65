"""The examples of the documents are planned as an executor would get them; no server is needed for that."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chargehand import Plan
from chargehand.actions import registered
from chargehand.plan.run import PlanRun
from chargehand.wire import Definition, Submitted, decode, decode_event

ROOT = Path(__file__).parents[2]
ACTIONS = (ROOT / "docs/actions.md").read_text(encoding="utf-8")
WIRE = (ROOT / "docs/wire-format.md").read_text(encoding="utf-8")

#: Inputs for the planning actions that docs/actions.md defines, and what each of their steps waits for.
PLANNED: dict[str, tuple[dict[str, Any], list[list[tuple[int, int] | int]]]] = {
    "backup_all": ({"hosts": ["a", "b", "c"]}, [[], [], [], [(0, 3)]]),
    "rolling": ({"packages": ["x", "y"]}, [[], [0], [0], [(1, 3)]]),
    "nightly": ({}, []),
}


@pytest.fixture
def examples() -> Iterator[None]:
    """Every Python block of the page, each as a module of its own."""
    before = dict(registered)
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", ACTIONS, re.MULTILINE | re.DOTALL)):
        name = f"documented_{number}"
        module = types.ModuleType(name)
        sys.modules[name] = module
        try:
            exec(compile(code, "docs/actions.md", "exec", dont_inherit=True), module.__dict__)
        finally:
            del sys.modules[name]
    yield
    registered.clear()
    registered.update(before)


@pytest.mark.usefixtures("examples")
def test_every_planning_example_makes_the_graph_that_the_page_describes() -> None:
    found = {name for name, one in registered.items() if one.plans and one.function.__module__.startswith("documented")}
    assert found == set(PLANNED), "give each planning action of docs/actions.md its inputs here"
    for name, (inputs, after) in PLANNED.items():
        plan = Plan(name)
        plan.add(registered[name], **inputs)
        assert [step.after for step in plan.definition().steps] == after, name


@pytest.mark.usefixtures("examples")
def test_an_aimed_step_stands_where_the_page_says() -> None:
    plan = Plan("rolling")
    plan.add(registered["rolling"], packages=["x"])
    assert [step.node for step in plan.definition().steps] == [None, None, "node-b"]


def submitted(definition: str) -> PlanRun:
    """What the orchestrator makes of it. Raises for one that it would reject."""
    event = decode_event(b'["submit","documented",%s]' % definition.encode())
    assert isinstance(event, Submitted)
    read = decode(event.definition, Definition)
    run = PlanRun(event.plan, read)
    run.extend(read.steps)
    assert run.whole
    return run


@pytest.mark.parametrize(
    "definition",
    [
        *(block for block in re.findall(r"^ *```json\n(.*?)^ *```", WIRE, re.MULTILINE | re.DOTALL)),
        *re.findall(r"^definition='(.*)'$", WIRE, re.MULTILINE),
    ],
)
def test_definitions_written_by_hand_would_be_accepted(definition: str) -> None:
    run = submitted(definition)
    assert list(run.ready) == [0, 1], "the backups at once, the report after both"


def test_both_definitions_of_the_page_are_tested() -> None:
    assert len(re.findall("```json", WIRE)) == 1
    assert len(re.findall("^definition=", WIRE, re.MULTILINE)) == 1


def test_a_definition_that_refers_forward_is_rejected() -> None:
    """As the page says of a step that names a later one."""
    with pytest.raises(ValueError, match="earlier steps only"):
        submitted('{"label":"x","policies":[["backup"]],"total":1,"steps":[[0,{},[3]]]}')
    with pytest.raises(msgspec.ValidationError):
        submitted('{"label":"x","policies":[["backup"]],"steps":[]}')


@pytest.mark.parametrize("document", sorted((ROOT / "packaging").rglob("*.md")), ids=lambda path: path.parent.name)
def test_links_of_the_packaging_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document} links to {target}"
