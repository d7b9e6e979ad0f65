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

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from chargehand import why
from chargehand.actions import Action
from chargehand.client import Client, SubmitRefused, WaitTimeout, plan_id, time_left
from chargehand.config.settings import Settings
from chargehand.plan.life import ENDED, PlanState
from chargehand.plan.routing import home_order
from chargehand.planner import Plan
from chargehand.requests import NotPossible
from chargehand.store import moving, submission
from chargehand.store.census import Census
from chargehand.store.connection import Unavailable
from chargehand.store.plans import PLAN_WORDS, PlanView
from chargehand.store.stats import Stats, Trouble
from chargehand.store.submission import Prepared
from chargehand.store.watching import Change
from chargehand.whereabouts import AT_ONCE, Whereabouts, log
from chargehand.why import Answer

__all__ = ["Executors"]

_PERSIST = 30.0  # seconds that a submission is tried again while no Redis answers
_LOOK = 1.0  # seconds between two looks at the executor of a plan that is waited for and not accepted
_ACCEPTED = 3.0  # seconds of the same once it is accepted, and moves no more
_REMEMBER = 10_000  # plans: where they are
_KEEP = 1_000  # plans of ours: what is in them, should Redis lose them while we wait

_ENDED = {PLAN_WORDS[state] for state in ENDED}


class _Wanted(NamedTuple):
    """A plan that is to be placed."""

    plan: Prepared
    steps: int  # that can begin at once
    queues: frozenset[str]  # that they need
    executor: str | None  # the only one that will do
    key: str | None


