"""What stands in an executor's keys that should not, or not so long: read in a few round trips, for `doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from chargehand.decoding import decoder
from chargehand.plan.life import PlanState
from chargehand.store.census import Census
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.profile import Profile, read_profiles

__all__ = ["Checkup", "check_up"]

_LOOKED_AT = 50  # plans whose queues are looked at: the oldest that run
_NAMED = 5  # of those that are only named


class Checkup(Struct):
    profiles: dict[str, Profile]  # by incarnation
    format: int  # the highest that was ever written here
    strange: int  # events that could not be read
    strange_last: str  # one of them
    paused: list[tuple[str, int]]  # the plans that have been so the longest, and since when (ms of Redis' TIME)
    paused_long: int  # plans paused for longer than asked
    depths: dict[str, int]  # queue -> steps that stand in it
    wanted: dict[str, list[str]]  # queue -> plans that run and name it


class _Shape(Struct):
    """Of a definition: which queues its steps stand in."""

    policies: list[list[Any]]
    steps: list[list[Any]] = []

    @property
    def queues(self) -> set[str]:
        nodes = {f"@{step[3]}" for step in self.steps if len(step) > 3 and step[3]}
        return nodes | {policy[1] if len(policy) > 1 else "default" for policy in self.policies}


_shape_decoder = decoder(_Shape)


def check_up(line: Line, keys: Keys, census: Census, queues: Iterable[str], *, long_ms: int) -> Checkup:
    """`queues`: further ones to look at. `long_ms`: paused plans are counted from so long on. Raises as the line."""
    running, paused = keys.index(chr(PlanState.RUNNING)), keys.index(chr(PlanState.PAUSED))
    written, strange, last, plans, oldest, long = line.batch(
        [
            ("HGET", keys.head, "format"),
            ("LLEN", keys.strange),
            ("LINDEX", keys.strange, -1),
            ("ZRANGE", running, 0, _LOOKED_AT - 1),
            ("ZRANGE", paused, 0, _NAMED - 1, "WITHSCORES"),
            ("ZCOUNT", paused, "-inf", census.now_ms - long_ms),
        ]
    )
    profiles = read_profiles(line, keys, [one.incarnation for one in census.members])
    wanted: dict[str, list[str]] = {}
    definitions = line.batch([("LINDEX", keys.plan(plan.decode()), 0) for plan in plans])
    for plan, definition in zip(plans, definitions, strict=True):
        with suppress(msgspec.MsgspecError):
            for queue in _shape_decoder.decode(definition or b"").queues:
                wanted.setdefault(queue, []).append(plan.decode())
    registered = {code.queue for one in profiles.values() for code in one.actions.values()}
    names = sorted({*queues, *census.queues, *wanted, *registered})
    depths = line.batch([("LLEN", key(name)) for name in names for key in (keys.queue, keys.alone)])
    return Checkup(
        profiles=profiles,
        format=int(written or 1),
        strange=strange,
        strange_last=(last or b"").decode(errors="replace")[:200],
        paused=[(oldest[at].decode(), int(float(oldest[at + 1]))) for at in range(0, len(oldest), 2)],
        paused_long=long,
        depths={name: sum(depths[2 * at : 2 * at + 2]) for at, name in enumerate(names)},
        wanted={queue: found[:_NAMED] for queue, found in wanted.items()},
    )
