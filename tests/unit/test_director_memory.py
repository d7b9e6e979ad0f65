"""What the director keeps in memory, and what it lets go."""

from __future__ import annotations

from chargehand.plan.life import PlanState
from support.examples import plan
from support.world import World


def test_what_was_used_least_lately_goes_first() -> None:
    world = World(cache=8_000)  # two plans
    for name in ("a", "b", "c"):
        world.submit(name, plan())
        world.settle()
    assert list(world.director.plans) == ["b", "c"]
    world.submit("d", plan())
    world.settle()
    assert list(world.director.plans) == ["c", "d"]


def test_one_that_is_larger_than_all_that_is_kept_stays_while_it_is_worked_on() -> None:
    """Else it would be read again for each of its results."""
    world = World(cache=1)
    world.submit("large", plan(*([] for _ in range(1_000))))
    world.settle()
    assert list(world.director.plans) == ["large"]
    keys = world.hold()
    for key in keys[:3]:
        world.finish("w", key)
        world.settle()
        assert list(world.director.plans) == ["large"]
    world.submit("another", plan())
    world.settle()
    assert list(world.director.plans) == ["another"]
    for key in keys[3:]:
        world.finish("w", key)
    world.settle()
    assert world.plan("large") is PlanState.SUCCEEDED