class Executors(Whereabouts):
    """Not for two threads at once. `waits`: plan -> why it cannot go on now."""

    def __init__(
        self,
        settings: Settings,
        actions: Mapping[str, Action[..., Any]] | None = None,
        *,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        """`tell` hears, once each, what a person should know of plans that wait or move."""
        super().__init__(settings, actions, tell=tell)
        self._sent: dict[str, _Wanted] = {}

    def plan(self, label: str, **options: Any) -> Plan:
        """A plan to be filled; the options are those of `Plan`."""
        return next(iter(self._clients.values())).plan(label, **options)

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
        self._look()
        given = list(keys)
        wanted = [
            self._wanted(plan, given[index] if index < len(given) else None, executor)
            for index, plan in enumerate(plans)
        ]
        for at in range(0, len(wanted), AT_ONCE):
            self._place(wanted[at : at + AT_ONCE])
        return [one.plan.plan for one in wanted]

    def _wanted(self, plan: Plan, key: str | None, executor: str | None) -> _Wanted:
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

    def _remember(self, name: str, some: Iterable[_Wanted]) -> None:
        for one in some:
            self.waits.pop(one.plan.plan, None)
            self._placed[one.plan.plan] = name
            self._sent[one.plan.plan] = one
        for kept, most in ((self._placed, _REMEMBER), (self._sent, _KEEP)):
            for plan in list(kept)[: max(0, len(kept) - most)]:
                kept.pop(plan)

    # -- reading ----------------------------------------------------------------------------------

    def read(self, plan: str, *, steps: bool = True) -> PlanView | None:
        """All about a plan; None when there is none of that id. Raises `Unavailable`: it may be where none answers."""
        if self._alone is not None:
            return self._alone.read(plan, steps=steps)
        known = plan in self._placed
        name = self.where(plan)
        if name is None:
            if self._lookout.away:
                raise Unavailable(f"plan {plan} {self._unknown()}")
            return None
        view = self._clients[name].read(plan, steps=steps)
        if view is None and known:  # somebody has moved it since
            self._placed.pop(plan, None)
            return self.read(plan, steps=steps)
        return _at(view, name) if view is not None else None

    def why(self, plan: str) -> Answer:
        """As `Client.why`, wherever the plan is. It never raises `Unavailable`."""
        if self._alone is not None:
            return self._alone.why(plan)
        try:
            known = plan in self._placed
            name = self.where(plan)
        except Unavailable as error:
            return why.unreachable(plan, str(error))
        if name is not None:
            answer = self._clients[name].why(plan)
            if answer.state == "none" and known:  # somebody has moved it since
                self._placed.pop(plan, None)
                return self.why(plan)
            answer.executor = name
            return answer
        if plan in self.waits or self._lookout.away:
            return why.unreachable(plan, self.waits.get(plan, f"it {self._unknown()}"))
        answers = [(name, client.why(plan)) for name, client in self._clients.items()]  # a beginning, or nothing
        for name, answer in answers:
            answer.executor = name
        return next((answer for _, answer in answers if answer.causes[0].kind != "no-plan"), answers[0][1])

    def search(
        self,
        *,
        state: str | Iterable[str] | None = None,
        action: str = "",
        labels: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        most: int = 50,
        children: bool = False,
        by: str = "",
        text: str = "",
        longer_than: float | None = None,
        oldest_first: bool = False,
    ) -> list[PlanView]:
        """As `Client.search`, over all executors that answer. Raises `Unavailable` when none does."""
        some = list(labels)
        found: list[PlanView] = []
        silent: list[str] = []
        for name, client in self._clients.items():
            try:
                views = client.search(
                    state=state if state is None or isinstance(state, str) else list(state),
                    action=action,
                    labels=some,
                    since=since,
                    until=until,
                    most=most,
                    children=children,
                    by=by,
                    text=text,
                    longer_than=longer_than,
                    oldest_first=oldest_first,
                )
            except Unavailable as error:
                if self._alone is not None:
                    raise
                silent.append(f"{name}: {error}")
            else:
                found += [view if self._alone is not None else _at(view, name) for view in views]
        if len(silent) == len(self._clients):
            raise Unavailable("; ".join(silent))
        for one in silent:
            self._tell(f"executor {one}: its plans are missing here")
        if len(self._clients) > 1:
            sign = 1 if oldest_first else -1
            if action or some:
                found.sort(key=lambda view: sign * view.submitted_ms)
            else:
                found.sort(key=lambda view: (view.state in _ENDED, sign * view.since_ms))
        return found[:most]

    def export(
        self, states: Iterable[PlanState], *, since_ms: int = 0, until_ms: int | None = None
    ) -> Iterator[PlanView]:
        """As `Client.export`, one executor after another. Raises `Unavailable`: what came before that is whole."""
        wanted = list(states)
        for name, client in self._clients.items():
            for view in client.export(wanted, since_ms=since_ms, until_ms=until_ms):
                yield view if self._alone is not None else _at(view, name)

    def census(self, executor: str | None = None) -> Census:
        """As `Client.census`, of the node's own executor or another one."""
        return self.of(executor).census()

    def stats(self, executor: str | None = None) -> Stats:
        """As `Client.stats`, of the node's own executor or another one."""
        return self.of(executor).stats()

    def troubles(self, most: int = 200, executor: str | None = None) -> list[Trouble]:
        """As `Client.troubles`, of the node's own executor or another one."""
        return self.of(executor).troubles(most)

    def recurring_at(self, name: str, executor: str | None = None) -> Client:
        """The client of the executor that has a recurring plan, or is to have it: `executor`, else by its name.

        Raises `NotPossible` when it is in another than `executor`.
        """
        if executor is not None:
            self.client(executor)
        if self._alone is not None:
            return self._alone
        there = next((one for one, client in self._clients.items() if client.recurring(name) is not None), None)
        if executor not in {None, there} and there is not None:
            raise NotPossible(f"recurring plan {name!r} is in executor {there}: remove it there first")
        self._look()
        order = home_order(self.names, name)
        fresh = [one for one in order if self._lookout.fresh(one)]
        return self._clients[there or executor or (fresh or order)[0]]

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

    def watch(self, plan: str, *, past: int | None = None, timeout: float | None = None) -> Iterator[Change]:
        """As `Client.watch`, from when an executor has accepted the plan."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        client = self._alone or self._clients[self._settled(plan, until)]
        yield from client.watch(
            plan, past=past, timeout=None if timeout is None else max(0.0, until - time.monotonic())
        )

    def _settled(self, plan: str, until: float) -> str:
        """The executor that has accepted a plan, once one has. Raises `NotPossible` when it is nowhere."""
        while True:
            self._look()
            left = min(_LOOK, time_left(plan, until))
            name = None
            try:
                name = self.where(plan)
                if name is None and not self._lookout.away and plan not in self._sent:
                    raise NotPossible(f"plan {plan!r} {self._unknown()} (chargehand plan list)")
                if name is None:
                    self._nowhere(plan)
                    time.sleep(left)
                    continue
                with self._clients[name]._listening(plan) as ears:
                    if self._accepted(name, plan):
                        return name
                    ears.ready(left)
            except Unavailable as error:
                if name is not None:
                    self._lookout.lost(name, error)
                    self._waits(plan, f"executor {name}: {self._lookout.trouble(name)}")
                time.sleep(left)

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


def _at(view: PlanView, executor: str) -> PlanView:
    view.executor = executor
    return view


def _agreed(executor: str | None, there: str | None, what: str, unknown: str) -> str:
    """The executor that has what a plan needs, when nothing else needs another one. Raises `SubmitRefused`."""
    if there is None:
        raise SubmitRefused(f"{what} {unknown}")
    if executor not in {None, there}:
        raise SubmitRefused(f"{what} is in executor {there}, and the plan is to go to {executor}")
    return there
