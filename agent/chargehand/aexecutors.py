"""`Executors` for programs with an event loop.

    async with AsyncExecutors(settings) as executors:
        run = await executors.submit(plan)
        print(await executors.wait(run))

What is asked of any executor goes through one thread. Those who wait or watch hold none: one connection to each
listens for all whose plans are there, and `Executors.stand` says where a plan is and when to look at it again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from chargehand.aclient import AsyncClient
from chargehand.actions import Action
from chargehand.awaiting import Awaited, Thread, awaited, each_awaited
from chargehand.client import Client
from chargehand.config.settings import Settings
from chargehand.ears import Bell, heard
from chargehand.executors import Executors, Standing
from chargehand.lookout import Lookout
from chargehand.placing import PAUSE, PERSIST, some_at_once
from chargehand.plan.life import PlanState
from chargehand.planner import Plan
from chargehand.store.watching import Change
from chargehand.whereabouts import log

__all__ = ["AsyncExecutors"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncExecutors(Awaited[Executors]):
    """The methods of `Executors`, to be awaited; what they mean and raise stands there. For one event loop."""

    def __init__(
        self,
        settings: Settings,
        actions: Mapping[str, Action[..., Any]] | None = None,
        *,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        """`tell` is called on the event loop."""
        self._thread = Thread()
        super().__init__(Executors(settings, actions, tell=partial(self._thread.back, tell)), self._thread.run)
        self._members: dict[str, _Member] = {}
        self._alone = self.client(self.names[0]) if not settings.executors else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Those who still wait get a `RuntimeError`."""
        await self._thread.end(self._blocking.close)
        for member in self._members.values():
            await member._ears.close()

    @property
    def names(self) -> list[str]:
        return self._blocking.names

    @property
    def waits(self) -> dict[str, str]:
        """Plan -> why it cannot go on now."""
        return dict(self._blocking.waits)

    # -- finding, moving --------------------------------------------------------------------------

    views = awaited(Executors.views)
    where = awaited(Executors.where)
    move = awaited(Executors.move)

    def client(self, executor: str) -> AsyncClient:
        return self._member(self._blocking.client(executor))

    async def of(self, executor: str | None = None) -> AsyncClient:
        return self._member(await self._run(self._blocking.of, executor))

    async def at(self, plan: str) -> AsyncClient:
        return self._member(await self._run(self._blocking.at, plan))

    async def recurring_at(self, name: str, executor: str | None = None) -> AsyncClient:
        return self._member(await self._run(self._blocking.recurring_at, name, executor))

    def _member(self, client: Client) -> _Member:
        name = client._settings.executor.name
        if name not in self._members:
            several = self._blocking._alone is None and name in self.names
            self._members[name] = _Member(client, self._thread, self._blocking._lookout if several else None)
        return self._members[name]

    # -- submitting -------------------------------------------------------------------------------

    def plan(self, label: str, **options: Any) -> Plan:
        return self._blocking.plan(label, **options)

    async def submit(self, plan: Plan, *, key: str | None = None, executor: str | None = None) -> str:
        return (await self.submit_all([plan], keys=[key], executor=executor))[0]

    async def submit_all(
        self, plans: Iterable[Plan], *, keys: Iterable[str | None] = (), executor: str | None = None
    ) -> list[str]:
        if executor is not None:
            self.client(executor)
        if self._alone is not None:
            return await self._alone.submit_all(plans, keys=keys)
        wanted = await self._run(self._blocking.prepare, plans, keys, executor)
        for left in some_at_once(wanted):
            until = time.monotonic() + PERSIST
            # A Redis that is away tells nobody when it is back.
            while left := await self._run(self._blocking.place, left, until):  # noqa: ASYNC110
                await asyncio.sleep(PAUSE)
        return [one.plan.plan for one in wanted]

    # -- reading ----------------------------------------------------------------------------------

    read = awaited(Executors.read)
    why = awaited(Executors.why)
    search = awaited(Executors.search)
    census = awaited(Executors.census)
    stats = awaited(Executors.stats)
    troubles = awaited(Executors.troubles)
    export = each_awaited(Executors.export)

    # -- waiting ----------------------------------------------------------------------------------

    async def wait(self, plan: str, timeout: float | None = None) -> PlanState:  # noqa: ASYNC109 - as in `Executors`
        if self._alone is not None:
            return await self._alone.wait(plan, timeout)
        until = math.inf if timeout is None else time.monotonic() + timeout
        standing = await self._follow(plan, until, lambda standing: standing.over is not None)
        assert standing.over is not None
        return standing.over

    async def watch(
        self,
        plan: str,
        *,
        past: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as in `Executors`
    ) -> AsyncGenerator[Change, None]:
        until = math.inf if timeout is None else time.monotonic() + timeout
        client = self._alone
        if client is None:
            standing = await self._follow(plan, until, partial(self._blocking.settled, plan))
            assert standing.at is not None
            client = self.client(standing.at)
        left = None if timeout is None else max(0.0, until - time.monotonic())
        async with aclosing(client.watch(plan, past=past, timeout=left)) as changes:
            async for change in changes:
                yield change

    async def _follow(self, plan: str, until: float, enough: Callable[[Standing], bool]) -> Standing:
        standing = await self._run(self._blocking.stand, plan)
        while not enough(standing):
            at = standing.at
            async with self._listening(plan, at) as bell:
                while not enough(standing) and standing.at == at:
                    await heard(bell, min(standing.patience, self._blocking.time_left(plan, until)))
                    bell.clear()
                    standing = await self._run(self._blocking.stand, plan)
        return standing

    @asynccontextmanager
    async def _listening(self, plan: str, at: str | None) -> AsyncIterator[Bell]:
        """A bell that rings when there is news of a plan; the first is that it listens."""
        if at is None:
            yield Bell(state_only=True)
            return
        async with self.client(at)._ears.on(plan, state_only=True) as bell:
            yield bell


class _Member(AsyncClient):
    """The client of one executor among several, on the thread of all."""

    def __init__(self, client: Client, thread: Thread, lookout: Lookout | None) -> None:
        self._thread = thread
        self._lookout = lookout
        self._begin(client, thread.run if lookout is None else self._reach)

    async def _reach(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """While its Redis is known not to answer it is not asked: those who ask the others would wait for it."""
        assert self._lookout is not None
        name = self._blocking._settings.executor.name
        return await self._thread.run(self._lookout.reach, name, partial(call, *args, **kwargs))

    async def close(self) -> None:
        """Only for now, as that of a `Client`."""
        await self._thread.run(self._blocking.close)
