"""An executor within one process and thread."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Raw

from chargehand.actions import Action, ActionError, find, lookup, registered
from chargehand.context import seconds
from chargehand.kinds import ActionLike
from chargehand.plan.asking import Request, plan_refuses, step_refuses
from chargehand.planner import Plan
from chargehand.store.submission import prepare
from chargehand.testing.execution import Attempt, Execution
from chargehand.testing.memory import Memory
from chargehand.testing.shop import Bench, Stub
from chargehand.wire import (
    MAX_EVENT,
    Cancelled,
    Entry,
    Event,
    Finished,
    Halted,
    Resumed,
    Retried,
    Reverted,
    Sent,
    Skipped,
    encode,
    read_key,
)
from chargehand.worker.hand import Held
from chargehand.worker.running import run_attempt

__all__ = ["Executor", "Runaway"]

_WORKER = "testing"


class Runaway(AssertionError):
    """A step runs again and again. The message names it."""


class Executor:
    """Plans that are submitted run here, at once.

    actions: by name (default: all that are registered; `load_actions(settings).actions` has the commands too).
    instead: action or its name -> what runs in its place, a function that takes some of its inputs, or what it gives.
    node: where steps run that are not aimed at another. now: what the clock shows first (default: the real time).
    most_attempts: of one step; beyond that `Runaway` is raised.
    """

    def __init__(
        self,
        *,
        actions: Mapping[str, Action[..., Any]] | None = None,
        instead: Mapping[ActionLike, Any] | None = None,
        node: str = "node-a",
        now: datetime | None = None,
        most_attempts: int = 1_000,
    ) -> None:
        if now is not None and now.tzinfo is None:
            raise ValueError(f"now={now} has no time zone; say which, as in datetime(2026, 1, 1, tzinfo=UTC)")
        self._actions = registered if actions is None else actions
        self._stubs: dict[str, Action[..., Any]] = {}
        for which, what in (instead or {}).items():
            found = find(self._actions, which)
            if found.plans and not found.runs:
                raise ActionError(f"action {found.name!r} plans its steps itself: say what runs instead of those")
            self._stubs[found.name] = Stub(found, what)
        self._node = node
        self._memory = Memory(int((now or datetime.now(UTC)).timestamp() * 1000))
        self._most_attempts = most_attempts
        self._attempts: list[Attempt] = []
        self._held: Held | None = None  # what runs now
        self._plans = 0

    # -- plans ------------------------------------------------------------------------------------

    def run(self, what: Plan | ActionLike, /, **inputs: Any) -> Execution:
        """Submit it and let time pass until nothing happens by itself any more: see `submit` and `finish`."""
        execution = self.submit(what, **inputs)
        self.finish()
        return execution

    def submit(self, what: Plan | ActionLike, /, **inputs: Any) -> Execution:
        """Submit a plan, or an action with its inputs, and run all that can run now; the clock stands still.

        Raises `BadInput` and `ActionError` as planning does.
        """
        if isinstance(what, Plan):
            if inputs:
                raise TypeError("the inputs of a plan's steps are in the plan")
            plan = what
        else:
            plan = self.plan(find(self._actions, what).name)
            plan.add(what, **inputs)
        self._plans += 1
        name = f"p{self._plans}"
        definition = plan.definition("test", now_ms=self._memory.now_ms)
        self._memory.submit(prepare(name, definition, submitted_ms=self._memory.now_ms))
        self._settle()
        return self._execution(name)

    def plan(self, label: str, **options: Any) -> Plan:
        """A plan to add steps to, with the options of `Plan`."""
        return Plan(label, self._actions, **options)

    def executions(self, label: str | None = None) -> list[Execution]:
        """All plans so far, sub-plans and hooks too; only those of one label, which is the name of their action."""
        found = self._memory.definitions
        return [self._execution(plan) for plan in found if label is None or found[plan].label == label]

    # -- time -------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """What its clock shows."""
        return datetime.fromtimestamp(self._memory.now_ms / 1000, UTC)

    def advance(self, by: float | str | timedelta) -> None:
        """Let this much time pass (seconds, or "10m"), and all happen that falls due in it."""
        passed = by.total_seconds() if isinstance(by, timedelta) else seconds(by, "advance")
        until = self._memory.now_ms + round(passed * 1000)
        self._pass(until)
        self._memory.now_ms = until
        self._settle()

    def finish(self) -> None:
        """Let time pass until nothing happens by itself any more: what is left waits for an event, or for a person."""
        self._pass(None)

    def _pass(self, until: int | None) -> None:
        self._settle()
        following = self._memory.next_timer_ms()
        while following is not None and (until is None or following <= until):
            self._memory.now_ms = max(self._memory.now_ms, following)
            self._settle()
            following = self._memory.next_timer_ms()

    # -- asking -----------------------------------------------------------------------------------

    def send(self, execution: Execution, name: str, data: Any = None, *, step: int | None = None) -> None:
        """Send an event to a step (default: the one that is suspended). Raises `ValueError` when it takes none."""
        encoded = encode(data)
        if len(encoded) > MAX_EVENT:
            raise ValueError(f"the data of an event is {len(encoded):,} bytes, the most is {MAX_EVENT:,}")
        if step is None:
            waiting = [one.step for one in execution.steps if one.state == "suspended"]
            if len(waiting) != 1:
                raise ValueError(f"step=... is needed: of {execution!r} {len(waiting)} steps are suspended ({waiting})")
            step = waiting[0]
        self._ask(Request.SEND, execution, Sent(execution.id, step, name, Raw(encoded), by="test"), step)

    def cancel(self, execution: Execution, *, grace: float | str = 10.0) -> None:
        """As `chargehand plan cancel`. An action may call this of its own plan: its `step.cancelled` is true then."""
        grace_ms = round(seconds(grace, "grace") * 1000)
        if self._held is not None and read_key(self._held.entry.key)[0] == execution.id:
            self._held.cancel(grace_ms)
        self._ask(Request.CANCEL, execution, Cancelled(execution.id, grace_ms, "test"))

    def halt(self, execution: Execution) -> None:
        self._ask(Request.HALT, execution, Halted(execution.id, "test"))

    def revert(self, execution: Execution) -> None:
        self._ask(Request.REVERT, execution, Reverted(execution.id, "test"))

    def resume(self, execution: Execution) -> None:
        """Run the failed steps of a paused plan again."""
        self._ask(Request.RESUME, execution, Resumed(execution.id, "test"))

    def retry(self, execution: Execution, step: int) -> None:
        self._ask(Request.RETRY, execution, Retried(execution.id, step, "test"), step)

    def skip(self, execution: Execution, step: int) -> None:
        self._ask(Request.SKIP, execution, Skipped(execution.id, step, "test"), step)

    def _ask(self, request: Request, execution: Execution, event: Event, step: int | None = None) -> None:
        refused = plan_refuses(request, self._memory.plan_state(execution.id))
        if refused is not None:
            raise ValueError(f"plan {execution.id} is {refused}")
        if step is not None:
            refused = step_refuses(request, self._memory.step_state(execution.id, step))
            if refused is not None:
                raise ValueError(f"step {step} of plan {execution.id} is {refused}")
        self._memory.put(event)
        self._settle()

    # -- running ----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """All that can happen without time passing."""
        if self._held is not None:  # an action asks: it goes on when that has ended
            return
        self._memory.settle()
        while (entry := self._memory.take()) is not None:
            self._attempt(entry)
            self._memory.settle()

    def _attempt(self, entry: Entry) -> None:
        plan, step, number = read_key(entry.key)
        if number > self._most_attempts:
            raise Runaway(
                f"step {step} of plan {plan} ({entry.action}) has run {self._most_attempts:,} times; "
                "it goes on for ever, or wants Executor(most_attempts=...)"
            )
        aimed = self._memory.definitions[plan].steps[step].node
        action = lookup(self._actions, entry.action)
        shop = Bench(
            self._memory,
            {**self._actions, **self._stubs},
            aimed or self._node,
            privileged=action is not None and action.privileged,
        )
        self._held = held = Held(None, entry)
        try:
            one = run_attempt(held, shop, _WORKER)
        finally:
            self._held = None
        self._memory.finish(one)
        self._attempts.append(
            Attempt(plan, step, entry.action, number, self.now, _event(entry), _outcome(one.event), _error(one.event))
        )

    def _execution(self, plan: str) -> Execution:
        return Execution(plan, self._memory, self._attempts)


def _event(entry: Entry) -> str | None:
    if entry.extra.children is not None:
        return "children"
    return entry.extra.event[0] if entry.extra.event is not None else None


def _outcome(finished: Finished) -> str:
    if finished.suspended is not None:
        return "suspended"
    if finished.failure is None:
        return "succeeded"
    return "cancelled" if finished.failure.kind == "cancelled" else "failed"


def _error(finished: Finished) -> str:
    failure = finished.failure
    return f"{failure.kind}: {failure.message}" if failure is not None else ""
