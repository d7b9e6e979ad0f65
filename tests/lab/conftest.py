"""Real nodes, each with its own systemd; nothing of them is left, whatever happens to a test."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from lab.host import why_not
from lab.node import Node
from lab.session import Lab, LabInUse

_CHECKOUT = Path(__file__).parents[2]
_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """`CHARGEHAND_LAB_TREE` names another checkout to be installed on the nodes than this one."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    try:
        standing = Lab(Path(os.environ.get("CHARGEHAND_LAB_TREE") or _CHECKOUT))
    except LabInUse as error:
        pytest.fail(str(error))
    with standing:
        yield standing


@pytest.fixture
def node(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Callable[..., Node]]:
    """Boot a node with this `chargehand.toml`; it is not yet told to start anything."""
    made: list[Node] = []

    def boot(config: str = "", *, name: str = "node-a") -> Node:
        made.append(lab.node(name))
        if config:
            made[-1].write("/etc/chargehand/chargehand.toml", config, mode=0o640, group="chargehand")
        made[-1].boot()
        return made[-1]

    yield boot
    for one in made:
        if request.node.stash.get(_FAILED, False):
            if one.is_up:
                one.thaw()
            print(one.story())
        lab.discard(one)
