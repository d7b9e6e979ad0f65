"""Real nodes, each with its own systemd; nothing of them is left, whatever happens to a test."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from lab.host import why_not
from lab.image import SUITES
from lab.node import Node
from lab.redis import Redis
from lab.session import Lab, LabInUse

_CHECKOUT = Path(__file__).parents[2]
_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


def _suites() -> list[str]:
    """Those that `CHARGEHAND_LAB_SUITE` names, with commas between; all of them by default."""
    return [name for name in os.environ.get("CHARGEHAND_LAB_SUITE", "").split(",") if name] or list(SUITES)


@pytest.fixture(scope="session", params=_suites())
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """On each suite. `CHARGEHAND_LAB_TREE` names another checkout to be built and installed than this one."""
    if request.param not in SUITES:
        found = f"CHARGEHAND_LAB_SUITE: no suite {request.param!r}; there are {', '.join(SUITES)}"
        pytest.fail(found, pytrace=False)
    reason = why_not()
    if reason:
        pytest.skip(reason)
    try:
        standing = Lab(Path(os.environ.get("CHARGEHAND_LAB_TREE") or _CHECKOUT), SUITES[request.param])
    except LabInUse as error:
        pytest.fail(str(error), pytrace=False)
    with standing:
        if standing.image.why_no_package:
            print(standing.image.why_no_package)
        yield standing


@pytest.fixture
def package(lab: Lab) -> Path:
    """The built package; a test that asks for it is skipped where the nodes cannot have one."""
    if lab.image.package is None:
        pytest.skip(lab.image.why_no_package)
    return lab.image.package


@pytest.fixture
def redis(lab: Lab) -> Iterator[Redis]:
    """One that all nodes reach as `redis` and no node's fault touches; it runs. Ask for it before any node."""
    shared = lab.redis()
    try:
        shared.start()
        yield shared
    finally:
        shared.discard()


@pytest.fixture
def node(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Callable[..., Node]]:
    """Boot a node with this `chargehand.toml`; it is not yet told to start anything.

    `package=False`: one that lacks Chargehand and has all that it requires.
    """
    made: list[Node] = []

    def boot(config: str = "", *, name: str = "node-a", package: bool = True) -> Node:
        made.append(lab.node(name, package=package))
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
