"""What short examples of the director are written with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chargehand.wire import (
    Definition,
    Entry,
    Policy,
    Step,
    child_id,
    read_entry,
)
from support.world import World

__all__ = ["entry", "event", "parent", "plan", "spawn"]


def plan(*steps: Sequence[int | tuple[int, int]] | Step, policy: Policy | None = None, **options: Any) -> Definition:
    """A plan whose steps depend on those named; without any, of one step."""
    made = [step if isinstance(step, Step) else Step(0, after=list(step)) for step in steps or ([],)]
    policies = options.pop("policies", [policy or Policy("work")])
    return Definition(label="work", policies=policies, total=len(made), steps=made, **options)


def entry(world: World, key: str, worker: str = "w") -> Entry:
    return read_entry(world.owned[worker][key])


def event(world: World, key: str) -> str | None:
    """The name of the event with which an attempt goes on."""
    found = entry(world, key).extra.event
    return found[0] if found else None


def parent(world: World, *, children: int, **options: Any) -> str:
    """A plan whose step runs, and has submitted sub-plans; its key."""
    world.submit("p", plan(**options))
    world.settle()
    (key,) = world.hold()
    spawn(world, range(children))
    return key


def spawn(world: World, numbers: range | list[int], generation: int = 0, **options: Any) -> None:
    for number in numbers:
        options.setdefault("policy", Policy("child"))
        world.submit(child_id("p", 0, number, generation), plan(parent=("p", 0), **options))
    world.settle()
