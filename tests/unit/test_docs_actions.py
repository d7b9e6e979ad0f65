"""The examples of docs/actions.md: planned, and run in the in-process executor."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from chargehand import Plan
from chargehand.actions import Action, registered
from chargehand.testing import Executor
from support.documents import DOCS, blocks, run

ACTIONS = DOCS / "actions.md"

#: Inputs for the planning actions that docs/actions.md defines, and what each of their steps waits for.
PLANNED: dict[str, tuple[dict[str, Any], list[list[tuple[int, int] | int]]]] = {
    "backup_all": ({"hosts": ["a", "b", "c"]}, [[], [], [], [(0, 3)]]),
    "rolling": ({"packages": ["x", "y"]}, [[], [0], [0], [(1, 3)]]),
    "nightly": ({}, []),
    "upgrade_database": ({"version": "8"}, [[]]),
    "Deploy": ({"sites": ["a", "b"]}, [[], [0], [(0, 2)], [2]]),
    "reboot_all": ({"nodes": ["a", "b"]}, [[], [0]]),
}

#: Inputs for the actions that run, and their output in the in-process executor.
RUN: dict[str, tuple[dict[str, Any], Any]] = {
    "greet": ({"name": "Ada"}, "good morning, Ada"),
    "probe": ({"host": {"name": "a"}, "protocol": "https"}, "https://a:22"),
    "patch-host": ({"host": "a", "packages": ["x"]}, {"x": "updated"}),
    "copy": ({"files": ["a", "b"]}, 2),
    "ping": ({"url": "x"}, "x seen from node-a"),
    "backup": ({"host": "abc"}, {"bytes": 3}),
    "report": ({"sizes": [1, 2], "label": "x"}, "x: 3 bytes"),
    "stop": ({"service": "x"}, None),
    "upgrade": ({"package": "x"}, None),
    "start": ({"service": "x"}, None),
    "alert": ({"plan": "p", "state": "paused", "channel": "x"}, "x: plan p is paused"),
    "migrate": ({"version": "8"}, "8"),
    "convert": ({"video": "v"}, "v converted"),
    "patch_host": ({"host": "a"}, "a patched"),
    "call_api": ({"customer": 3}, 3),
    "rotate_keys": ({}, "rotated"),
    "install": ({"package": "x"}, "x"),
    "lend": ({"book": "x"}, "x lent"),
    "approve": ({"book": "x"}, False),
}


@pytest.fixture
def examples() -> list[types.ModuleType]:
    """Every Python block of the page, each as a module of its own."""
    modules = []
    for number, code in enumerate(blocks(ACTIONS, "python")):
        modules.append(types.ModuleType(f"documented_{number}"))
        run(code, ACTIONS, modules[-1])
    return modules


@pytest.mark.usefixtures("examples")
def test_every_planning_example_makes_the_graph_that_the_page_describes() -> None:
    assert {name for name, one in documented().items() if one.plans} == set(PLANNED), "give each its inputs here"
    for name, (inputs, after) in PLANNED.items():
        plan = Plan(name)
        plan.add(registered[name], **inputs)
        assert [step.after for step in plan.definition().steps] == after, name


def documented() -> dict[str, Action[..., Any]]:
    return {name: one for name, one in registered.items() if one.function.__module__.startswith("documented")}


@pytest.mark.usefixtures("examples")
def test_every_example_is_run() -> None:
    """Two by tests of their own; one would reboot this machine."""
    runs = {name for name, one in documented().items() if not one.plans}
    assert runs == {*RUN, "PatchFleet", "reboot"}, "give each action of docs/actions.md its inputs here"


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("name", RUN)
def test_an_example_gives_what_it_should(name: str) -> None:
    inputs, output = RUN[name]
    assert Executor(instead={"reboot": None}).run(name, **inputs).result() == output


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("name", sorted(set(PLANNED) - {"Deploy"}))
def test_a_planning_example_succeeds(name: str) -> None:
    done = Executor(instead={"reboot": {"rebooted": True}}).run(name, **PLANNED[name][0])
    assert (done.state, done.error) == ("succeeded", "")


@pytest.mark.usefixtures("examples")
def test_the_example_with_hooks_tells_of_its_end() -> None:
    executor = Executor()
    executor.run("upgrade_database", version="8")
    assert [one.output for one in executor.executions("alert")] == ["mail: plan p1 is succeeded"]


@pytest.mark.usefixtures("examples")
def test_the_example_with_phases() -> None:
    executor = Executor()
    approved, late, withdrawn = (executor.submit("Deploy", sites=["a"]) for _ in range(3))
    executor.send(approved, "approved", "ada")
    assert approved.result() == "a: a-7"
    executor.cancel(withdrawn)
    assert (withdrawn.state, withdrawn.said) == ("cancelled", ["deploying a", "a-7 withdrawn"])
    executor.finish()
    assert (late.state, late.error) == ("reverted", "TimeoutError: nobody has approved it")

    two = executor.submit("Deploy", sites=["a", "b"])
    executor.send(two, "approved", "ada")
    executor.finish()
    assert (two.state, two.said[-1]) == ("reverted", "a as it was")


@pytest.mark.usefixtures("examples")
def test_the_example_of_many_hosts(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts"
    inventory.write_text("".join(f"{'old' if number == 7 else 'host'}{number}\n" for number in range(300)))
    done = Executor().run("PatchFleet", inventory=str(inventory))
    assert done.result() == {"patched": 299, "failed": ["ValueError: old7 is too old"]}
    assert len(done.children) == 300


def test_the_tests_of_the_page_pass(examples: list[types.ModuleType]) -> None:
    tests = [code for module in examples for name, code in vars(module).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


@pytest.mark.usefixtures("examples")
def test_an_aimed_step_stands_where_the_page_says() -> None:
    plan = Plan("rolling")
    plan.add(registered["rolling"], packages=["x"])
    assert [step.node for step in plan.definition().steps] == [None, None, "node-b"]
