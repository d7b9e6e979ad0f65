"""What the code of a step knows of its step, and what it can ask for: `current_step()`, or `self.step` in a class.

The worker makes the context of an attempt and stands behind it as its `Services`; the in-process executor of
`chargehand.testing` does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from chargehand.config.quantities import parse_duration, parse_rate
from chargehand.kinds import Item

__all__ = [
    "ActionError",
    "BadInput",
    "Cancelled",
    "Children",
    "Event",
    "Misused",
    "Services",
    "Spawn",
    "StepContext",
    "SubPlan",
    "SubPlansFailed",
    "Suspend",
    "Unretriable",
    "current_step",
    "running_as",
    "seconds",
]


class ActionError(Exception):
    """An action is declared wrongly, or there is no such action. The message is for its author."""


class BadInput(ActionError):
    """A step was given an input that its action does not take. The message names the parameter."""


class Misused(ActionError):
    """The code of a step asked for what cannot be. No further attempt can help."""


class Unretriable(Exception):
    """Raise this from an action (or derive from it) when no further attempt can help."""


class Cancelled(Exception):
    """Raise this from an action that has seen `step.cancelled` and stopped: the attempt ends as cancelled."""


class SubPlansFailed(Exception):
    """All sub-plans of a step have ended, and not all of them well."""


class Children(NamedTuple):
    """How the sub-plans of a step have ended: what comes with the event "children"."""

    total: int
    succeeded: int
    failed: int


class Event(NamedTuple):
    """Why a suspended step goes on."""

    name: str  # "wake", "children", "cancel", or what somebody sent
    data: Any = None


class SubPlan(NamedTuple):
    """One sub-plan of a step, after its end."""

    number: int  # of the item that it was made from
    plan: str  # its id
    state: str  # "succeeded", "failed", ...
    output: Any = None  # of its last step
    error: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Suspend:
    """What `suspend` gives, to be returned: the step waits for an event and keeps no thread."""

    saved: Any = None
    wake_ms: int = 0  # from now on; 0: until something happens
    event: str = "wake"  # the event that it gets then


@dataclass(frozen=True, slots=True, eq=False)
class Spawn:
    """What `spawn` gives, to be returned: the step starts these sub-plans and waits for their end."""

    items: Iterable[Item]
    limit: int = 0  # most of them at once; 0: all
    every_ms: float = 0.0  # between the starts of two of them
    held: frozenset[str] = frozenset()  # locks that they ask for and that the step's plan holds for them


A = TypeVar("A", Suspend, Spawn)
T = TypeVar("T")


class Services(Protocol):
    """What stands behind a context: a worker."""

    @property
    def cancelled(self) -> bool: ...

    def progress(self, fraction: float, message: str) -> None: ...

    def say(self, text: str) -> None: ...

    def results(self, *, failed: bool) -> Iterator[SubPlan]:
        """The sub-plans of this step by number; `failed`: only those that did not succeed."""


class StepContext:
    """Where and as what the running code runs. One object an attempt."""

    def __init__(
        self,
        plan: str,
        step: int,
        attempt: int,
        node: str,
        worker: str,
        *,
        tries: int = 0,
        generation: int = 0,
        saved: Any = None,
        event: Event | None = None,
        services: Services | None = None,
    ) -> None:
        self.plan = plan
        self.step = step
        self.attempt = attempt  # counts every start: also after a loss or an event
        self.node = node
        self.worker = worker
        self.tries = tries  # failed tries before this one
        self.generation = generation  # how often its sub-plans have all ended
        self.saved = saved  # what it gave to `suspend`
        self.event = event  # why it goes on after it was suspended; None: it starts
        self.inputs: Mapping[str, Any] = {}
        self._services = services
        self._asked: Suspend | Spawn | None = None

    def __repr__(self) -> str:
        return f"<step {self.step} of plan {self.plan}, attempt {self.attempt}>"

    @property
    def children(self) -> Children | None:
        """With the event "children": how the sub-plans ended."""
        return self.event.data if self.event is not None and isinstance(self.event.data, Children) else None

    @property
    def cancelled(self) -> bool:
        """Its plan is cancelled: stop soon (and raise `Cancelled`); when the grace is over the attempt is ended."""
        return self._services is not None and self._services.cancelled

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far it is, 0 to 1. Cheap: it is sent a few times a second at most. Raises `ValueError`."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is a fraction from 0 to 1, not {fraction!r}")
        if self._services is not None:
            self._services.progress(float(fraction), message)

    def say(self, text: str) -> None:
        """A line for those who watch the plan."""
        if self._services is not None:
            self._services.say(text)

    def results(self, *, failed: bool = False) -> Iterator[SubPlan]:
        """This step's sub-plans and what came of them, by number; `failed`: only those that did not succeed."""
        return self._services.results(failed=failed) if self._services is not None else iter(())

    def suspend(self, saved: Any = None, *, wake: float | str | None = None, event: str = "wake") -> Suspend:
        """Return what this gives: the step waits for an event, on no thread and through every failure.

        saved: anything JSON; `step.saved` when it goes on. wake: after this long (seconds, or "2s") it gets `event`;
        None: it waits for an event that somebody sends. Raises `Misused`.
        """
        wake_ms = 0 if wake is None else max(1, round(seconds(wake, "suspend(wake=...)") * 1000))
        return self.ask(Suspend(saved, wake_ms, event))

    def spawn(
        self,
        items: Iterable[Item],
        *,
        limit: int | None = None,
        rate: str | None = None,
        spread: float | str | None = None,
    ) -> Spawn:
        """Return what this gives: the step starts a sub-plan an item, and goes on when all of them have ended.

        items: plans, or `(action, inputs)`; may be a generator, which is drawn from after the action has returned.
        limit: most sub-plans at once. rate: most starts in a time ("10/s", "100/m"). spread: the time over which their
        starts are spread evenly (seconds, or "1h"); needs items that have a length. Raises `Misused`.
        """
        if rate is not None and spread is not None:
            raise Misused("spawn takes rate=... or spread=..., not both")
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise Misused(f"spawn(limit={limit!r}): the most that run at once, 1 or more")
        every = 0.0
        if rate is not None:
            try:
                count, in_ms = parse_rate(rate)
            except ValueError as error:
                raise Misused(f"spawn(rate={rate!r}): {error}") from error
            every = in_ms / count
        elif spread is not None:
            if not isinstance(items, Sized):
                raise Misused(
                    "spawn(spread=...) needs items that have a length, as a list; for a generator say rate=..."
                )
            every = seconds(spread, "spawn(spread=...)") * 1000 / max(1, len(items))
        return self.ask(Spawn(items, limit or 0, every))

    def ask(self, what: A) -> A:
        """Note that this has to be returned. Raises `Misused` when there was another."""
        if self._asked is not None:
            raise Misused("suspend(...) or spawn(...) was called before; an attempt calls one of them, once")
        self._asked = what
        return what

    def returned(self, output: Any) -> Any:
        """What the code gave back: its output, a `Suspend` or a `Spawn`. Raises `Misused` when it gave back another."""
        if self._asked is not output and (self._asked is not None or isinstance(output, Suspend | Spawn)):
            word = "spawn" if isinstance(self._asked or output, Spawn) else "suspend"
            raise Misused(f"what {word}(...) gives must be returned by the action, in the attempt that called it")
        return output


_current: ContextVar[StepContext] = ContextVar("chargehand_step")


def current_step() -> StepContext:
    """The step that the calling code runs in. Raises `LookupError` outside of one."""
    return _current.get()


def call_as(context: StepContext, code: Callable[[], T]) -> T:
    """What `code` gives, called with `current_step()` being this one."""
    token = _current.set(context)
    try:
        return code()
    finally:
        _current.reset(token)


class running_as:  # noqa: N801 - it is used as `contextmanager` functions are, and costs less: every attempt has one
    """Inside, `current_step()` is this one."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: StepContext) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = _current.set(self._context)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def seconds(value: float | str, what: str) -> float:
    """A duration as authors write it: seconds, or "500ms", "5s", "2m". Raises `ActionError`, beginning with `what`."""
    if isinstance(value, str):
        try:
            return float(parse_duration(value))
        except ValueError as error:
            raise ActionError(f"{what}: {error}") from error
    if value < 0:
        raise ActionError(f"{what}: {value} s is negative")
    return float(value)
