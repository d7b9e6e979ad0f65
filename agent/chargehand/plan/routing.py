"""Which executor gets the next plan. Pure: time and chance are arguments.

Each executor's active orchestrator says about once a second how busy it is. A plan goes to the less loaded of two
executors that are drawn by their capacity: many clients that all see the same figures then do not all run to the
same one, and what is drawn unluckily is corrected by the figures that follow. In between, a client counts what
it has sent itself. An executor that has not been heard for `STALE` seconds gets nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from random import Random

from msgspec import Struct

__all__ = ["STALE", "Load", "Router", "home_order"]

STALE = 3.0  # seconds: two records in a row are missing, with one second for clocks and the way
SATURATED = 80  # percent of its time that an orchestrator is busy; above it more work only waits for its decisions


class Load(Struct, frozen=True, omit_defaults=True):
    """How busy an executor is."""

    backlog: int  # events in the inbox, and steps on the queues
    busy: int  # steps that workers have taken
    threads: int  # of its workers: what it can run at once
    share: int = 0  # percent of the last minute that its orchestrator was busy
    queues: list[str] = []  # that its workers serve, a node's own (`@NODE`) too
    format: int = 1


class _Heard:
    """The latest that is known of one executor."""

    def __init__(self, load: Load, at_ms: int, boot: float, age: float) -> None:
        self.load = load
        self.at_ms = at_ms
        self._written = boot - age  # on our clock
        self.sent = 0  # steps that we have sent since this record was written

    def age(self, boot: float) -> float:
        return boot - self._written


class Router:
    """What one client knows of its executors. `boot`: seconds on a clock that goes on while the machine sleeps."""

    def __init__(self, names: Sequence[str], chance: Random) -> None:
        self._names = list(names)
        self._chance = chance
        self._heard: dict[str, _Heard] = {}

    def heard(self, name: str, load: Load, *, at_ms: int, now_ms: int, boot: float) -> None:
        """Note a record: written at `at_ms`, read at `now_ms` (both by the executor's Redis), at `boot` for us."""
        known = self._heard.get(name)
        if known is None or known.at_ms != at_ms:
            self._heard[name] = _Heard(load, at_ms, boot, max(0, now_ms - at_ms) / 1000)

    def load(self, name: str) -> Load | None:
        """As it was heard last."""
        known = self._heard.get(name)
        return known.load if known is not None else None

    def age(self, name: str, boot: float) -> float | None:
        """Seconds since its record was written; None when there never was one."""
        known = self._heard.get(name)
        return known.age(boot) if known is not None else None

    def fresh(self, name: str, boot: float) -> bool:
        """True when its active orchestrator has been heard lately: it may get something."""
        known = self._heard.get(name)
        return known is not None and known.age(boot) < STALE

    def serving(self, queues: Collection[str]) -> list[str]:
        """The executors whose workers serve all of these queues, as they were heard last."""
        return [name for name, one in self._heard.items() if one.load.threads and set(queues) <= set(one.load.queues)]

    def choose(
        self, steps: int, boot: float, *, queues: Collection[str] = (), leave_out: Collection[str] = ()
    ) -> str | None:
        """The executor for a plan that begins with `steps` steps; None when none is fresh.

        One whose workers do not serve the queues that the plan needs comes last: it would wait there.
        """
        fresh = [name for name in self._names if name not in leave_out and self.fresh(name, boot)]
        serving = set(self.serving(queues))
        able = [name for name in fresh if name in serving] or [name for name in fresh if self._heard[name].load.threads]
        if not able:
            return self._chance.choice(fresh) if fresh else None
        weights = [self._heard[name].load.threads for name in able]
        drawn = self._chance.choices(able, weights, k=2)
        chosen = min(drawn, key=self._pressure)
        self._heard[chosen].sent += steps
        return chosen

    def _pressure(self, name: str) -> tuple[bool, float]:
        """What to be small of: first whether it is saturated, then the steps a thread."""
        heard = self._heard[name]
        load = heard.load
        return load.share > SATURATED, (load.backlog + load.busy + heard.sent) / load.threads


def home_order(names: Sequence[str], key: str) -> list[str]:
    """The executors in the order of preference of an idempotency key.

    The same for every client that knows the same executors, and nearly the same when one is added (rendezvous
    hashing): so that two clients that submit the same key meet at one executor, which makes it one plan.
    """
    return sorted(names, key=lambda name: hashlib.sha256(f"{name}\0{key}".encode()).digest())
