"""Submitting plans among several executors: which one each goes to, and who gets those that one has not taken.

In steps that wait for nothing, for whoever calls them may block or have an event loop: `prepare` once, then `place`
until none is left, with a `PAUSE` between.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from chargehand.actions import Action
from chargehand.client import SubmitRefused, plan_id
from chargehand.config.settings import Settings
from chargehand.plan.routing import home_order
from chargehand.planner import Plan
from chargehand.store import submission
from chargehand.store.connection import Unavailable
from chargehand.store.submission import Prepared
from chargehand.whereabouts import AT_ONCE, Whereabouts, log

__all__ = ["PAUSE", "PERSIST", "Placing", "Wanted", "some_at_once"]

PERSIST = 30.0  # seconds that plans are tried again while no Redis answers that will do
PAUSE = 0.2  # seconds between two tries

_REMEMBER = 10_000  # plans: where they are
_KEEP = 1_000  # plans of ours: what is in them, should Redis lose them while we wait


class Wanted(NamedTuple):
    """A plan that is to be placed."""

    plan: Prepared
    steps: int  # that can begin at once
    queues: frozenset[str]  # that they need
    executor: str | None  # the only one that will do
    key: str | None
    unclear: str = ""  # why nobody can tell whether `executor` has it already


class Placing(Whereabouts):
    """What `Executors` has beside waiting and reading."""

    def __init__(
        self,
        settings: Settings,
        actions: Mapping[str, Action[..., Any]] | None = None,
        *,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        """`tell` hears, once each, what a person should know of plans that wait or move."""
        super().__init__(settings, actions, tell=tell)
        self._sent: dict[str, Wanted] = {}

    def plan(self, label: str, **options: Any) -> Plan:
        """A plan to be filled; the options are those of `Plan`."""
        return next(iter(self._clients.values())).plan(label, **options)

    def submit(self, plan: Plan, *, key: str | None = None, executor: str | None = None) -> str:
        """Submit and return the plan id. `executor`: to this one and no other. Raises as `submit_all`."""
        return self.submit_all([plan], keys=[key], executor=executor)[0]

    def submit_all(
        self, plans: Iterable[Plan], *, keys: Iterable[str | None] = (), executor: str | None = None
    ) -> list[str]:
        """Submit many plans, each to the executor that is chosen for it; return their ids.

        Raises `SubmitRefused`; `Unavailable` when for 30 s no Redis has answered that will do.
        """
        if executor is not None:
            self.client(executor)
        if self._alone is not None:
            return self._alone.submit_all(plans, keys=keys)
        wanted = self.prepare(plans, keys, executor)
        for left in some_at_once(wanted):
            until = time.monotonic() + PERSIST
            while left := self.place(left, until):
                time.sleep(PAUSE)
        return [one.plan.plan for one in wanted]

    def prepare(self, plans: Iterable[Plan], keys: Iterable[str | None], executor: str | None) -> list[Wanted]:
        """Plans as they travel, and what each needs of its executor. Raises `SubmitRefused`, `Unavailable`."""
        self._look()
        given = list(keys)
        return [
            self._wanted(plan, given[index] if index < len(given) else None, executor)
            for index, plan in enumerate(plans)
        ]

    def _wanted(self, plan: Plan, key: str | None, executor: str | None) -> Wanted:
        answering = [name for name in self.names if name not in self._lookout.away] or self.names
        definition = self._clients[executor or answering[0]].definition(plan)
        name = plan_id("", key)
        for other in definition.after:
            executor = _agreed(
                executor, self.where(other), f"the plan starts after plan {other}, which", self._unknown()
            )
        nodes = {f"@{step.node}" for step in definition.steps if step.node is not None}
        for node in sorted(nodes):
            there = next(iter(self._lookout.router.serving([node])), None)
            executor = _agreed(executor, there, f"a step is aimed at node {node[1:]}, which", self._unknown())
        pinned = executor is not None
        if key is not None and (there := self.where(name)) is not None:
            executor = _agreed(executor, there, f"the key {key!r} stands for plan {name}, which", "")
        prepared = submission.prepare(name, definition, submitted_ms=int(time.time() * 1000), pinned=pinned)
        queues = frozenset(policy.queue for policy in definition.policies) | nodes
        return Wanted(prepared, sum(not step.after for step in definition.steps), queues, executor, key)

    def place(self, wanted: list[Wanted], until: float) -> list[Wanted]:
        """Send each to the executor that is chosen for it now. Those that none has taken, to be tried again.

        Raises `SubmitRefused`; `Unavailable` when there are any after `until` (monotonic).
        """
        self._look()
        groups: dict[str, list[Wanted]] = {}
        left: list[Wanted] = []
        for one in wanted:
            name = self._choose(one)
            if name is None:
                left.append(one)
            else:
                groups.setdefault(name, []).append(one)
        for name, some in groups.items():
            left += self._send(name, some)
        if left and time.monotonic() > until:
            troubles = "; ".join(f"{name}: {self._lookout.trouble(name)}" for name in self.names)
            raise Unavailable(left[0].unclear or f"no executor takes plan {left[0].plan.plan}: {troubles}")
        return left

    def _choose(self, one: Wanted) -> str | None:
        if one.executor is not None:
            return one.executor
        if one.key is None:
            return self._lookout.choose(one.steps, one.queues)
        # Two clients with the same key must meet: at the first of its own order, where Redis makes it one plan.
        order = home_order(self.names, one.key)
        if order[0] in self._lookout.away:
            self._waits(one.plan.plan, f"its key belongs to executor {order[0]}: {self._lookout.trouble(order[0])}")
            return None
        return next((name for name in order if self._lookout.fresh(name)), order[0])

    def _send(self, name: str, some: list[Wanted]) -> list[Wanted]:
        """Send plans to this executor. Those that it has not taken; where that is not clear, no other may get them."""
        try:
            if not self._deliver(name, [one.plan for one in some]):
                return some
        except Unavailable as error:
            for one in some:
                self._waits(one.plan.plan, f"executor {name} did not answer, and has it or not")
            return [one._replace(executor=name, unclear=str(error)) for one in some]
        for one in some:
            self.waits.pop(one.plan.plan, None)
            self._placed[one.plan.plan] = name
            self._sent[one.plan.plan] = one
        _forget(self._placed, _REMEMBER)
        _forget(self._sent, _KEEP)
        return []

    def _nowhere(self, plan: str) -> None:
        """No executor has it that answers: when all do, one of ours has been lost with its data, and is sent again."""
        if self._lookout.away:
            self._waits(plan, f"it {self._unknown()}")
        elif plan in self._sent:
            self._sent.update((left.plan.plan, left) for left in self.place([self._sent[plan]], math.inf))


def some_at_once(wanted: list[Wanted]) -> Iterator[list[Wanted]]:
    """So many as go in one request."""
    return (wanted[at : at + AT_ONCE] for at in range(0, len(wanted), AT_ONCE))


def _forget(kept: dict[str, Any], most: int) -> None:
    """The oldest, so that no more are left than `most`."""
    while len(kept) > most:
        del kept[next(iter(kept))]


def _agreed(executor: str | None, there: str | None, what: str, unknown: str) -> str:
    """The executor that has what a plan needs, when nothing else needs another one. Raises `SubmitRefused`."""
    if there is None:
        raise SubmitRefused(f"{what} {unknown}")
    if executor not in {None, there}:
        raise SubmitRefused(f"{what} is in executor {there}, and the plan is to go to {executor}")
    return there
