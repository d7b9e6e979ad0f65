"""Actions: the units of user code, as their authors write them.

A function is an action by `@action`. If its first parameter is a `Plan`, it plans: it is called where the
plan is submitted, and adds steps. Every other function runs: it is called on a worker, with its inputs as
keyword arguments, and what it returns (anything JSON) is the step's output. `async def` works for both kinds
of worker code; a command is declared in TOML instead (`[[action]]`).
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

import msgspec

from chargehand.config.quantities import parse_duration
from chargehand.wire import Policy

__all__ = [
    "Action",
    "ActionError",
    "BadInput",
    "Planning",
    "Retry",
    "StepInfo",
    "Unretriable",
    "action",
    "current_step",
    "registered",
]

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class ActionError(Exception):
    """An action is declared wrongly, or there is no such action. The message is for its author."""


class BadInput(ActionError):
    """A step was given an input that its action does not take. The message names the parameter."""


class Unretriable(Exception):
    """Raise this from an action (or derive from it) when no further attempt can help."""


class Planning:
    """What the first parameter of a planning action is; `Plan` derives from it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How a failed attempt is tried again.

    attempts: in all, the first included. backoff: before the second one, doubling each time up to
    max_backoff, with jitter; seconds, or a string with a unit ("500ms", "5s", "2m").
    """

    attempts: int = 3
    backoff: float | str = 1.0
    max_backoff: float | str = 60.0


@dataclass(frozen=True, slots=True)
class StepInfo:
    """Where and as what the running code runs."""

    plan: str
    step: int
    attempt: int
    node: str
    worker: str


_current: ContextVar[StepInfo] = ContextVar("chargehand_step")


def current_step() -> StepInfo:
    """The step that the calling code runs in. Raises `LookupError` outside of one."""
    return _current.get()


@dataclass(frozen=True, slots=True)
class _Parameter:
    kind: Any
    required: bool


def _seconds(value: float | str | None, what: str) -> float:
    if value is None:
        return 0.0
    if isinstance(value, str):
        try:
            return float(parse_duration(value))
        except ValueError as error:
            raise ActionError(f"{what}: {error}") from error
    if value < 0:
        raise ActionError(f"{what}: {value} s is negative")
    return float(value)


class Action(Generic[P, R]):
    """A registered action. Calling it calls the function itself, as in a unit test."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        queue: str = "default",
        timeout: float | str | None = None,
        retry: Retry | None = None,
        on_lost: Literal["rerun", "pause"] = "rerun",
        exclusive: bool = False,
        privileged: bool = False,
        rescue: Literal["pause", "skip", "fail"] = "pause",
    ) -> None:
        self.privileged = privileged
        self.function = function
        self.name = name or function.__name__
        for word, what in ((self.name, "name"), (queue, "queue")):
            if not _NAME.fullmatch(word):
                raise ActionError(
                    f"action {self.name!r}: {what} {word!r} may hold only letters, digits, '.', '_' and '-'"
                )
        if on_lost not in {"rerun", "pause"}:
            raise ActionError(f"action {self.name!r}: on_lost is 'rerun' or 'pause', not {on_lost!r}")
        if rescue not in {"pause", "skip", "fail"}:
            raise ActionError(f"action {self.name!r}: rescue is 'pause', 'skip' or 'fail', not {rescue!r}")
        again = retry or Retry(attempts=1)
        where = f"action {self.name!r}"
        self.policy = Policy(
            action=self.name,
            queue=queue,
            attempts=again.attempts,
            backoff_ms=round(_seconds(again.backoff, f"{where}: backoff") * 1000),
            max_backoff_ms=round(_seconds(again.max_backoff, f"{where}: max_backoff") * 1000),
            timeout_ms=round(_seconds(timeout, f"{where}: timeout") * 1000),
            on_lost=on_lost,
            exclusive=exclusive,
            rescue=rescue,
        )
        self.is_async = inspect.iscoroutinefunction(function)
        self._signature: Mapping[str, _Parameter] | None = None
        self._open = False  # takes **keywords
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<action {self.name}>"

    @property
    def plans(self) -> bool:
        """True when its first parameter is a `Plan`."""
        first = next(iter(inspect.signature(self.function).parameters.values()), None)
        hint = _hints(self.function).get(first.name) if first is not None else None
        return isinstance(hint, type) and issubclass(hint, Planning)

    @property
    def parameters(self) -> Mapping[str, _Parameter]:
        if self._signature is None:
            self._signature = self._read_signature()
        return self._signature

    def _read_signature(self) -> Mapping[str, _Parameter]:
        hints = _hints(self.function)
        found: dict[str, _Parameter] = {}
        parameters = list(inspect.signature(self.function).parameters.values())
        for parameter in parameters[1:] if self.plans else parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                self._open = True
            elif parameter.kind in {parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY}:
                raise ActionError(f"action {self.name!r}: parameter {parameter.name!r} cannot be given by name")
            else:
                found[parameter.name] = _Parameter(hints.get(parameter.name, Any), parameter.default is parameter.empty)
        return found

    def check(
        self, inputs: Mapping[str, Any], *, unknown_yet: Callable[[Any], bool], loose: bool = False
    ) -> dict[str, Any]:
        """Inputs converted to their parameters' types. Raises `BadInput`, naming the parameter.

        Values for which `unknown_yet` is true (outputs of earlier steps) pass as they are. `loose` reads
        strings as numbers and truth values where the type asks for one, as a command line needs it.
        """
        parameters = self.parameters
        checked: dict[str, Any] = {}
        for name, value in inputs.items():
            parameter = parameters.get(name)
            if parameter is None:
                if not self._open:
                    takes = ", ".join(parameters) or "none"
                    raise BadInput(f"action {self.name!r} has no parameter {name!r} (it takes: {takes})")
                checked[name] = value
            elif unknown_yet(value):
                checked[name] = value
            else:
                try:
                    checked[name] = msgspec.convert(value, parameter.kind, strict=not loose, str_keys=True)
                except msgspec.ValidationError as error:
                    raise BadInput(f"action {self.name!r}, parameter {name!r}: {error}, got {_short(value)}") from error
        for name, parameter in parameters.items():
            if parameter.required and name not in inputs:
                raise BadInput(f"action {self.name!r} needs the parameter {name!r}")
        return checked

    def run(self, inputs: dict[str, Any], info: StepInfo) -> Any:
        """Call it on the calling thread; an `async def` gives its coroutine."""
        arguments = self._typed(inputs)
        if self.is_async:
            return self._in_task(arguments, info)
        token = _current.set(info)
        try:
            return self.function(**arguments)  # type: ignore[call-arg] # inputs are checked by name
        finally:
            _current.reset(token)

    async def _in_task(self, arguments: dict[str, Any], info: StepInfo) -> Any:
        _current.set(info)  # the task's own context
        return await self.function(**arguments)  # type: ignore[call-arg,misc] # see `run`

    def _typed(self, inputs: dict[str, Any]) -> dict[str, Any]:
        for name, value in inputs.items():
            parameter = self.parameters.get(name)
            if parameter is None or parameter.kind not in _PLAIN or not isinstance(value, parameter.kind):
                return self.check(inputs, unknown_yet=lambda _: False)
        if len(inputs) < len(self.parameters):
            return self.check(inputs, unknown_yet=lambda _: False)
        return inputs


