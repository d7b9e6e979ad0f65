"""The share of time that an orchestrator is busy, and when it is said to be too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.orchestrator.load import SATURATED, WINDOW, Load


def after(seconds: float, idle: float, load: Load | None = None, start: float = 0.0) -> Load:
    """Turns of half a second, each idle for this share."""
    load = load or Load(start)
    now = start
    while now < start + seconds:
        now += 0.5
        load.waited(0.5 * idle)
        load.turned(now)
    return load


def test_nothing_is_said_too_soon() -> None:
    assert after(8, idle=0.0).percent is None


@pytest.mark.parametrize(("idle", "percent"), [(1.0, 0), (0.63, 35), (0.0, 100)])
def test_share(idle: float, percent: int) -> None:
    assert after(30, idle).percent == percent


def test_saturated_only_after_a_whole_minute() -> None:
    assert not after(40, idle=0.0).saturated
    load = after(WINDOW + 2, idle=0.1)
    assert load.saturated
    assert not after(20, 1.0, load, start=WINDOW + 2).saturated, "a pause ends it"
    assert not after(300, idle=1 - SATURATED / 100).saturated


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 10)), max_size=60))
def test_never_outside_of_what_a_share_can_be(turns: list[tuple[float, float]]) -> None:
    load, now = Load(0.0), 0.0
    for step, idle in turns:
        now += step
        load.waited(idle)
        load.turned(now)
        assert load.percent is None or 0 <= load.percent <= 100
