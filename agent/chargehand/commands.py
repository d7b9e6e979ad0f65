"""Actions that are commands, declared in TOML: an argv list with typed parameters. No shell anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from chargehand.actions import Action, BadInput, Retry
from chargehand.config.asking import called
from chargehand.config.parameters import value_fault
from chargehand.config.settings import ActionSettings, LockSettings, Parameter
from chargehand.wire import Lock

__all__ = ["CommandAction"]

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class CommandAction(Action[..., Any]):
    """`argv` with each `{name}` replaced by the parameter's value, within one argument: never split, never quoted."""

    def __init__(self, settings: ActionSettings) -> None:
        retry = settings.retry
        super().__init__(
            _not_python,
            name=settings.name,
            queue=settings.queue,
            timeout=settings.timeout,
            retry=Retry(retry.attempts, retry.backoff, retry.max_backoff),
            on_lost=settings.on_lost,
            exclusive=settings.exclusive,
            privileged=settings.privileged,
            rescue=settings.rescue,
            limit=settings.limit,
            rate=settings.rate,
            reboots=settings.reboots,
            singleton=settings.singleton,
            locks=[Lock(one.name, one.most) if isinstance(one, LockSettings) else one for one in settings.locks],
            hooks={state: called(one) for state, one in settings.hooks.items()},
            labels=settings.labels,
        )
        self.settings = settings

    @cached_property
    def plans(self) -> bool:
        return False

    def check(
        self, inputs: Mapping[str, Any], *, unknown_yet: Callable[[Any], bool], loose: bool = False
    ) -> dict[str, Any]:
        params = self.settings.params
        for name in inputs:
            if name not in params:
                raise BadInput(
                    f"action {self.name!r} has no parameter {name!r} (it takes: {', '.join(params) or 'none'})"
                )
        checked: dict[str, Any] = {}
        for name, parameter in params.items():
            value = inputs.get(name, parameter.default)
            if value is None:
                raise BadInput(f"action {self.name!r} needs the parameter {name!r}")
            if not unknown_yet(value):
                value = self._check(name, parameter, _loosen(parameter, value) if loose else value)
            checked[name] = value
        return checked

    def _check(self, name: str, parameter: Parameter, value: Any) -> Any:
        fault = value_fault(parameter, value)
        if fault is not None:
            raise BadInput(f"action {self.name!r}, parameter {name!r}: {value!r}; expected {fault}")
        return value

    def argv(self, inputs: Mapping[str, Any]) -> list[str]:
        """The command for these inputs, which are checked again: outputs of earlier steps are among them now."""
        checked = self.check(inputs, unknown_yet=lambda _: False)
        return [_PLACE.sub(lambda found: _text(checked[found[1]]), argument) for argument in self.settings.argv]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _loosen(parameter: Parameter, value: Any) -> Any:
    """Read what a command line gave as a string, where another type is asked for."""
    if not isinstance(value, str) or parameter.type == "string":
        return value
    try:
        if parameter.type == "integer":
            return int(value)
        if parameter.type == "number":
            return float(value)
    except ValueError:
        return value
    return {"true": True, "false": False}.get(value.lower(), value)


def _not_python() -> None:
    raise TypeError("a command runs on a worker only")
