"""Running one attempt of one step: its inputs, its code, its end."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from chargehand.actions import Action, BadInput, StepInfo, Unretriable
from chargehand.commands import CommandAction
from chargehand.wire import MAX_OUTPUT, Failure, Result, encode, read_key
from chargehand.worker.command import CommandFailed, Runner
from chargehand.worker.hand import Held

__all__ = ["Ended", "Outcome", "run_attempt"]

Outcome = Result | Failure

_TRACE = 4_000  # characters of a traceback that are kept: its end, where the error is


class Ended(BaseException):
    """Raised inside an action's code when its attempt is ended; no `Exception`, so that code does not swallow it."""


def run_attempt(
    held: Held,
    actions: dict[str, Action[..., Any]],
    *,
    privileged: bool,
    node: str,
    incarnation: str,
    runner: Runner,
    loop: Callable[[], asyncio.AbstractEventLoop],
    fetch: Callable[[str, list[int]], list[bytes | None]],
) -> Outcome:
    """Run it on the calling thread. `privileged`: this worker runs privileged actions and no others.

    `fetch` reads results of earlier steps; `loop` is where `async def` runs.
    """
    entry = held.entry
    plan, step, attempt = read_key(entry.key)
    started = time.time()

    def failure(kind: str, message: str, *, trace: str = "", final: bool = False) -> Failure:
        return Failure(
            kind=kind,
            message=message,
            node=node,
            worker=incarnation,
            trace=trace[-_TRACE:],
            final=final,
            started_ms=int(started * 1000),
            ended_ms=int(time.time() * 1000),
        )

    action = actions.get(entry.action)
    if action is None:
        return failure("unknown action", f"the worker on {node} has no action {entry.action!r}")
    if action.privileged and not privileged:
        return failure(
            "privileged action",
            f"{action.name!r} runs only in a worker group with unit = true: its queue must be served by no other",
            final=True,
        )
    if privileged and not action.privileged:
        return failure(
            "unprivileged action",
            f"{action.name!r} is not marked privileged = true, and this group (unit = true) runs nothing else",
            final=True,
        )
    info = StepInfo(plan, step, attempt, node, incarnation)
    ending = _Ending(held)
    try:
        inputs = resolve(entry.input, lambda steps: fetch(plan, steps))
        if isinstance(action, CommandAction):
            output: Any = runner.run(action, inputs, info, ending.by)
        elif action.is_async:
            output = _run_async(action, inputs, info, loop(), ending)
        else:
            output = _run_here(action, inputs, info, ending)
        encoded = encode(output)
    except Ended:
        return failure("timeout" if ending.reason.startswith("timeout") else "ended", ending.reason)
    except CommandFailed as error:
        return failure(error.kind, str(error), trace=error.tail)
    except (BadInput, Unretriable) as error:
        return failure(type(error).__name__, str(error), final=True)
    except (TypeError, msgspec.EncodeError) as error:
        return failure(type(error).__name__, str(error), trace=_trace(error))
    except Exception as error:
        return failure(type(error).__name__, str(error), trace=_trace(error))
    except SystemExit as error:
        return failure("SystemExit", f"the action called exit({error.code!r})")
    if len(encoded) > MAX_OUTPUT:
        return failure(
            "output too large",
            f"the output is {len(encoded):,} bytes, the most is {MAX_OUTPUT:,}",
            final=True,
        )
    return Result(attempt, incarnation, node, int(started * 1000), int(time.time() * 1000), Raw(encoded))


def _trace(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [index for index, frame in enumerate(frames) if frame.filename.endswith("chargehand/actions.py")]
    frames_of_theirs = frames[ours[-1] + 1 :] if ours else frames
    return "".join(traceback.format_list(frames_of_theirs)) + "".join(traceback.format_exception_only(error))


# -- inputs ---------------------------------------------------------------------------------------


def resolve(given: Raw, fetch: Callable[[list[int]], list[bytes | None]]) -> dict[str, Any]:
    """The inputs, with references replaced by outputs. Raises `BadInput` for an output that is not there."""
    inputs: dict[str, Any] = msgspec.json.decode(given)
    if b'"$ref' not in bytes(given):
        return inputs
    wanted: set[int] = set()
    _walk(inputs, lambda steps, _: wanted.update(steps))
    order = sorted(wanted)
    outputs: dict[int, Any] = {}
    for step, found in zip(order, fetch(order), strict=True):
        if found is None:
            raise BadInput(f"the output of step {step} is not there (any more)")
        outputs[step] = msgspec.json.decode(msgspec.json.decode(found, type=Result).output)

    def pick(step: int, path: list[Any]) -> Any:
        value = outputs[step]
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError) as error:
                raise BadInput(f"the output of step {step} has no {path!r}: {type(error).__name__}: {error}") from error
        return value

    replaced: dict[str, Any] = _walk(inputs, lambda steps, path: [pick(step, path) for step in steps])
    return replaced


def _walk(value: Any, at: Callable[[list[int], list[Any]], Any]) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            found = at([value["$ref"]], value.get("path", []))
            return found[0] if found else None
        if "$refs" in value:
            first, end = value["$refs"]
            return at(list(range(first, end)), value.get("path", []))
        return {key: _walk(inner, at) for key, inner in value.items()}
    if isinstance(value, list):
        return [_walk(inner, at) for inner in value]
    return value


# -- code -----------------------------------------------------------------------------------------


class _Ending:
    """How the running attempt is ended from another thread: once, and only while its code runs."""

    def __init__(self, held: Held) -> None:
        self._lock = threading.Lock()
        self._how: Callable[[], None] | None = None
        self.reason = ""
        held.end = self.end

    def by(self, how: Callable[[], None] | None) -> None:
        """Say how to end what runs now (None: nothing runs any more). Raises `Ended` when it was ended already."""
        with self._lock:
            self._how = how
            if self.reason and how is not None:
                raise Ended

    def end(self, reason: str) -> None:
        with self._lock:
            if self.reason:
                return
            self.reason = reason
            if self._how is not None:
                self._how()


def _run_here(action: Action[..., Any], inputs: dict[str, Any], info: StepInfo, ending: _Ending) -> Any:
    thread = threading.get_ident()
    ending.by(lambda: _interrupt(thread, Ended))
    try:
        return action.run(inputs, info)
    finally:
        ending.by(None)
        if ending.reason:
            _interrupt(thread, None)  # one that was sent and has not arrived must not hit what comes next


def _interrupt(thread: int, error: type[BaseException] | None) -> None:
    """Raise `error` in a thread at its next bytecode; None takes back one that has not arrived.

    It cannot reach a thread inside a C call (a blocking read, a long computation of a library) before that
    returns; such an attempt stays visible as over its time-out.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(error) if error is not None else None
    )


def _run_async(
    action: Action[..., Any],
    inputs: dict[str, Any],
    info: StepInfo,
    loop: asyncio.AbstractEventLoop,
    ending: _Ending,
) -> Any:
    future = asyncio.run_coroutine_threadsafe(action.run(inputs, info), loop)
    ending.by(lambda: (future.cancel(), None)[1])
    try:
        return future.result()
    except BaseException:
        if ending.reason:
            raise Ended from None
        raise
    finally:
        ending.by(None)
