"""Where plans are, among several executors: finding them, and moving them from one that is gone to another."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from random import Random
from types import TracebackType
from typing import Any, Self

from chargehand.actions import Action
from chargehand.client import Client, SubmitRefused
from chargehand.config.plain import executors_of
from chargehand.config.settings import Settings
from chargehand.lookout import ExecutorView, Lookout
from chargehand.requests import NotPossible
from chargehand.store import moving
from chargehand.store.connection import Unavailable
from chargehand.store.submission import Prepared

__all__ = ["AT_ONCE", "Whereabouts"]

log = logging.getLogger("chargehand.client")

AT_ONCE = 100  # plans in one request


class Whereabouts:
    """What `Executors` has beside submitting, waiting and reading. `waits`: plan -> why it cannot go on now."""

    def __init__(
        self,
        settings: Settings,
        actions: Mapping[str, Action[..., Any]] | None = None,
        *,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        """`tell` hears, once each, what a person should know of plans that wait or move."""
        self._tell = tell
        self._clients = {name: Client(own, actions) for name, own in executors_of(settings).items()}
        self._alone = next(iter(self._clients.values())) if not settings.executors else None
        self._settings = settings
        self._own = self._clients.get(settings.executor.name)
        self._lookout = Lookout(self._clients, Random())
        self._placed: dict[str, str] = {}  # plan -> executor
        self.waits: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        if self._own is not None:
            self._own.close()

    @property
    def names(self) -> list[str]:
        return list(self._clients)

    def views(self) -> list[ExecutorView]:
        """Each executor as it is now."""
        return self._lookout.views()

    # -- finding ----------------------------------------------------------------------------------

    def client(self, executor: str) -> Client:
        """The client of one executor. Raises `NotPossible` when there is none of that name."""
        if executor not in self._clients:
            raise NotPossible(f"there is no executor {executor!r} here (known: {', '.join(self.names)})")
        return self._clients[executor]

    def of(self, executor: str | None = None) -> Client:
        """As `client`; without a name that of the node's own executor, which plans need not go to."""
        if executor is not None:
            return self.client(executor)
        if self._own is None:
            self._own = Client(self._settings)
        return self._own

    def at(self, plan: str) -> Client:
        """The client of the executor that has a plan: for all that `Client` can do with it. Raises `NotPossible`."""
        if self._alone is not None:
            return self._alone
        if self.where(plan) is not None:
            self._look()  # it may have to move on first: what is asked of it must be asked where it will be
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
            for at in range(0, len(plans), AT_ONCE)
            for plan in self._withdraw(name, plans[at : at + AT_ONCE])
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
                trouble = "" if self._deliver(found.to, [found.plan]) else self._lookout.trouble(found.to)
            except (Unavailable, SubmitRefused) as error:
                trouble = str(error)
            if trouble:
                self._waits(plan, f"it is on its way to executor {found.to}: {trouble}")
                return None
            with contextlib.suppress(Unavailable):  # then it stands there as on its way, until that expires
                self._lookout.ask(name, lambda line, keys: moving.arrived(line, keys, plan))
            log.info("plan %s has moved from executor %s to %s", plan, name, found.to)
        self.waits.pop(plan, None)
        self._placed[plan] = found.to
        return found.to

    def _deliver(self, name: str, plans: list[Prepared]) -> bool:
        """Send plans to one executor. False: its Redis cannot be reached, and nothing was sent.

        Raises `Unavailable`: it has them or not, and no other may get them.
        """
        if not self._lookout.hear(name):  # what was not sent can go elsewhere; what was sent and not answered cannot
            return False
        try:
            self._lookout.reach(name, lambda: self._clients[name]._send(plans, 0.0))
        except Unavailable as error:
            unclear = f"executor {name} did not answer, and has it or not"
            raise Unavailable(f"plan {plans[0].plan}: {unclear} ({error})") from error
        return True

    def _waits(self, plan: str, why: str) -> None:
        if self.waits.get(plan) != why:
            self.waits[plan] = why
            self._tell(f"plan {plan} waits: {why}")
