"""Calling an author's code so that it can be ended: on the calling thread, or as a task."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from chargehand.context import Cancelled
from chargehand.worker.ending import Ended, Ending

__all__ = ["run_async", "run_here"]

P = ParamSpec("P")
T = TypeVar("T")


def run_here(ending: Ending, code: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it on this thread; if asked to end, it looks for that by itself. Raises what it raises, and `Ended`."""
    thread = threading.get_ident()
    ending.by(lambda: _interrupt(thread, Ended))
    try:
        return code(*args, **kwargs)
    finally:
        ending.by(None)
        if ending.kind:
            _interrupt(thread, None)  # one that was sent and has not arrived must not hit what comes next


def _interrupt(thread: int, error: type[BaseException] | None) -> None:
    """Raise `error` in a thread at its next bytecode; None takes back one that has not arrived.

    It cannot reach a thread inside a C call (a blocking read, a long computation of a library) before that
    returns; such an attempt stays visible as over its time-out.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(error) if error is not None else None
    )


def run_async(ending: Ending, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """The same on an event loop. Code that is asked to end is cancelled: `Cancelled` is raised if it lets that happen.

    Code that is ended is cancelled too, and not waited for.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    tasks: list[asyncio.Task[T]] = []

    def begin() -> None:
        tasks.append(loop.create_task(coroutine))
        tasks[0].add_done_callback(lambda task: _hand_over(task, future))

    def stop() -> None:
        tasks[0].cancel()  # `begin` has run before

    def cancel() -> None:
        loop.call_soon_threadsafe(stop)

    def abandon() -> None:
        cancel()
        future.cancel()

    loop.call_soon_threadsafe(begin)
    try:
        ending.by(abandon, cancel)
        return future.result()
    except Ended:  # before it was waited for
        cancel()
        raise
    except concurrent.futures.CancelledError:
        if ending.kind:
            raise Ended from None
        if ending.asked:
            raise Cancelled("cancelled") from None
        raise
    finally:
        ending.by(None)


def _hand_over(task: asyncio.Task[T], future: concurrent.futures.Future[T]) -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    with suppress(concurrent.futures.InvalidStateError):  # nobody waits for it any more
        if isinstance(error, asyncio.CancelledError):
            future.cancel()
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())
