"""`Client` for programs with an event loop.

    async with AsyncClient(settings) as client:
        run = await client.submit(plan)
        print(await client.wait(run))

Requests go through one thread, one at a time, as they go over one connection. Those who wait or watch hold none:
one connection more listens for all of them, on the event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from chargehand.actions import Action
from chargehand.client import Client, time_left
from chargehand.config.settings import Settings
from chargehand.plan.life import PlanState
from chargehand.planner import Plan
from chargehand.store.census import Census
from chargehand.store.connection import Dialer, Line, Refused, Unavailable
from chargehand.store.history import Moment
from chargehand.store.keys import Keys
from chargehand.store.moves import Moves
from chargehand.store.plans import PlanView
from chargehand.store.queues import QueueView
from chargehand.store.recurring import RecurringView
from chargehand.store.stats import Stats, Trouble
from chargehand.store.subplans import ChildrenView
from chargehand.store.watching import LOOK, SAID, Change
from chargehand.why import Answer

__all__ = ["AsyncClient"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncClient:
    """The methods of `Client`, to be awaited; what they mean and raise stands there. For one event loop."""

    def __init__(self, settings: Settings, actions: Mapping[str, Action[..., Any]] | None = None) -> None:
        self._client = Client(settings, actions)
        self._thread = ThreadPoolExecutor(1, "chargehand-client")
        self._ears = _Ears(
            Keys(settings.executor.name), partial(self._run, Dialer(settings.redis, settings.executor.name).line)
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._ears.close()
        await self._run(self._client.close)
        self._thread.shutdown()

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(call, *args, **kwargs))

    # -- submitting, waiting ----------------------------------------------------------------------

    def plan(self, label: str, **options: Any) -> Plan:
        return self._client.plan(label, **options)

    async def submit(self, plan: Plan, *, key: str | None = None) -> str:
        return await self._run(self._client.submit, plan, key=key)

    async def submit_all(self, plans: Iterable[Plan], *, keys: Iterable[str | None] = ()) -> list[str]:
        return await self._run(self._client.submit_all, plans, keys=keys)

    async def decided(self, plan: str, timeout: float) -> bool:  # noqa: ASYNC109 - as in `Client`
        return await self._run(self._client.decided, plan, timeout)

    async def wait(self, plan: str, timeout: float | None = None) -> PlanState:  # noqa: ASYNC109 - as in `Client`
        until = math.inf if timeout is None else time.monotonic() + timeout
        async with self._ears.on(plan, state_only=True) as bell:
            while True:
                bell.clear()
                try:
                    state = await self._run(self._client.look, plan)
                    if state is not None:
                        return state
                except Unavailable:
                    if time.monotonic() > until:
                        raise
                await _heard(bell, min(self._client.patience(plan), time_left(plan, until)))

    async def watch(
        self,
        plan: str,
        *,
        past: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as in `Client`
    ) -> AsyncGenerator[Change, None]:
        until = math.inf if timeout is None else time.monotonic() + timeout
        follower = self._client.follower(plan, past=past)
        async with self._ears.on(plan, state_only=False) as bell:
            while not follower.over:
                bell.clear()
                try:
                    changes = await self._run(self._client.news, follower)
                except Unavailable:
                    await asyncio.sleep(min(0.2, time_left(plan, until)))
                    continue
                for change in changes:
                    yield change
                if not follower.over and not follower.behind:
                    await _heard(bell, min(LOOK, time_left(plan, until)))

    # -- reading ----------------------------------------------------------------------------------

    async def read(self, plan: str, *, steps: bool = True) -> PlanView | None:
        return await self._run(self._client.read, plan, steps=steps)

    async def why(self, plan: str) -> Answer:
        return await self._run(self._client.why, plan)

    async def output(self, plan: str, step: int = -1) -> Any:
        return await self._run(self._client.output, plan, step)

    async def moves(self) -> Moves:
        return await self._run(self._client.moves)

    async def moved(self, moves: Moves) -> list[PlanView]:
        return await self._run(self._client.moved, moves)

    async def census(self) -> Census:
        return await self._run(self._client.census)

    async def stats(self, census: Census | None = None) -> Stats:
        return await self._run(self._client.stats, census)

    async def queues(self, *names: str, most: int = 1) -> list[QueueView]:
        return await self._run(self._client.queues, *names, most=most)

    async def troubles(self, most: int = 200) -> list[Trouble]:
        return await self._run(self._client.troubles, most)

    async def history(self, plan: str) -> Sequence[Moment]:
        return await self._run(self._client.history, plan)

    async def children(
        self, plan: str, step: int, *, state: str | None = None, first: int = 0, most: int = 100
    ) -> ChildrenView:
        return await self._run(self._client.children, plan, step, state=state, first=first, most=most)

    async def search(
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
        return await self._run(
            self._client.search,
            state=state,
            action=action,
            labels=labels,
            since=since,
            until=until,
            most=most,
            children=children,
            by=by,
            text=text,
            longer_than=longer_than,
            oldest_first=oldest_first,
        )

    async def export(
        self, states: Iterable[PlanState], *, since_ms: int = 0, until_ms: int | None = None
    ) -> AsyncGenerator[PlanView, None]:
        views = self._client.export(states, since_ms=since_ms, until_ms=until_ms)
        while some := await self._run(_next, views):
            for view in some:
                yield view

    # -- asking -----------------------------------------------------------------------------------

    async def speak_for(self, who: str) -> None:
        await self._run(self._client.speak_for, who)

    async def resume(self, plan: str) -> None:
        await self._run(self._client.resume, plan)

    async def skip(self, plan: str, steps: Iterable[int]) -> None:
        await self._run(self._client.skip, plan, steps)

    async def retry(self, plan: str, steps: Iterable[int]) -> None:
        await self._run(self._client.retry, plan, steps)

    async def cancel(self, plan: str, *, grace: float = 10.0) -> None:
        await self._run(self._client.cancel, plan, grace=grace)

    async def halt(self, plan: str) -> None:
        await self._run(self._client.halt, plan)

    async def revert(self, plan: str) -> None:
        await self._run(self._client.revert, plan)

    async def send_event(self, plan: str, step: int, name: str, data: Any = None, *, optional: bool = False) -> None:
        await self._run(self._client.send_event, plan, step, name, data, optional=optional)

    # -- recurring plans --------------------------------------------------------------------------

    async def set_recurring(
        self,
        name: str,
        plan: Plan,
        *,
        cron: str,
        zone: str = "UTC",
        until: datetime | None = None,
        most: int = 0,
        missed: Literal["skip", "once", "all"] = "once",
    ) -> None:
        await self._run(
            self._client.set_recurring, name, plan, cron=cron, zone=zone, until=until, most=most, missed=missed
        )

    async def pause_recurring(self, name: str) -> None:
        await self._run(self._client.pause_recurring, name)

    async def resume_recurring(self, name: str) -> None:
        await self._run(self._client.resume_recurring, name)

    async def remove_recurring(self, name: str) -> None:
        await self._run(self._client.remove_recurring, name)

    async def recurring(self, name: str) -> RecurringView | None:
        return await self._run(self._client.recurring, name)

    async def all_recurring(self) -> Sequence[RecurringView]:
        return await self._run(self._client.all_recurring)

    # -- the last, as it hides a type -------------------------------------------------------------

    async def list(self, *, state: str | None = None, most: int = 50, children: bool = False) -> list[PlanView]:
        return await self._run(self._client.list, state=state, most=most, children=children)


class _Bell(asyncio.Event):
    """Rung when there is news of a plan; `state_only`: not for what its steps say."""

    def __init__(self, *, state_only: bool) -> None:
        super().__init__()
        self.state_only = state_only


class _Ears:
    """One connection that listens to the channels of all plans that somebody waits for.

    Who waits looks at the plan's state first when the subscription stands (which rings too), so nothing is missed.
    """

    def __init__(self, keys: Keys, dial: Callable[[], Any]) -> None:
        self._keys = keys
        self._dial = dial
        self._bells: dict[bytes, set[_Bell]] = {}  # by channel
        self._line: Line | None = None
        self._number = -1  # of its socket, which a line that is lost has closed
        self._dialing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def on(self, plan: str, *, state_only: bool) -> AsyncIterator[_Bell]:
        channel = self._keys.plan_channel(plan).encode()
        bell = _Bell(state_only=state_only)
        bells = self._bells.setdefault(channel, set())
        bells.add(bell)
        if len(bells) == 1:
            self._say("SUBSCRIBE", channel)
        try:
            yield bell
        finally:
            bells.discard(bell)
            if not bells and self._bells.get(channel) is bells:
                del self._bells[channel]
                self._say("UNSUBSCRIBE", channel)

    def _say(self, word: str, channel: bytes) -> None:
        if self._line is None:
            self._dialing = self._dialing or asyncio.create_task(self._connect())
            return
        try:
            self._line.send((word, channel))
        except Unavailable:
            self._lost()

    async def _connect(self) -> None:
        """Dial until somebody answers; then everything is subscribed to."""
        while self._line is None and self._bells:
            try:
                line: Line = await self._dial()
                line.send(("SUBSCRIBE", *self._bells))
            except (Unavailable, Refused):
                await asyncio.sleep(0.2)
            else:
                self._line, self._number = line, line.fileno()
                asyncio.get_running_loop().add_reader(self._number, self._read)
        self._dialing = None

    def _read(self) -> None:
        assert self._line is not None
        try:
            while self._line.ready():
                kind, channel, payload = self._line.read()
                if kind != b"unsubscribe":
                    self._ring(channel, said=payload == SAID)
        except (Unavailable, Refused):
            self._lost()

    def _ring(self, channel: bytes, *, said: bool) -> None:
        for bell in self._bells.get(channel, ()):
            if not (said and bell.state_only):
                bell.set()

    def _lost(self) -> None:
        self._hang_up()
        if self._bells:
            self._dialing = asyncio.create_task(self._connect())

    def _hang_up(self) -> None:
        if self._line is not None:
            asyncio.get_running_loop().remove_reader(self._number)
            self._line.close()
            self._line = None

    async def close(self) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            with suppress(asyncio.CancelledError):
                await self._dialing
        self._hang_up()


async def _heard(bell: _Bell, seconds: float) -> None:
    """Return when it is rung, or after that time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()


def _next(views: Iterator[PlanView]) -> list[PlanView]:
    return list(islice(views, 20))
