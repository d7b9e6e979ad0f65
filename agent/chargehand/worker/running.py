"""Running one attempt of one step: its inputs, its code, and what comes of it."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from chargehand.actions import Action, BadInput, Unretriable, lookup
from chargehand.commands import CommandAction
from chargehand.context import (
    Cancelled,
    Children,
    Event,
    Misused,
    Spawn,
    StepContext,
    SubPlansFailed,
    Suspend,
    running_as,
)
from chargehand.decoding import decode
from chargehand.linux.boot import boot_id
from chargehand.linux.units import going_down
from chargehand.store.work import Finish
from chargehand.wire import (
    MAX_OUTPUT,
    SUB_PLANS_FAILED,
    Failure,
    Finished,
    Result,
    Suspension,
    encode,
    read_boot,
    read_key,
    reverted_field,
    saved_field,
    spawned_field,
)
from chargehand.worker.code import run_async, run_here
from chargehand.worker.command import CommandFailed
from chargehand.worker.ending import Ended, Ending
from chargehand.worker.hand import Held
from chargehand.worker.inputs import output_of, resolve
from chargehand.worker.services import AttemptServices
from chargehand.worker.spawning import Brood
from chargehand.worker.workshop import Shop

__all__ = ["cancelled_before_start", "run_attempt"]

_CALLED_OFF = 5.0  # seconds between two looks whether a reboot is still under way
_OURS = ("chargehand/actions.py", "chargehand/worker/code.py")  # through which an author's code is called
_TRACE = 4_000  # characters of a traceback that are kept: its end, where the error is


def run_attempt(held: Held, shop: Shop, incarnation: str) -> Finish:
    """Run it on the calling thread."""
    return _Attempt(held, shop, incarnation).run()


def cancelled_before_start(held: Held, node: str, incarnation: str) -> Finish:
    """Its plan is being ended, and nobody has started it."""
    plan, step, attempt = read_key(held.entry.key)
    now = int(time.time() * 1000)
    failure = Failure(
        "cancelled", "cancelled before it started", node, incarnation, final=True, started_ms=now, ended_ms=now
    )
    return Finish(plan, held.entry.key, str(step), None, Finished(plan, step, attempt, failure))


class _TooLarge(Exception):
    """What a step gives is larger than an output may be."""


#: Why it failed; or what is kept, in which field of the plan's outputs, and for what the step waits.
_Outcome = tuple[Failure | None, Raw | None, str, Suspension | None]


class _Attempt:
    __slots__ = (
        "_attempt",
        "_brood",
        "_ending",
        "_extra",
        "_held",
        "_incarnation",
        "_plan",
        "_services",
        "_shop",
        "_started",
        "_step",
    )

    def __init__(self, held: Held, shop: Shop, incarnation: str) -> None:
        self._held = held
        self._extra = held.entry.extra
        self._shop = shop
        self._incarnation = incarnation
        self._started = time.time()
        self._plan, self._step, self._attempt = read_key(held.entry.key)
        self._services = AttemptServices(shop, held, self._plan, self._step)
        self._ending = Ending()
        self._brood: Brood | None = None

    def run(self) -> Finish:
        failure, value, field, suspended = self._outcome()
        result, children, gone = None, 0, ""
        if failure is None:
            assert value is not None
            result = Result(self._attempt, self._incarnation, self._shop.node, self._started_ms, _now_ms(), value)
            if self._extra.saved and suspended is None:
                gone = saved_field(self._step)
        else:
            if self._held.cancelled and failure.kind != "cancelled":
                message = f"cancelled: {failure.kind}: {failure.message}"
                failure = replace(failure, kind="cancelled", message=message, final=True)
            if self._brood is not None:
                children = self._brood.end
        event = Finished(self._plan, self._step, self._attempt, failure, suspended, children)
        return Finish(self._plan, self._held.entry.key, field, result, event, gone, self._services.close())

    @property
    def _started_ms(self) -> int:
        return int(self._started * 1000)

    def _outcome(self) -> _Outcome:
        name, node = self._held.entry.action, self._shop.node
        action = self._shop.actions.get(name) or lookup(self._shop.actions, name)
        if action is None:
            return self._failed("unknown action", f"the worker on {node} has no action {name!r}")
        if action.privileged and not self._shop.privileged:
            return self._failed(
                "privileged action",
                f"{action.name!r} runs only in a worker group with unit = true: its queue must be served by no other",
                final=True,
            )
        if self._shop.privileged and not action.privileged:
            return self._failed(
                "unprivileged action",
                f"{action.name!r} is not marked privileged = true, and this group (unit = true) runs nothing else",
                final=True,
            )
        self._held.ending = self._ending
        if self._held.cancelled:  # before there was an ending to be asked
            return self._failed("cancelled", "cancelled before it started", final=True)
        helps = action.options.retry.helps
        try:
            return self._kept(self._attempted(action))
        except Ended:
            kind, final = self._ending.kind, self._ending.kind == "timeout" and not helps(TimeoutError())
            return self._failed(kind, self._ending.reason, final=final)
        except CommandFailed as error:
            return self._failed(error.kind, str(error), trace=error.tail, final=not helps(error))
        except (BadInput, Unretriable) as error:
            return self._failed(type(error).__name__, str(error), final=True)
        except Cancelled as error:
            return self._failed("cancelled", str(error) or "cancelled", final=True)
        except _TooLarge as error:
            return self._failed("output too large", str(error), final=True)
        except SubPlansFailed as error:
            return self._failed(SUB_PLANS_FAILED, str(error), final=not helps(error))
        except Exception as error:
            return self._failed(type(error).__name__, str(error), trace=_trace(error), final=not helps(error))
        except SystemExit as error:
            return self._failed("SystemExit", f"the action called exit({error.code!r})")

    def _failed(self, kind: str, message: str, *, trace: str = "", final: bool = False) -> _Outcome:
        failure = Failure(
            kind=kind,
            message=message,
            node=self._shop.node,
            worker=self._incarnation,
            trace=trace[-_TRACE:],
            final=final,
            started_ms=self._started_ms,
            ended_ms=_now_ms(),
        )
        return failure, None, "", None

    def _kept(self, value: Any) -> _Outcome:
        """What Redis keeps of what the code gave."""
        if isinstance(value, Suspend):
            suspension = Suspension(value.wake_ms, value.event)
            return None, _encoded(value.saved, "what it saves"), saved_field(self._step), suspension
        if isinstance(value, Brood):
            suspension = Suspension(children=value.started, end=value.end)
            return None, _encoded(value.record, ""), spawned_field(self._step), suspension
        field = reverted_field(self._step) if self._extra.output else str(self._step)
        return None, _encoded(value, "the output"), field, None

    # -- the code ---------------------------------------------------------------------------------

    def _attempted(self, action: Action[..., Any]) -> Any:
        """What its code gives. Raises what it raises."""
        extra = self._extra
        command = action if isinstance(action, CommandAction) else None
        if extra.boot and self._rebooted(extra.boot):
            return {"exit": None, "stdout": "", "stderr": "", "rebooted": True} if command else {"rebooted": True}
        inputs = resolve(self._held.entry.input, lambda steps: self._shop.fetch(self._plan, steps))
        if command is not None:
            value: Any = self._run_command(command, inputs)
        else:
            if extra.output and action.takes_output:
                inputs["output"] = output_of(self._shop.fetch(self._plan, [self._step])[0])
            event = self._event() if extra.event is not None else None
            context = self._context(event, self._saved() if extra.saved else None)
            value = self._call(action, inputs, context)
            if isinstance(value, Suspend | Spawn):
                return self._set_aside(value, action, inputs, context)
        if action.policy.reboots and not extra.output and going_down():
            self._rest()
        return value

    def _rebooted(self, key: str) -> bool:
        """True when the node is up again that this step went down with. Raises `Misused` on another node."""
        boot, node = read_boot(key)
        if node not in {"", self._shop.node}:
            raise Misused(
                f"it went down with {node}, to reboot it, and {self._shop.node} cannot tell whether that was done: "
                "aim it with node=, or give it a queue that one node alone serves"
            )
        return boot != boot_id()

    def _rest(self) -> None:
        """Its node goes down, and it asked for that: the next boot finishes it, unless somebody ends it before.

        Returns when the reboot was called off.
        """
        over = threading.Event()
        self._ending.by(over.set)
        self._held.resting = True
        try:
            while going_down():
                if over.wait(_CALLED_OFF):
                    raise Ended
        finally:
            self._held.resting = False
            self._ending.by(None)

    def _set_aside(
        self, value: Suspend | Spawn, action: Action[..., Any], inputs: dict[str, Any], context: StepContext
    ) -> Any:
        """The step waits for an event, or for the sub-plans that are started now."""
        if self._extra.output:
            raise Misused(f"{action.name!r} undoes a step, in one go: it cannot suspend or start sub-plans")
        if isinstance(value, Suspend):
            return value
        brood = self._spawn(value, context)
        if brood.started:
            return brood
        self._services.spawned = brood.record  # all have ended, for there are none: it goes on at once
        ended = Event("children", Children(brood.skipped, brood.skipped, 0))
        value = self._call(action, inputs, self._context(ended, context.saved))
        if isinstance(value, Spawn):
            raise Misused("told that all its sub-plans have ended, for there were none, it gave spawn(...) again")
        return value

    def _spawn(self, spawn: Spawn, context: StepContext) -> Brood:
        def run_code(code: Callable[[], Any]) -> Any:
            with running_as(context):
                return run_here(self._ending, code)

        self._brood = brood = Brood(
            spawn,
            context=context,
            actions=self._shop.actions,
            errands=self._services.errands,
            ending=self._ending,
            run_code=run_code,
        )
        brood.start()
        return brood

    def _run_command(self, command: CommandAction, inputs: dict[str, Any]) -> dict[str, Any]:
        variables = {
            "CHARGEHAND_PLAN": self._plan,
            "CHARGEHAND_STEP": str(self._step),
            "CHARGEHAND_ATTEMPT": str(self._attempt),
            "CHARGEHAND_NODE": self._shop.node,
        }
        return self._shop.run_command(command, inputs, variables, self._ending, self._services.reports.write)

    def _event(self) -> Event:
        """Why the step goes on."""
        extra = self._extra
        assert extra.event is not None
        if extra.children is None:
            return Event(extra.event[0], decode(extra.event[1]))
        self._services.spawned = spawned = self._services.read_spawned(self._shop.fetch)
        total, succeeded, failed = extra.children
        skipped = spawned.skipped if spawned is not None else 0  # they had succeeded before this try of the step
        return Event("children", Children(total + skipped, succeeded + skipped, failed))

    def _saved(self) -> Any:
        return output_of(self._shop.fetch(self._plan, [saved_field(self._step)])[0])

    def _context(self, event: Event | None, saved: Any) -> StepContext:
        extra = self._extra
        return StepContext(
            self._plan,
            self._step,
            self._attempt,
            self._shop.node,
            self._incarnation,
            tries=extra.tries,
            generation=extra.generation,
            saved=saved,
            event=event,
            services=self._services,
        )

    def _call(self, action: Action[..., Any], inputs: dict[str, Any], context: StepContext) -> Any:
        if action.awaits(context):
            return run_async(self._ending, action.run(inputs, context), self._shop.loop)
        return run_here(self._ending, action.run, inputs, context)


def _encoded(value: Any, what: str) -> Raw:
    encoded = encode(value)
    if len(encoded) > MAX_OUTPUT:
        raise _TooLarge(f"{what} is {len(encoded):,} bytes, the most is {MAX_OUTPUT:,}")
    return Raw(encoded)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _trace(error: BaseException) -> str:
    """From the author's own code on."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [index for index, frame in enumerate(frames) if frame.filename.endswith(_OURS)]
    frames_of_theirs = frames[ours[-1] + 1 :] if ours else frames
    return "".join(traceback.format_list(frames_of_theirs)) + "".join(traceback.format_exception_only(error))
