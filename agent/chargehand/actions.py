"""Actions: the units of user code, as their authors write them.

A function is an action by `@action`. If its first parameter is a `Plan`, it plans: it is called where the
plan is submitted, and adds steps. Every other function runs: it is called on a worker, with its inputs as
keyword arguments, and what it returns (anything JSON) is the step's output. `async def` works for both kinds
of worker code; a command is declared in TOML instead (`[[action]]`).

A class is an action with phases: `run`, and as it needs them `plan`, `event`, `cancel`, `finalize` and `revert`.
Steps name what a worker runs by the action's name, or `NAME:PHASE` (`lookup`).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property, partial
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from msgspec.structs import replace

from chargehand.config.asking import CALLED_WITH
from chargehand.context import (
    ActionError,
    BadInput,
    Cancelled,
    Spawn,
    StepContext,
    SubPlansFailed,
    Suspend,
    Unretriable,
    call_as,
    current_step,
    running_as,
)
from chargehand.kinds import ActionLike, Planning, Registered
from chargehand.options import ActionOptions, HookAction, Retry, read_options
from chargehand.signature import Parameter, Signature, hints
from chargehand.wire import Policy

__all__ = [
    "Action",
    "ActionError",
    "BadInput",
    "Cancelled",
    "ClassAction",
    "Retry",
    "StepContext",
    "Unretriable",
    "action",
    "current_step",
    "find",
    "find_hook",
    "lookup",
    "registered",
]

P = ParamSpec("P")
R = TypeVar("R")


class Action(Registered, Generic[P, R]):
    """A registered action, or one phase of it. Calling it calls the function itself, as in a unit test."""

    def __init__(self, function: Callable[P, R], **given: Unpack[ActionOptions]) -> None:
        self.function = function
        self._call: Callable[..., Any] = function
        self.name = given.get("name") or function.__name__
        self.options = read_options(given, self.name)
        self.policy = self.options.policy
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<action {self.name}>"

    @property
    def privileged(self) -> bool:
        return self.options.privileged

    # -- planning ---------------------------------------------------------------------------------

    @cached_property
    def plans(self) -> bool:
        """True when it adds steps to a plan: when its first parameter is a `Plan`."""
        first = next(iter(inspect.signature(self.function).parameters.values()), None)
        hint = hints(self.function, f"action {self.name!r}").get(first.name) if first is not None else None
        return isinstance(hint, type) and issubclass(hint, Planning)

    @cached_property
    def signature(self) -> Signature:
        """Of what is given inputs: of the planning code where it plans, else of the code that runs."""
        return Signature(f"action {self.name!r}", self.function, skip=1 if self.plans else 0)

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        return self.signature.parameters

    def check(
        self, inputs: Mapping[str, Any], *, unknown_yet: Callable[[Any], bool], loose: bool = False
    ) -> dict[str, Any]:
        """As `Signature.check`."""
        return self.signature.check(inputs, unknown_yet=unknown_yet, loose=loose)

    def make(self, plan: Planning, inputs: Mapping[str, Any]) -> Any:
        """Call its planning code; the inputs are checked."""
        return self._call(plan, **inputs)

    def phase(self, name: str) -> Action[..., Any] | None:
        """What a worker runs as `NAME:name`; None when it has no such phase."""
        return self._planning_phase if name == "plan" and self.plans else None

    @cached_property
    def _planning_phase(self) -> Action[..., Any]:
        return _PlanPhase(self)

    @property
    def runs(self) -> bool:
        """True when a worker runs steps of it."""
        return not self.plans

    # -- running ----------------------------------------------------------------------------------

    @property
    def run_signature(self) -> Signature:
        """Of the code that a worker runs."""
        return self.signature

    @property
    def takes_output(self) -> bool:
        """A revert that wants the output which the step has left, as the input `output`."""
        return False

    @cached_property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def awaits(self, context: StepContext) -> bool:
        """True when `run` gives a coroutine for this context."""
        return self.is_async and context.children is None

    def run(self, inputs: dict[str, Any], context: StepContext) -> Any:
        """Call the code for one attempt, on the calling thread; an `async def` gives its coroutine.

        `inputs` are as JSON gave them. Returns the output, a `Suspend` or a `Spawn`. Raises what the code raises,
        `BadInput`, `Misused`, `Cancelled`, and `SubPlansFailed`.
        """
        code = self._code(inputs, context)
        if self.awaits(context):
            return _in_task(code, context)
        return context.returned(call_as(context, code))

    def _code(self, inputs: dict[str, Any], context: StepContext) -> Callable[[], Any]:
        context.inputs = arguments = self.run_signature.typed(inputs)
        if context.event is not None and context.children is not None:
            return partial(_children_ended, context)
        return partial(self._call, **arguments)


async def _in_task(code: Callable[[], Any], context: StepContext) -> Any:
    with running_as(context):  # in the task's own context
        return context.returned(await code())


def _children_ended(context: StepContext) -> dict[str, int]:
    """For code that has no `event`: the output of a step when its sub-plans have ended."""
    assert context.children is not None
    total, succeeded, failed = context.children
    if failed:
        first = next(context.results(failed=True), None)
        named = f" (first: {first.plan}: {first.error or first.state})" if first is not None else ""
        raise SubPlansFailed(f"{failed:,} of {total:,} sub-plans failed{named}")
    return {"total": total, "succeeded": succeeded, "failed": 0}


class _PlanPhase(Action[..., Any]):
    """`NAME:plan`: planning code on a worker. The plan that it makes is the step's one sub-plan."""

    def __init__(self, owner: Action[..., Any]) -> None:
        self.owner = owner
        self.function = owner.function
        self.name = f"{owner.name}:plan"
        self.options = owner.options
        self.policy = _phase_policy(owner, self.name, timeout_ms=0)  # the time-out is of what runs

    @cached_property
    def plans(self) -> bool:
        return False

    @cached_property
    def signature(self) -> Signature:
        return self.owner.signature

    @cached_property
    def is_async(self) -> bool:
        return False  # what it calls is `spawn`

    def _code(self, inputs: dict[str, Any], context: StepContext) -> Callable[[], Any]:
        if context.children is not None:
            return partial(_children_ended, context)
        held = frozenset(lock.name for lock in self.options.locks)
        return partial(context.ask, Spawn([(self.owner, inputs)], held=held))


