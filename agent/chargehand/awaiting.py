"""What blocks, for programs with an event loop: the methods of a class, to be awaited.

    class AsyncClient(Awaited[Client]):
        submit = awaited(Client.submit)

Parameters, types and docstrings are those of the method that is named. What waits for long is written anew, for the
event loop: there is one thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from itertools import islice
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

__all__ = ["Awaited", "Run", "Thread", "awaited", "each_awaited"]

P = ParamSpec("P")
T = TypeVar("T")
S_co = TypeVar("S_co", covariant=True)


class Run(Protocol):
    """Calls something where it may block, and gives what it returns."""

    async def __call__(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


class Thread:
    """Calls go through it one at a time, as they go over one connection. For one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "chargehand-client")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = False

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._ended:
            raise RuntimeError("this client is closed: nothing can be asked of it any more")
        self._loop = asyncio.get_running_loop()
        return await self._loop.run_in_executor(self._pool, partial(call, *args, **kwargs))

    def back(self, call: Callable[[str], None], text: str) -> None:
        """Have something called on the event loop, from what runs here."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(call, text)

    async def end(self, last: Callable[[], None]) -> None:
        """Call this when all is done that was asked for, and nothing after it."""
        if not self._ended:
            self._ended = True
            await asyncio.get_running_loop().run_in_executor(self._pool, last)
            self._pool.shutdown()


class Awaited(Generic[S_co]):
    """Something that blocks, and the way to it."""

    def __init__(self, blocking: S_co, run: Run) -> None:
        self._blocking = blocking
        self._run = run


def awaited(
    method: Callable[Concatenate[S_co, P], T],
) -> Callable[Concatenate[Awaited[S_co], P], Coroutine[Any, Any, T]]:
    """The same method, to be awaited."""

    @wraps(method)
    async def run(self: Awaited[S_co], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(method, self._blocking, *args, **kwargs)

    return run


def each_awaited(
    method: Callable[Concatenate[S_co, P], Iterator[T]],
) -> Callable[Concatenate[Awaited[S_co], P], AsyncGenerator[T, None]]:
    """A method that gives one thing after another, which are read some at once."""

    @wraps(method)
    async def run(self: Awaited[S_co], /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        found = method(self._blocking, *args, **kwargs)
        while some := await self._run(_next, found):
            for one in some:
                yield one

    return run


def _next(found: Iterator[T]) -> list[T]:
    return list(islice(found, 20))
