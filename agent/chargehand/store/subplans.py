"""The sub-plans of a step as people and programs read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from chargehand.decoding import decode
from chargehand.plan.asking import word
from chargehand.plan.life import PlanState
from chargehand.plan.run import More, StepRecord
from chargehand.store.children import child_ends, child_states, read_spawned
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.plans import PlanView, read_heads
from chargehand.wire import child_id, spawned_field

__all__ = ["ChildrenView", "read_children"]

_PAGE = 500  # states read at once


class ChildrenView(Struct):
    """Of all the items that a step started sub-plans for: how the latest sub-plan of each is."""

    plan: str
    step: int
    total: int
    counts: dict[str, int]  # state -> how many
    plans: list[PlanView]  # some of them, by number


def read_children(
    line: Line, keys: Keys, plan: str, step: int, *, state: str | None, first: int, most: int
) -> ChildrenView:
    """`plans` are those in this state, the first `first` of them left out, at most `most`."""
    record, left = line.batch([("HGET", keys.records(plan), step), ("HGET", keys.outputs(plan), spawned_field(step))])
    more = (decode(record, StepRecord).more if record else None) or More()
    # A step that starts sub-plans leaves its note when all are submitted.
    spawned = read_spawned(left)
    end = max(more.end, spawned.end if spawned is not None else 0)
    found = _latest(line, keys, plan, step, end, more)
    chosen = [(child, now) for child, now in found if state in {None, word(now)}][first : first + most]
    counts = Counter(word(now) for _, now in found)
    return ChildrenView(plan, step, len(found), dict(counts), _views(line, keys, chosen))


def _views(line: Line, keys: Keys, children: Sequence[tuple[str, PlanState | None]]) -> list[PlanView]:
    """Without their steps, but with the error of the first that failed."""
    ends = child_ends(line, keys, [(child, state) for child, state in children if state is not None])
    errors = {end.plan: end.error for end in ends}
    views = read_heads(line, keys, [child for child, _ in children])
    for view in views:
        view.error = view.error or errors.get(view.plan)
    return views


def _latest(line: Line, keys: Keys, plan: str, step: int, end: int, more: More) -> list[tuple[str, PlanState | None]]:
    """A number's sub-plan of the latest generation that it was started in."""
    found: list[tuple[str, PlanState | None]] = [("", None)] * end
    left: Sequence[int] = range(end)
    for generation in range(more.generation, -1, -1):
        missing = []
        for at in range(0, len(left), _PAGE):
            some = left[at : at + _PAGE]
            children = [child_id(plan, step, number, generation) for number in some]
            there = line.batch([("EXISTS", keys.plan(child)) for child in children])
            for number, child, exists, state in zip(
                some, children, there, child_states(line, keys, children), strict=True
            ):
                if exists:
                    found[number] = (child, state)
                else:
                    missing.append(number)
        left = missing
    return [one for one in found if one[0]]
