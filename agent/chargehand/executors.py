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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import NamedTuple

from chargehand import why
from chargehand.client import Client, WaitTimeout, hear
from chargehand.placing import PAUSE, Placing
from chargehand.plan.life import ENDED, PlanState
from chargehand.plan.routing import home_order
from chargehand.requests import NotPossible
from chargehand.store import moving, submission
from chargehand.store.census import Census
from chargehand.store.connection import Line, Unavailable
from chargehand.store.plans import PLAN_WORDS, PlanView
from chargehand.store.stats import Stats, Trouble
from chargehand.store.watching import Change
from chargehand.why import Answer

__all__ = ["Executors", "Standing"]

_LOOK = 1.0  # seconds between two looks at a plan that is waited for and not accepted
_ACCEPTED = 3.0  # seconds of the same once it is accepted, and moves no more

_ENDED = {PLAN_WORDS[state] for state in ENDED}


class Standing(NamedTuple):
    """Where a plan stands, for one who waits for it."""

    at: str | None  # the executor where its news are told
    accepted: bool = False
    over: PlanState | None = None  # in which it has ended or is paused
    patience: float = _LOOK  # seconds until the next look, when nothing is heard of it


class Executors(Placing):
    """Not for two threads at once. `waits`: plan -> why it cannot go on now."""

    # -- reading ----------------------------------------------------------------------------------

    def read(self, plan: str, *, steps: bool = True, results: bool = True) -> PlanView | None:
        """As `Client.read`, wherever the plan is. Raises `Unavailable`: it may be where none answers."""
        if self._alone is not None:
            return self._alone.read(plan, steps=steps, results=results)
        known = plan in self._placed
        name = self.where(plan)
        if name is None:
            if self._lookout.away:
                raise Unavailable(f"plan {plan} {self._unknown()}")
            return None
        view = self._lookout.reach(name, partial(self._clients[name].read, plan, steps=steps, results=results))
        if view is None and known:  # somebody has moved it since
            self._placed.pop(plan, None)
            return self.read(plan, steps=steps, results=results)
        return _at(view, name) if view is not None else None

    def why(self, plan: str, view: PlanView | None = None) -> Answer:
        """As `Client.why`, wherever the plan is. It never raises `Unavailable`."""
        if self._alone is not None:
            return self._alone.why(plan, view)
        try:
            known = plan in self._placed
            name = self.where(plan)
        except Unavailable as error:
            return why.unreachable(plan, str(error))
        if name is not None:
            answer = self._clients[name].why(plan, view)
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
        words = state if state is None or isinstance(state, str) else list(state)
        found: list[PlanView] = []
        silent: list[str] = []
        for name, client in self._clients.items():
            ask = partial(
                client.search,
                state=words,
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
            if self._alone is not None:
                return ask()
            try:
                found += [_at(view, name) for view in self._lookout.reach(name, ask)]
            except Unavailable as error:
                silent.append(f"{name}: {error}")
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
        standing = self._follow(plan, until, lambda standing: standing.over is not None)
        assert standing.over is not None
        return standing.over

    def watch(self, plan: str, *, past: int | None = None, timeout: float | None = None) -> Iterator[Change]:
        """As `Client.watch`, from when an executor has accepted the plan."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        client = self._alone
        if client is None:
            standing = self._follow(plan, until, partial(self.settled, plan))
            assert standing.at is not None
            client = self.client(standing.at)
        yield from client.watch(
            plan, past=past, timeout=None if timeout is None else max(0.0, until - time.monotonic())
        )

    def _follow(self, plan: str, until: float, enough: Callable[[Standing], bool]) -> Standing:
        """Look at a plan when there is news of it, or its patience is over, until it stands as is wanted."""
        standing = self.stand(plan)
        while not enough(standing):
            at = standing.at
            with self._listening(plan, at) as heard:
                while not enough(standing) and standing.at == at:
                    heard(min(standing.patience, self.time_left(plan, until)))
                    standing = self.stand(plan)
        return standing

    def stand(self, plan: str) -> Standing:
        """One look at a plan that is waited for, wherever it is; it waits for nothing, and notes why the plan does.

        What an executor has not accepted moves on when it is stale; what was lost with its data is sent again. Raises
        `SubmitRefused`; not `Unavailable`: whoever waits looks again.
        """
        self._look()
        name = None
        try:
            name = self.where(plan)
            if name is None:
                self._nowhere(plan)
                return Standing(self._placed.get(plan))
            return self._standing(plan, name)
        except Unavailable:
            if name is not None:
                self._waits(plan, f"executor {name}: {self._lookout.trouble(name)}")
            return Standing(name)

    def _standing(self, plan: str, name: str) -> Standing:
        state: PlanState | None = self._lookout.ask(name, lambda line, keys: submission.plan_state(line, keys, plan))
        if state is None:
            if not self._lookout.ask(name, lambda line, keys: moving.where(line, keys, plan)).here:
                self._placed.pop(plan, None)  # somebody has moved it, or the data is gone
            return Standing(name)
        client = self._clients[name]
        if state is PlanState.PAUSED:  # somebody may have asked for something
            over = self._lookout.reach(name, partial(client.look, plan))
        else:
            over = state if state in ENDED else None
        if over is not None or self._lookout.fresh(name):
            self.waits.pop(plan, None)
        else:
            self._waits(plan, f"executor {name} has accepted it, and {self._lookout.trouble(name)}")
        return Standing(name, True, over, min(client.patience(plan), _ACCEPTED))

    def settled(self, plan: str, standing: Standing) -> bool:
        """True once an executor has accepted the plan. Raises `NotPossible` when it is nowhere."""
        if standing.at is None and not self._lookout.away and plan not in self._sent:
            raise NotPossible(f"plan {plan!r} {self._unknown()} (chargehand plan list)")
        return standing.accepted

    def time_left(self, plan: str, until: float) -> float:
        """Seconds that are left of the time given. Raises `WaitTimeout`, with what the plan waits for, if none are."""
        left = until - time.monotonic()
        if left <= 0:
            raise WaitTimeout(f"plan {plan} has not ended in the time given; {self.waits.get(plan, 'it goes on')}")
        return left

    @contextmanager
    def _listening(self, plan: str, at: str | None) -> Iterator[Callable[[float], None]]:
        """What returns when there is news of a plan, or after so many seconds."""
        if at is None:
            yield time.sleep
            return
        client = self._clients[at]
        ear = _Ear(lambda: self._lookout.reach(at, client._dialer.line), client._keys.plan_channel(plan))
        try:
            yield ear.hear
        finally:
            ear.close()


class _Ear:
    """Listens to a channel, for one who blocks; through outages, on one connection after another."""

    def __init__(self, dial: Callable[[], Line], channel: str) -> None:
        self._dial = dial
        self._channel = channel
        self._line: Line | None = None

    def hear(self, seconds: float) -> None:
        """Return when there is news, or after that time. The first news is that it listens: look once more."""
        until = time.monotonic() + seconds
        try:
            if self._line is None:
                self._line = self._dial()
                self._line.send(("SUBSCRIBE", self._channel))
            hear(self._line, until - time.monotonic(), state_only=True)
        except Unavailable:
            self.close()
            time.sleep(max(0.0, min(PAUSE, until - time.monotonic())))

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def _at(view: PlanView, executor: str) -> PlanView:
    view.executor = executor
    return view
