"""What one client sees of several executors: who answers, who is busy, who is gone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import NamedTuple, TypeVar

from chargehand.client import Client
from chargehand.plan.routing import Load, Router
from chargehand.store import moving
from chargehand.store.connection import Line, Unavailable, boottime
from chargehand.store.keys import Keys
from chargehand.store.load import PUBLISH_EVERY, read_load

__all__ = ["ExecutorView", "Lookout"]

T = TypeVar("T")

# A Redis that did not answer is tried again after a second, or after four times as long as the try took: those who
# ask the others, on the same thread, are held by it for little of their time.
_COST = 4
_RETRY = 5.0  # seconds; at the latest after so many


class ExecutorView(NamedTuple):
    """An executor as a client sees it."""

    name: str
    load: Load | None  # None: it has never said how busy it is
    age: float | None  # seconds since it said so
    pending: int | None  # plans that it has not accepted; None: its Redis does not answer
    problem: str  # why it gets no plans; empty when it does


class Lookout:
    """Not for two threads at once. `away`: executor -> why its Redis does not answer."""

    def __init__(self, clients: Mapping[str, Client], chance: Random) -> None:
        self.clients = clients
        self.router = Router(list(clients), chance)
        self._chance = chance
        self.away: dict[str, str] = {}
        self._look_at = dict.fromkeys(clients, 0.0)  # boot time

    def ask(self, name: str, question: Callable[[Line, Keys], T]) -> T:
        """Ask an executor's Redis. Raises `Unavailable`, as `reach`."""
        client = self.clients[name]
        return self.reach(name, lambda: client._ask(lambda line: question(line, client._keys)))

    def reach(self, name: str, call: Callable[[], T]) -> T:
        """Call something that needs an executor's Redis. Raises `Unavailable`: at once, until it is tried again."""
        begun = boottime()
        if name in self.away and begun < self._look_at[name]:
            raise Unavailable(self.away[name])
        try:
            answer = call()
        except Unavailable as error:
            self.clients[name].close()
            self.away[name] = str(error)
            now = boottime()
            self._look_at[name] = now + min(max(PUBLISH_EVERY, _COST * (now - begun)), _RETRY)
            raise
        self.away.pop(name, None)
        return answer

    def look(self, *, at_once: bool = False) -> list[str]:
        """Hear each executor, at most once a second unless `at_once`. The stale ones that answered."""
        if at_once:
            self._look_at = dict.fromkeys(self.clients, 0.0)
        return [
            name
            for name in self.clients
            if boottime() >= self._look_at[name] and self.hear(name) and not self.router.fresh(name, boottime())
        ]

    def hear(self, name: str) -> bool:
        """Hear one executor. False: its Redis does not answer."""
        try:
            found = self.ask(name, read_load)
        except Unavailable:
            return False
        now = boottime()
        self._look_at[name] = now + PUBLISH_EVERY
        if found is not None:
            self.router.heard(name, found.load, at_ms=found.at_ms, now_ms=found.now_ms, boot=now)
        return True

    def fresh(self, name: str) -> bool:
        return name not in self.away and self.router.fresh(name, boottime())

    def choose(self, steps: int, queues: Collection[str]) -> str | None:
        """For a plan that begins with so many steps: by load; where nobody is fresh, the one that was last."""
        now = boottime()
        chosen = self.router.choose(steps, now, queues=queues, leave_out=self.away)
        if chosen is not None:
            return chosen
        ages = {name: self.router.age(name, now) for name in self.clients if name not in self.away}
        latest = min((age for age in ages.values() if age is not None), default=None)
        able = [name for name, age in ages.items() if age == latest]
        return self._chance.choice(able) if able else None

    def trouble(self, name: str) -> str:
        """Why an executor gets nothing; empty when it does."""
        if name in self.away:
            return f"its Redis does not answer ({self.away[name]})"
        if self.fresh(name):
            return ""
        return "no orchestrator of it is active"

    def views(self) -> list[ExecutorView]:
        """Each executor as it is now."""
        self.look(at_once=True)
        found = []
        for name in self.clients:
            try:
                pending = len(self.ask(name, moving.pending)) if name not in self.away else None
            except Unavailable:
                pending = None
            age = self.router.age(name, boottime())
            found.append(ExecutorView(name, self.router.load(name), age, pending, self.trouble(name)))
        return found
