"""Several executors: each plan goes to one of them, and is found again wherever it is.

    with Executors(settings) as executors:
        run = executors.submit(plan)
        print(executors.wait(run))

Which one is chosen by fresh load (`plan/routing.py`). An executor that has not been heard for three seconds gets
nothing, and what it has not accepted of our plans goes to another (`store/moving.py`). A plan whose executor has
accepted it waits for that one; so does one whose executor's Redis does not answer, for nobody can tell what is in it.
Without `[[executors]]` in the configuration there is one, the node's own, and all this is what `Client` does.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from random import Random
from types import TracebackType
from typing import Any, NamedTuple

from chargehand.actions import Action
from chargehand.client import Client, NotPossible, SubmitRefused, WaitTimeout, plan_id
from chargehand.config.plain import executors_of
from chargehand.config.settings import Settings
from chargehand.lookout import ExecutorView, Lookout
from chargehand.plan.life import ENDED, PlanState
from chargehand.plan.routing import home_order
from chargehand.planner import Plan
from chargehand.store import moving, submission
from chargehand.store.connection import Unavailable
from chargehand.store.plans import PlanView
from chargehand.store.submission import Prepared

__all__ = ["Executors"]

log = logging.getLogger("chargehand.client")

_PERSIST = 30.0  # seconds that a submission is tried again while no Redis answers
_LOOK = 1.0  # seconds between two looks at the executor of a plan that is waited for and not accepted
_ACCEPTED = 3.0  # seconds of the same once it is accepted, and moves no more
_REMEMBER = 10_000  # plans: where they are
_KEEP = 1_000  # plans of ours: what is in them, should Redis lose them while we wait
_AT_ONCE = 100  # plans in one request


class _Wanted(NamedTuple):
    """A plan that is to be placed."""

    plan: Prepared
    steps: int  # that can begin at once
    queues: frozenset[str]  # that they need
    executor: str | None  # the only one that will do
    key: str | None


class Executors:
    """Not for two threads at once. `waits`: plan -> why it cannot go on now."""

    def __init__(
        self,
        settings: Settings,
        actions: Mapping[str, Action[..., Any]] | None = None,
        *,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        """`tell` hears, once each, what a person should know of plans that wait or move."""
        self._actions = actions or {}
        self._tell = tell
        self._clients = {name: Client(own, actions) for name, own in executors_of(settings).items()}
        self._alone = next(iter(self._clients.values())) if not settings.executors else None
        self._lookout = Lookout(self._clients, Random())
        self._placed: dict[str, str] = {}  # plan -> executor
        self._sent: dict[str, _Wanted] = {}
        self.waits: dict[str, str] = {}

    def __enter__(self) -> Executors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    @property
    def names(self) -> list[str]:
        return list(self._clients)

    def plan(self, label: str) -> Plan:
        return Plan(label, self._actions)

    def views(self) -> list[ExecutorView]:
        """Each executor as it is now."""
        return self._lookout.views()

    # -- submitting -------------------------------------------------------------------------------

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
        given = list(keys)
        wanted = [
            self._wanted(plan, given[index] if index < len(given) else None, executor)
            for index, plan in enumerate(plans)
        ]
        for at in range(0, len(wanted), _AT_ONCE):
            self._place(wanted[at : at + _AT_ONCE])
        return [one.plan.plan for one in wanted]

    def _wanted(self, plan: Plan, key: str | None, executor: str | None) -> _Wanted:
        definition = plan.definition(next(iter(self._clients.values()))._by)
        name = plan_id("", key)
        for other in definition.after:
            executor = _agreed(
                executor, self.where(other), f"the plan starts after plan {other}, which", self._unknown()
            )
        if nodes := {f"@{step.node}" for step in definition.steps if step.node is not None}:
            self._look()
            for node in sorted(nodes):
                there = next(iter(self._lookout.router.serving([node])), None)
                executor = _agreed(executor, there, f"a step is aimed at node {node[1:]}, which", self._unknown())
        pinned = executor is not None
        if key is not None and (there := self.where(name)) is not None:
            executor = _agreed(executor, there, f"the key {key!r} stands for plan {name}, which", "")
        prepared = submission.prepare(name, definition, submitted_ms=int(time.time() * 1000), pinned=pinned)
        queues = frozenset(policy.queue for policy in definition.policies) | nodes
        return _Wanted(prepared, sum(not step.after for step in definition.steps), queues, executor, key)

    def _place(self, wanted: list[_Wanted]) -> None:
        until = time.monotonic() + _PERSIST
        while True:
            self._look()
            groups: dict[str, list[_Wanted]] = {}
            left: list[_Wanted] = []
            for one in wanted:
                name = self._choose(one)
                if name is None:
                    left.append(one)
                else:
                    groups.setdefault(name, []).append(one)
            for name, some in groups.items():
                if self._deliver(name, [one.plan for one in some], until):
                    self._remember(name, some)
                else:
                    left += some
            if not left:
                return
            if time.monotonic() > until:
                troubles = "; ".join(f"{name}: {self._lookout.trouble(name)}" for name in self.names)
                raise Unavailable(f"no executor takes plan {left[0].plan.plan}: {troubles}")
            wanted = left
            time.sleep(0.2)

    def _choose(self, one: _Wanted) -> str | None:
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

    def _deliver(self, name: str, plans: list[Prepared], until: float) -> bool:
        """Send plans to one executor. False: its Redis cannot be reached, and nothing was sent."""
        if not self._lookout.hear(name):  # what was not sent can go elsewhere; what was sent and not answered cannot
            return False
        while True:
            try:
                self._clients[name]._send(plans, 0.0)
            except Unavailable as error:
                self._lookout.lost(name, error)
                unclear = f"executor {name} did not answer, and has it or not"
                if time.monotonic() > until:
                    raise Unavailable(f"plan {plans[0].plan}: {unclear} ({error})") from error
                for plan in plans:
                    self._waits(plan.plan, unclear)
                time.sleep(0.2)
            else:
                return True

    def _remember(self, name: str, some: Iterable[_Wanted]) -> None:
        for one in some:
            self.waits.pop(one.plan.plan, None)
            self._placed[one.plan.plan] = name
            self._sent[one.plan.plan] = one
        for kept, most in ((self._placed, _REMEMBER), (self._sent, _KEEP)):
            for plan in list(kept)[: max(0, len(kept) - most)]:
                kept.pop(plan)

    # -- finding ----------------------------------------------------------------------------------

    def client(self, executor: str) -> Client:
        """The client of one executor. Raises `NotPossible` when there is none of that name."""
        if executor not in self._clients:
            raise NotPossible(f"there is no executor {executor!r} here (known: {', '.join(self.names)})")
        return self._clients[executor]

    def at(self, plan: str) -> Client:
        """The client of the executor that has a plan: for all that `Client` can do with it. Raises `NotPossible`."""
        if self._alone is not None:
            return self._alone
        name = self.where(plan)
        if name is None:
            raise NotPossible(f"plan {plan!r} {self._unknown()} (chargehand plan list)")
        return self._clients[name]

    def where(self, plan: str) -> str | None:
        """The executor that has a plan; None when none has that answers."""
        if plan in self._placed or self._alone is not None:
            return self._placed.get(plan, self.names[0])
        left_from = None
        for name in self.names:
            try:
                place = self._lookout.ask(name, lambda line, keys: moving.where(line, keys, plan))
            except Unavailable:
                continue
            if place.here:
                self._placed[plan] = name
                return name
            if place.moving_to is not None:
                left_from = name
        return self._bring(left_from, plan) if left_from is not None else None

    def _unknown(self) -> str:
        """What can be said of a plan that was not found."""
        away = self._lookout.away
        silent = "".join(f"; {name} does not answer: {why}" for name, why in away.items())
        return f"is in no executor that answers{silent}" if away else "is in no executor"

    def read(self, plan: str, *, steps: bool = True) -> PlanView | None:
        """All about a plan; None when there is none of that id. Raises `Unavailable`: it may be where none answers."""
        name = self.where(plan)
        if name is None:
            if self._lookout.away:
                raise Unavailable(f"plan {plan} {self._unknown()}")
            return None
        return self._clients[name].read(plan, steps=steps)

    # -- waiting ----------------------------------------------------------------------------------

    def wait(self, plan: str, timeout: float | None = None) -> PlanState:
        """Return the state in which the plan ended or paused, in whichever executor. Raises `WaitTimeout`."""
        if self._alone is not None:
            return self._alone.wait(plan, timeout)
        until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            self._look()
            left = max(0.0, until - time.monotonic())
            name = None
            try:
                name = self.where(plan)
                if name is None:
                    self._nowhere(plan)
                    time.sleep(min(left, _LOOK))
                else:
                    accepted = self._accepted(name, plan)
                    state = self._clients[name].wait(plan, min(left, _ACCEPTED if accepted else _LOOK))
                    self.waits.pop(plan, None)
                    return state
            except WaitTimeout:
                pass
            except Unavailable as error:
                if name is not None:
                    self._lookout.lost(name, error)
                    self._waits(plan, f"executor {name}: {self._lookout.trouble(name)}")
            if time.monotonic() >= until:
                raise WaitTimeout(f"plan {plan} has not ended in the time given; {self.waits.get(plan, 'it goes on')}")

    def _accepted(self, name: str, plan: str) -> bool:
        """True when this executor has accepted the plan. Says so when it cannot go on there."""
        state = self._lookout.ask(name, lambda line, keys: submission.plan_state(line, keys, plan))
        if state is None:
            if not self._lookout.ask(name, lambda line, keys: moving.where(line, keys, plan)).here:
                self._placed.pop(plan, None)  # somebody has moved it, or the data is gone
            return False
        if state in ENDED or self._lookout.fresh(name):
            self.waits.pop(plan, None)
        else:
            self._waits(plan, f"executor {name} has accepted it, and {self._lookout.trouble(name)}")
        return True

    def _nowhere(self, plan: str) -> None:
        """No executor has it that answers: when all do, one of ours has been lost with its data, and is sent again."""
        if self._lookout.away:
            self._waits(plan, f"it {self._unknown()}")
        elif plan in self._sent:
            self._place([self._sent[plan]])

    def _waits(self, plan: str, why: str) -> None:
        if self.waits.get(plan) != why:
            self.waits[plan] = why
            self._tell(f"plan {plan} waits: {why}")

    # -- moving -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Hear the executors. Of one that is stale, the plans of ours move that it has not accepted."""
        for name in self._lookout.look():
            ours = [plan for plan, place in self._placed.items() if place == name]
            try:
                self._leave(name, ours)
            except Unavailable as error:
                log.debug("moving from executor %s: %s", name, error)  # it is away by now, and is looked at again

    def move(self, executor: str) -> list[str]:
        """Move everybody's plans that an executor has not accepted and that may go; return those that have gone.

        Raises `NotPossible` while it works, or when there is no other to go to; `Unavailable`.
        """
        self.client(executor)
        self._lookout.look(at_once=True)
        if self._lookout.fresh(executor):
            raise NotPossible(f"executor {executor} works: what it has not accepted yet it will")
        if not any(self._lookout.fresh(name) for name in self.names):
            raise NotPossible("there is no other executor whose orchestrator is active")
        return self._leave(executor, sorted(self._lookout.ask(executor, moving.pending)))

    def _leave(self, name: str, plans: list[str]) -> list[str]:
        """Move those of these plans that an executor has not accepted, to others that are fresh."""
        return [
            plan
            for at in range(0, len(plans), _AT_ONCE)
            for plan in self._withdraw(name, plans[at : at + _AT_ONCE])
            if self._bring(name, plan) is not None
        ]

    def _withdraw(self, name: str, plans: list[str]) -> list[str]:
        """Those of these plans that are not in this executor's hands any more."""
        leaving = self._lookout.ask(name, lambda line, keys: moving.leaving(line, keys, plans))
        routes: dict[str, str] = {}
        for plan, queues in leaving.items():
            to = self._lookout.choose(1, queues)
            if to is not None and self._lookout.fresh(to):
                routes[plan] = to
        if not routes:
            return []
        words = self._lookout.ask(name, lambda line, keys: moving.withdraw(line, keys, routes))
        # UNKNOWN: an earlier try was not answered, or somebody else was faster.
        return [plan for plan, word in words.items() if word != "ACCEPTED"]

    def _bring(self, name: str, plan: str) -> str | None:
        """Bring a plan that was withdrawn at one executor to the other that is named there; where it is now."""
        found = self._lookout.ask(name, lambda line, keys: moving.read_moving(line, keys, plan))
        self._placed.pop(plan, None)
        if found is None:
            return None
        if found.to not in self._clients:
            self._waits(plan, f"it is on its way to executor {found.to}, which is not in the configuration here")
            return None
        if found.plan is not None:
            try:
                there = self._deliver(found.to, [found.plan], 0.0)
            except Unavailable:
                there = False
            if not there:
                self._waits(plan, f"it is on its way to executor {found.to}: {self._lookout.trouble(found.to)}")
                return None
            with contextlib.suppress(Unavailable):  # then it stands there as on its way, until that expires
                self._lookout.ask(name, lambda line, keys: moving.arrived(line, keys, plan))
            log.info("plan %s has moved from executor %s to %s", plan, name, found.to)
        self.waits.pop(plan, None)
        self._placed[plan] = found.to
        return found.to


def _agreed(executor: str | None, there: str | None, what: str, unknown: str) -> str:
    """The executor that has what a plan needs, when nothing else needs another one. Raises `SubmitRefused`."""
    if there is None:
        raise SubmitRefused(f"{what} {unknown}")
    if executor not in {None, there}:
        raise SubmitRefused(f"{what} is in executor {there}, and the plan is to go to {executor}")
    return there
