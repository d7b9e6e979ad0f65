"""What a client asks the orchestrator for: events that it decides on when it reads them.

Each is checked against the plan's state as it is now, so that a person hears at once what cannot be; by the time
the orchestrator reads it the plan may have moved on, and then it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

from msgspec import Raw

from chargehand.plan.asking import Request, plan_refuses, step_refuses
from chargehand.plan.calendar import Recurrence
from chargehand.planner import Plan
from chargehand.store import recurring, submission
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.recurring import RecurringView
from chargehand.wire import (
    MAX_EVENT,
    SYSTEM_EVENTS,
    Cancelled,
    Event,
    Halted,
    Recurring,
    Resumed,
    Retried,
    Reverted,
    Sent,
    Skipped,
    encode,
)

__all__ = ["NotPossible", "Requests", "no_plan"]

T = TypeVar("T")

_REMEMBER = 1_000  # plans that something was asked of


class NotPossible(Exception):
    """What was asked of a plan does not fit its state, or there is no such plan. The message says what would do."""


class Requests:
    """What `Client` has beside submitting, waiting and reading."""

    _keys: Keys
    _by: str
    _asked: dict[str, str]  # plan -> up to where in the inbox all is to be decided before it counts as paused

    def _ask(self, question: Callable[[Line], T]) -> T:
        """Ask; once more on a new connection when the one we had has ended since."""
        raise NotImplementedError

    def _connected(self) -> Line:
        raise NotImplementedError

    def speak_for(self, who: str) -> None:
        """Whose name stands by what is submitted and asked for from now on; at first it is this process's user."""
        self._by = who

    def resume(self, plan: str) -> None:
        """Run the failed steps of a paused plan again. Raises `NotPossible`."""
        self._request(Request.RESUME, plan, [Resumed(plan, self._by)])

    def skip(self, plan: str, steps: Iterable[int]) -> None:
        """Let a paused plan go on without these steps, which failed. Raises `NotPossible`."""
        some = list(steps)
        self._request(Request.SKIP, plan, [Skipped(plan, step, self._by) for step in some], some)

    def retry(self, plan: str, steps: Iterable[int]) -> None:
        """Run these steps again, which failed, and leave other failed ones as they are. Raises `NotPossible`."""
        some = list(steps)
        self._request(Request.RETRY, plan, [Retried(plan, step, self._by) for step in some], some)

    def cancel(self, plan: str, *, grace: float = 10.0) -> None:
        """Have a plan end: nothing new starts; what runs is told, and ended after `grace` seconds.

        A step that succeeds within the grace has succeeded. Raises `NotPossible`.
        """
        self._request(Request.CANCEL, plan, [Cancelled(plan, round(grace * 1000), self._by)])

    def halt(self, plan: str) -> None:
        """End a plan at once and for good, even while a step hangs. Raises `NotPossible`."""
        self._request(Request.HALT, plan, [Halted(plan, self._by)])

    def revert(self, plan: str) -> None:
        """Have a plan undone: nothing new starts, then what succeeded is reverted, backwards. Raises `NotPossible`."""
        self._request(Request.REVERT, plan, [Reverted(plan, self._by)])

    def send_event(self, plan: str, step: int, name: str, data: Any = None, *, optional: bool = False) -> None:
        """Send an event to a step; data is anything JSON, at most 64 KiB.

        It is kept until the step is suspended; an optional one is dropped unless the step is suspended when it comes.
        Raises `NotPossible`.
        """
        if name in SYSTEM_EVENTS:
            raise NotPossible(f"the event {name!r} comes from the system alone; choose another name")
        given = encode(data)
        if len(given) > MAX_EVENT:
            raise NotPossible(
                f"the data of event {name!r} is {len(given):,} bytes, the most is {MAX_EVENT:,}; "
                "send a path or a key instead of the data"
            )
        self._request(Request.SEND, plan, [Sent(plan, step, name, Raw(given), optional, self._by)], [step])

    def _request(self, request: Request, plan: str, events: Sequence[Event], steps: Sequence[int] = ()) -> None:
        """Ask the orchestrator for something that fits the plan's state as it is now."""
        standing = self._ask(lambda line: submission.standing(line, self._keys, plan, steps))
        if standing is None:
            raise NotPossible(no_plan(plan))
        refused = plan_refuses(request, standing.plan)
        if refused:
            raise NotPossible(f"plan {plan} is {refused}")
        for step, state in zip(steps, standing.steps, strict=True):
            if standing.plan is None:
                continue
            if state is None:
                raise NotPossible(f"plan {plan} has no step {step} (chargehand plan show {plan})")
            refused = step_refuses(request, state)
            if refused:
                raise NotPossible(f"step {step} of plan {plan} is {refused}")
        self._decide_first(plan, self._put(*events))

    def _decide_first(self, plan: str, position: str) -> None:
        """It does not count as paused before the inbox is decided on up to there."""
        self._asked[plan] = position
        while len(self._asked) > _REMEMBER:
            del self._asked[next(iter(self._asked))]

    def _put(self, *events: Event) -> str:
        """Not again when it is not answered, for an event that is sent twice comes twice: on a line that just did."""
        self._ask(lambda line: line.call("PING"))
        return submission.ask(self._connected(), self._keys, *events)[-1]

    def _undecided(self, plan: str) -> bool:
        """True while the orchestrator has not decided on what was asked of a plan."""
        position = self._asked.get(plan)
        if position is None:
            return False
        if self._ask(lambda line: submission.undecided(line, self._keys, position)):
            return True
        self._asked.pop(plan, None)
        return False

    # -- recurring plans --------------------------------------------------------------------------

    def set_recurring(
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
        """Have a plan run again and again, from its next time on; one of this name that exists is replaced.

        cron: "minute hour day month weekday", or "@daily" and the like, in the time zone `zone` ("Europe/Berlin").
        until: the last moment. most: runs in all. missed: what becomes of runs that were due while no orchestrator was
        active: none ("skip"), the last ("once"), each ("all"). Make the plan with `plan_on="worker"` when it plans by
        what it finds then. Raises `NotPossible`, `ActionError`.
        """
        recurrence = Recurrence(cron, zone, int(until.timestamp() * 1000) if until else 0, most, missed)
        try:
            event = recurring.setting(name, recurrence, plan.definition(self._by), self._by)
        except ValueError as error:
            raise NotPossible(f"recurring plan {name!r}: {error}") from error
        self._put(event)

    def pause_recurring(self, name: str) -> None:
        """No further runs, until it is resumed. Plans that are under way go on. Raises `NotPossible`."""
        self._recurring(name, "pause")

    def resume_recurring(self, name: str) -> None:
        """From its next time on; what would have run in between does not. Raises `NotPossible`."""
        self._recurring(name, "resume")

    def remove_recurring(self, name: str) -> None:
        """No further runs. Plans that are under way go on. Raises `NotPossible`."""
        self._recurring(name, "remove")

    def _recurring(self, name: str, what: str) -> None:
        if self.recurring(name) is None:
            raise NotPossible(f"there is no recurring plan {name!r} (chargehand recurring list)")
        self._put(Recurring(name, what, by=self._by))

    def recurring(self, name: str) -> RecurringView | None:
        """None: there is none of this name."""
        found = self._ask(lambda line: recurring.read_recurring(line, self._keys, name))
        return found[0] if found else None

    def all_recurring(self) -> Sequence[RecurringView]:
        """By name."""
        return self._ask(lambda line: recurring.read_recurring(line, self._keys))


def no_plan(plan: str) -> str:
    return f"there is no plan {plan!r} (chargehand plan list)"
