"""Those who wait on one event loop, and what is told of their plans: one connection listens for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from chargehand.store.connection import Line, Refused, Unavailable
from chargehand.store.keys import Keys
from chargehand.store.watching import SAID

__all__ = ["Bell", "Ears", "heard"]


class Bell(asyncio.Event):
    """Rung when there is news of a plan; `state_only`: not for what its steps say."""

    def __init__(self, *, state_only: bool) -> None:
        super().__init__()
        self.state_only = state_only


class Ears:
    """One connection that listens to the channels of all plans that somebody waits for.

    Who waits looks at the plan's state once more when it is listened to (which rings too), so nothing is missed.
    """

    def __init__(self, keys: Keys, dial: Callable[[], Any]) -> None:
        self._keys = keys
        self._dial = dial
        self._bells: dict[bytes, set[Bell]] = {}  # by channel
        self._line: Line | None = None
        self._number = -1  # of its socket, which a line that is lost has closed
        self._dialing: asyncio.Task[None] | None = None
        self._closed = False

    @asynccontextmanager
    async def on(self, plan: str, *, state_only: bool) -> AsyncIterator[Bell]:
        channel = self._keys.plan_channel(plan).encode()
        bell = Bell(state_only=state_only)
        bells = self._bells.setdefault(channel, set())
        bells.add(bell)
        if len(bells) == 1:
            self._say("SUBSCRIBE", channel)
        else:
            bell.set()  # what was told before it came, others have heard
        try:
            yield bell
        finally:
            bells.discard(bell)
            if not bells and self._bells.get(channel) is bells:
                del self._bells[channel]
                self._say("UNSUBSCRIBE", channel)

    def _say(self, word: str, channel: bytes) -> None:
        if self._line is None:
            if not self._closed:
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
        """Whoever still waits is woken, and finds that nothing can be asked any more."""
        self._closed = True
        if self._dialing is not None:
            self._dialing.cancel()
            await asyncio.gather(self._dialing, return_exceptions=True)
        self._hang_up()
        for bells in self._bells.values():
            for bell in bells:
                bell.set()


async def heard(bell: Bell, seconds: float) -> None:
    """Return when it is rung, or after that time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()