#: Types that JSON gives back as they are: nothing to convert on the hot path.
_PLAIN = (str, int, float, bool, dict, list)

registered: dict[str, Action[..., Any]] = {}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise ActionError(
            f"action {function.__name__!r}: a type in its signature cannot be resolved: {error}"
        ) from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


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
def action(
    *,
    name: str | None = None,
    queue: str = "default",
    timeout: float | str | None = None,
    retry: Retry | None = None,
    on_lost: Literal["rerun", "pause"] = "rerun",
    exclusive: bool = False,
    privileged: bool = False,
    rescue: Literal["pause", "skip", "fail"] = "pause",
) -> Callable[[Callable[P, R]], Action[P, R]]: ...


def action(function: Callable[P, R] | None = None, /, **options: Any) -> Any:
    """Make a function an action.

    name: how plans and people call it (default: the function's name). queue: where its steps wait (default
    "default"). timeout: of one attempt; seconds or "30s" (default: none). retry: `Retry(...)` (default: one
    attempt). on_lost: "rerun" when its worker dies (default), or "pause" for work that must not run twice by
    itself. exclusive: end the attempt when its worker is cut off from Redis, so that two never overlap.
    rescue: what becomes of the plan when a step has failed for good: "pause" until somebody resumes it or skips the
    step (default), "skip" it and go on, or "fail": nothing new starts, and the plan ends as failed.
    privileged: it runs in a worker group with `unit = true` (a systemd unit of its own, as root), and only there.
    """
    if function is not None:
        found = Action(function)
        _register(found)
        return found

    def decorate(inner: Callable[P, R]) -> Action[P, R]:
        made = Action(inner, **options)
        _register(made)
        return made

    return decorate
