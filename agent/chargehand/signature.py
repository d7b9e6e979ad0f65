"""What a piece of an author's code takes: its parameters, and inputs checked against them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from chargehand.context import ActionError, BadInput
from chargehand.decoding import converter

__all__ = ["Parameter", "Signature", "hints"]

#: Types that JSON gives back as they are: nothing to convert on the hot path.
_PLAIN = (str, int, float, bool, dict, list)


@dataclass(frozen=True, slots=True)
class Parameter:
    kind: Any  # its annotation
    required: bool
    convert: Callable[..., Any]  # a value -> of that kind; with the options of `msgspec.convert`


class Signature:
    """The parameters of `function`, without the first `skip`. They are read when they are needed first."""

    def __init__(self, whose: str, function: Callable[..., Any], *, skip: int = 0) -> None:
        self.whose = whose  # "action 'patch'", for messages
        self._function = function
        self._skip = skip

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """Raises `ActionError` for a signature that cannot be called by name."""
        return self._read[0]

    @property
    def open(self) -> bool:
        """It takes any further inputs (`**keywords`)."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[dict[str, Parameter], bool]:
        types = hints(self._function, self.whose)
        found: dict[str, Parameter] = {}
        takes_any = False
        for parameter in list(inspect.signature(self._function).parameters.values())[self._skip :]:
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_any = True
            elif parameter.kind in {parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY}:
                raise ActionError(f"{self.whose}: parameter {parameter.name!r} cannot be given by name")
            else:
                kind = types.get(parameter.name, Any)
                found[parameter.name] = Parameter(
                    kind, parameter.default is parameter.empty, self._converter(parameter.name, kind)
                )
        return found, takes_any

    def _converter(self, name: str, kind: Any) -> Callable[..., Any]:
        try:
            return converter(kind, str_keys=True)
        except TypeError as error:
            raise ActionError(f"{self.whose}, parameter {name!r}: no value can be read as its type: {error}") from error

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
                if not self.open:
                    takes = ", ".join(parameters) or "none"
                    raise BadInput(f"{self.whose} has no parameter {name!r} (it takes: {takes})")
                checked[name] = value
            elif unknown_yet(value):
                checked[name] = value
            else:
                try:
                    checked[name] = parameter.convert(value, strict=not loose)
                except msgspec.ValidationError as error:
                    raise BadInput(f"{self.whose}, parameter {name!r}: {error}, got {_short(value)}") from error
        for name, parameter in parameters.items():
            if parameter.required and name not in inputs:
                raise BadInput(f"{self.whose} needs the parameter {name!r}")
        return checked

    def typed(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs that JSON gave, all known now, as the code gets them. Raises `BadInput`."""
        parameters = self.parameters
        for name, value in inputs.items():
            parameter = parameters.get(name)
            if parameter is None or parameter.kind not in _PLAIN or not isinstance(value, parameter.kind):
                return self.check(inputs, unknown_yet=_nothing)
        if len(inputs) < len(parameters):
            return self.check(inputs, unknown_yet=_nothing)
        return inputs

    def pick(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the inputs that it takes."""
        return dict(inputs) if self.open else {name: inputs[name] for name in self.parameters if name in inputs}


def hints(function: Callable[..., Any], whose: str) -> dict[str, Any]:
    """The annotations, with the constraints in them. Raises `ActionError` for one that cannot be resolved."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ActionError(f"{whose}: a type in its signature cannot be resolved: {error}") from error


def _nothing(_: Any) -> bool:
    return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
