"""What the unit tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chargehand.actions import registered
from support.world import World


@pytest.fixture(autouse=True)
def _no_action_is_left() -> Iterator[None]:
    """Actions that a test declares are gone after it."""
    before = dict(registered)
    yield
    registered.clear()
    registered.update(before)


@pytest.fixture(params=["remembers", "forgets"])
def world(request: pytest.FixtureRequest) -> World:
    """What Redis would hold, and a director: one that remembers, or one that is replaced after each turn."""
    return World(forgetful=request.param == "forgets")