class ClassAction(Action[P, R]):
    """An action that is a class. Each attempt has an instance of its own, with the context as its `step`."""

    def __init__(self, function: Callable[P, R], **given: Unpack[ActionOptions]) -> None:
        super().__init__(function, **given)
        self._class: Any = function
        self._phases = {word for word in _PHASES if callable(getattr(function, word, None))}
        _check_class(self._class, self._phases, f"action {self.name!r}")
        self.policy = replace(self.policy, revert="revert" in self._phases, cancels="cancel" in self._phases)

    @cached_property
    def plans(self) -> bool:
        return "plan" in self._phases

    @property
    def runs(self) -> bool:
        return "run" in self._phases

    @cached_property
    def signature(self) -> Signature:
        return Signature(f"action {self.name!r}", self._class.plan, skip=2) if self.plans else self.run_signature

    @cached_property
    def run_signature(self) -> Signature:
        if "run" not in self._phases:
            raise ActionError(f"action {self.name!r} has no run()")
        return Signature(f"action {self.name!r}", self._class.run, skip=1)

    def make(self, plan: Planning, inputs: Mapping[str, Any]) -> Any:
        return self._class().plan(plan, **inputs)

    def phase(self, name: str) -> Action[..., Any] | None:
        if name in {"finalize", "revert"} & self._phases:
            return self._later_phase(name)
        return super().phase(name)

    def _later_phase(self, name: str) -> Action[..., Any]:
        if name not in self._later:
            self._later[name] = _LaterPhase(self, name)
        return self._later[name]

    @cached_property
    def _later(self) -> dict[str, Action[..., Any]]:
        return {}

    def awaits(self, context: StepContext) -> bool:
        return inspect.iscoroutinefunction(getattr(self._class, self._method(context), None))

    def _method(self, context: StepContext) -> str:
        """Which method goes on; "" for none."""
        if context.event is None:
            return "run"
        if context.event.name == "cancel" and "cancel" in self._phases:
            return "cancel"
        if "event" in self._phases:
            return "event"
        return "run" if context.children is None else ""

    def _code(self, inputs: dict[str, Any], context: StepContext) -> Callable[[], Any]:
        context.inputs = arguments = self.run_signature.typed(inputs)
        method = self._method(context)
        if not method:
            return partial(_children_ended, context)
        instance = self._class()
        instance.step = context
        if method == "run":
            return partial(instance.run, **arguments)
        if method == "event":
            assert context.event is not None
            return partial(instance.event, *context.event)
        return partial(_told_to_cancel, instance.cancel, context)


