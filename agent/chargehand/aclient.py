"""`Client` for programs with an event loop.

    async with AsyncClient(settings) as client:
        run = await client.submit(plan)
        print(await client.wait(run))

Requests go through one thread, one at a time, as they go over one connection. Those who wait or watch hold none:
one connection more listens for all of them, on the event loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from chargehand.actions import Action
from chargehand.awaiting import Awaited, Run, Thread, awaited, each_awaited
from chargehand.client import Client, time_left
from chargehand.config.settings import Settings
from chargehand.ears import Ears, heard
from chargehand.plan.life import PlanState
from chargehand.planner import Plan
from chargehand.store.connection import Unavailable
from chargehand.store.watching import LOOK, Change

__all__ = ["AsyncClient"]


class AsyncClient(Awaited[Client]):
    """The methods of `Client`, to be awaited; what they mean and raise stands there. For one event loop."""

    def __init__(self, settings: Settings, actions: Mapping[str, Action[..., Any]] | None = None) -> None:
        self._thread = Thread()
        self._begin(Client(settings, actions), self._thread.run)

    def _begin(self, client: Client, run: Run) -> None:
        super().__init__(client, run)
        self._ears = Ears(client._keys, partial(run, client._dialer.line))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Those who still wait get a `RuntimeError`."""
        await self._thread.end(self._blocking.close)
        await self._ears.close()

    # -- submitting, waiting ----------------------------------------------------------------------

    def plan(self, label: str, **options: Any) -> Plan:
        return self._blocking.plan(label, **options)

    submit = awaited(Client.submit)
    submit_all = awaited(Client.submit_all)

    async def decided(self, plan: str, timeout: float) -> bool:  # noqa: ASYNC109 - as in `Client`
        until = time.monotonic() + timeout
        async with self._ears.on(plan, state_only=True) as bell:
            while await self._run(self._blocking._undecided, plan):
                left = until - time.monotonic()
                if left <= 0:
                    return False
                await heard(bell, min(self._blocking.patience(plan), left))
                bell.clear()
        return True

    async def wait(self, plan: str, timeout: float | None = None) -> PlanState:  # noqa: ASYNC109 - as in `Client`
        until = math.inf if timeout is None else time.monotonic() + timeout
        async with self._ears.on(plan, state_only=True) as bell:
            while True:
                bell.clear()
                try:
                    state = await self._run(self._blocking.look, plan)
                    if state is not None:
                        return state
                except Unavailable:
                    if time.monotonic() > until:
                        raise
                await heard(bell, min(self._blocking.patience(plan), time_left(plan, until)))

    async def watch(
        self,
        plan: str,
        *,
        past: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as in `Client`
    ) -> AsyncGenerator[Change, None]:
        until = math.inf if timeout is None else time.monotonic() + timeout
        follower = self._blocking.follower(plan, past=past)
        async with self._ears.on(plan, state_only=False) as bell:
            while not follower.over:
                bell.clear()
                try:
                    changes = await self._run(self._blocking.news, follower)
                except Unavailable:  # the bell rings when its Redis is back
                    await heard(bell, min(LOOK, time_left(plan, until)))
                    continue
                for change in changes:
                    yield change
                if not follower.over and not follower.behind:
                    await heard(bell, min(LOOK, time_left(plan, until)))

    # -- reading ----------------------------------------------------------------------------------

    read = awaited(Client.read)
    results = awaited(Client.results)
    why = awaited(Client.why)
    output = awaited(Client.output)
    moves = awaited(Client.moves)
    moved = awaited(Client.moved)
    census = awaited(Client.census)
    stats = awaited(Client.stats)
    queues = awaited(Client.queues)
    troubles = awaited(Client.troubles)
    history = awaited(Client.history)
    children = awaited(Client.children)
    search = awaited(Client.search)
    list = awaited(Client.list)
    export = each_awaited(Client.export)

    # -- asking -----------------------------------------------------------------------------------

    async def speak_for(self, who: str) -> None:
        self._blocking.speak_for(who)  # which asks nothing: also while Redis is away

    resume = awaited(Client.resume)
    skip = awaited(Client.skip)
    retry = awaited(Client.retry)
    cancel = awaited(Client.cancel)
    halt = awaited(Client.halt)
    revert = awaited(Client.revert)
    send_event = awaited(Client.send_event)

    # -- recurring plans --------------------------------------------------------------------------

    set_recurring = awaited(Client.set_recurring)
    pause_recurring = awaited(Client.pause_recurring)
    resume_recurring = awaited(Client.resume_recurring)
    remove_recurring = awaited(Client.remove_recurring)
    recurring = awaited(Client.recurring)
    all_recurring = awaited(Client.all_recurring)
