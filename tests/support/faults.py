"""What every test of faults asks in the end: did each step count once, and is nothing left lying about?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from chargehand.client import Client
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from support.programs import until, written

__all__ = ["chains", "counted_once", "lines_of", "nothing_left", "owned"]


def chains(client: Client, lines: Path, plans: int, length: int, *, seconds: float = 0.0) -> list[str]:
    """Submit plans of `length` steps one after another; each step notes `PLAN/STEP` when it starts."""
    made = []
    for number in range(plans):
        plan = client.plan(f"chain {number}")
        with plan.sequence():
            for step in range(length):
                plan.add("note", path=str(lines), text=f"{number}/{step}", seconds=seconds)
        made.append(plan)
    return client.submit_all(made)


def lines_of(path: Path) -> Counter[str]:
    """What has run, and how often."""
    return Counter(written(path))


def owned(line: Line, keys: Keys) -> dict[str, int]:
    """Steps that workers own in Redis, by the key of their owner."""
    found = [key.decode() for key in line.call("KEYS", keys.own("*").replace("{", "\\{"))]
    return {key: line.call("HLEN", key) for key in found}


def counted_once(line: Line, keys: Keys, plans: Iterable[str]) -> None:
    """Every plan succeeded, with each of its steps, and with one result a step."""
    for plan in plans:
        states = line.call("GET", keys.states(plan))
        assert states is not None, f"plan {plan} is not there"
        assert states == b"S" + b"s" * (len(states) - 1), (plan, states)
        outputs = {int(step) for step in line.call("HKEYS", keys.outputs(plan))}
        assert outputs == set(range(len(states) - 1)), plan


def nothing_left(line: Line, keys: Keys, *, queue: str = "default") -> None:
    """The inbox is dealt with, nobody owns a step, nothing is queued, no plan is open."""
    until("the inbox is empty", lambda: line.call("XLEN", keys.inbox) == 0)
    until("no step is owned", lambda: not owned(line, keys))
    assert line.call("LLEN", keys.queue(queue)) == 0
    assert line.call("LLEN", keys.alone(queue)) == 0
    assert line.call("HLEN", keys.pending) == 0
    assert line.call("ZCARD", keys.index("R")) == 0
    assert line.call("LLEN", keys.strange) == 0