def _told_to_cancel(cancel: Callable[[], Any], context: StepContext) -> Any:
    """Whatever `cancel` gives is no output of the step, which ends as cancelled, unless it asks to wait once more."""
    given = cancel()
    return _awaited(given, context) if inspect.isawaitable(given) else _cancelled(given, context)


async def _awaited(given: Awaitable[Any], context: StepContext) -> Any:
    return _cancelled(await given, context)


def _cancelled(given: Any, context: StepContext) -> Any:
    if isinstance(context.returned(given), Suspend | Spawn):
        return given
    raise Cancelled("while it was suspended")


class _LaterPhase(Action[..., Any]):
    """`NAME:finalize` and `NAME:revert`: with the inputs of the run step, as far as they take them, and its output."""

    def __init__(self, owner: ClassAction[..., Any], phase: str) -> None:
        self._class: Any = owner.function
        self.function = getattr(owner.function, phase)
        self.name = f"{owner.name}:{phase}"
        self.options = owner.options
        self.policy = _phase_policy(owner, self.name)

    @cached_property
    def plans(self) -> bool:
        return False

    @cached_property
    def signature(self) -> Signature:
        return Signature(f"action {self.name!r}", self.function, skip=1)

    @property
    def takes_output(self) -> bool:
        return "output" in self.signature.parameters or self.signature.open

    def _code(self, inputs: dict[str, Any], context: StepContext) -> Callable[[], Any]:
        instance: Any = self._class()
        instance.step = context
        context.inputs = arguments = self.signature.typed(self.signature.pick(inputs))
        if context.children is not None:
            return partial(_children_ended, context)
        return partial(self.function, instance, **arguments)


_PHASES = ("plan", "run", "event", "cancel", "finalize", "revert")


def _phase_policy(owner: Action[..., Any], name: str, **changes: Any) -> Policy:
    return replace(
        owner.policy, action=name, limit=0, rate=(0, 0), reboots=False, revert=False, cancels=False, **changes
    )


def _check_class(found: Any, phases: set[str], where: str) -> None:
    """Refuse a class whose phases do not fit together. Raises `ActionError`."""

    def parameters(phase: str) -> dict[str, inspect.Parameter]:
        return dict(list(inspect.signature(getattr(found, phase)).parameters.items())[1:])

    if not phases & {"run", "plan"}:
        raise ActionError(f"{where}: the class has neither run() nor plan()")
    if "run" not in phases:
        for phase in sorted(phases - {"plan"}):
            raise ActionError(f"{where}: the class has {phase}(), and no run() that it belongs to")
    if any(
        one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
        for one in inspect.signature(found).parameters.values()
    ):
        raise ActionError(f"{where}: the class is made anew for each attempt, so its __init__ can take no arguments")
    if "plan" in phases:
        if inspect.iscoroutinefunction(found.plan):
            raise ActionError(f"{where}: plan() cannot be async")
        if not parameters("plan"):
            raise ActionError(f"{where}: plan() takes the plan first: def plan(self, plan: Plan, ...)")
    for phase, takes, count in (("event", "the event's name and data", 2), ("cancel", "nothing", 0)):
        if phase in phases and len(parameters(phase)) != count:
            raise ActionError(f"{where}: {phase}() takes {takes}, not ({', '.join(parameters(phase))})")
    for phase in sorted(phases & {"finalize", "revert"}):
        given, wanted = parameters("run"), parameters(phase)
        if "output" in given and "output" in wanted:
            raise ActionError(f"{where}: run() has an input 'output', and {phase}() is given its output by that name")
        for name, one in wanted.items():
            if one.default is one.empty and one.kind is not one.VAR_KEYWORD and name not in {*given, "output"}:
                takes = ", ".join(given)
                raise ActionError(
                    f"{where}: {phase}() takes {name!r}; it gets what run() takes ({takes}), and 'output'"
                )


