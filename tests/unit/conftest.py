from __future__ import annotations

import pytest

from support.world import World


@pytest.fixture(params=["remembers", "forgets"])
def world(request: pytest.FixtureRequest) -> World:
    """What Redis would hold, and a director: one that remembers, or one that is replaced after each turn."""
    return World(forgetful=request.param == "forgets")