registered: dict[str, Action[..., Any]] = {}


def lookup(actions: Mapping[str, Action[..., Any]], name: str) -> Action[..., Any] | None:
    """What a worker runs for the name in a queue entry: `NAME`, or `NAME:PHASE`."""
    whole, _, phase = name.partition(":")
    found = actions.get(whole)
    return found.phase(phase) if found is not None and phase else found


def find(actions: Mapping[str, Action[..., Any]], which: ActionLike) -> Action[..., Any]:
    """The action that is meant; its name is looked up in `actions`. Raises `ActionError`."""
    if isinstance(which, Action):
        return which
    if not isinstance(which, str):
        raise ActionError(f"{which!r} is no action: @action does not stand before it")
    found = actions.get(which)
    if found is None:
        known = ", ".join(sorted(actions)) or "none"
        raise ActionError(f"there is no action {which!r} (known: {known})")
    return found


def find_hook(actions: Mapping[str, Action[..., Any]], what: HookAction) -> tuple[Action[..., Any], dict[str, Any]]:
    """The action of a hook, and what it is given besides `plan` and `state`. Raises `ActionError`, `BadInput`."""
    which, inputs = what if isinstance(what, tuple) else (what, {})
    found = find(actions, which)
    # Which plan and which state is not known yet: a pattern or a choice of its own is for what it is called with.
    found.check({**inputs, **dict.fromkeys(CALLED_WITH, _LATER)}, unknown_yet=lambda value: value is _LATER)
    return found, dict(inputs)


_LATER = object()


def _register(found: Action[..., Any]) -> None:
    other = registered.get(found.name)
    if other is not None and (other.function.__module__, other.function.__qualname__) != (
        found.function.__module__,
        found.function.__qualname__,
    ):
        raise ActionError(
            f"two actions are named {found.name!r}: in {other.function.__module__} and in "
            f"{found.function.__module__}; give one of them another name=..."
        )
    registered[found.name] = found


@overload
def action(function: Callable[P, R], /) -> Action[P, R]: ...


@overload
def action(**options: Unpack[ActionOptions]) -> Callable[[Callable[P, R]], Action[P, R]]: ...


def action(function: Callable[P, R] | None = None, /, **options: Unpack[ActionOptions]) -> Any:
    """Make a function or a class an action.

    name: how plans and people call it (default: the function's name). queue: where its steps wait (default
    "default"). timeout: of one attempt; seconds or "30s" (default: none). retry: `Retry(...)` (default: one
    attempt). on_lost: "rerun" when its worker dies (default), or "pause" for work that must not run twice by
    itself. exclusive: end the attempt when its worker is cut off from Redis, so that two never overlap.
    rescue: what becomes of the plan when a step has failed for good: "pause" until somebody resumes it or skips the
    step (default), "skip" it and go on, "fail": nothing new starts, and the plan ends as failed, or "revert" what
    it has done.
    privileged: it runs in a worker group with `unit = true` (a systemd unit of its own, as root), and only there.
    limit: most of its steps that stand at once, over all plans of the executor (default: no limit). rate: most that
    begin in a time ("10/s", "100/m").
    reboots: it reboots its node, and is finished by the node's next boot.
    singleton: one plan with a step of it at a time; others wait in order, or with "reject" are refused.
    locks: names, `Lock(...)` and `shared(...)` that a plan with a step of it holds.
    hooks: plan state ("failed", "paused", ..., or "ended" for every end) -> the action that then runs.
    labels: what people may look for; every plan with a step of it has them.

    Raises `ActionError` for options that say nothing or contradict each other.
    """
    if function is not None:
        return _make(function, {})
    return lambda inner: _make(inner, options)


def _make(function: Callable[P, R], options: ActionOptions) -> Action[P, R]:
    made = (ClassAction if isinstance(function, type) else Action)(function, **options)
    _register(made)
    return made
