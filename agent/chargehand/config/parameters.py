"""Whether the declaration of a parameter holds together, and whether a value will do. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from chargehand.config.patterns import pattern_fault
from chargehand.config.settings import Parameter

__all__ = ["parameter_faults", "value_fault"]

_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}
_SAFE = 2**63  # integers travel as JSON, and many readers of JSON hold no larger ones


def parameter_faults(parameter: Parameter) -> Iterator[tuple[str, str, str]]:
    """(key, what was found, what is expected) for all that cannot be meant."""
    numeric = parameter.type in {"integer", "number"}
    if parameter.pattern is not None:
        if parameter.type != "string":
            yield "pattern", f"a pattern for a {parameter.type}", "it for strings only"
        if fault := pattern_fault(parameter.pattern):
            yield "pattern", f'"{parameter.pattern}"', f"a regular expression ({fault})"
            return
    for key, limit in (("minimum", parameter.minimum), ("maximum", parameter.maximum)):
        if limit is not None and not numeric:
            yield key, f"a {key} for a {parameter.type}", "it for integers and numbers only"
        elif limit is not None and not math.isfinite(limit):
            yield key, str(limit), "a finite number"
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None and low > high:
        yield "maximum", f"{high:g}", f"at least minimum ({low:g})"
        return
    if parameter.choices is not None and not parameter.choices:
        yield "choices", "none", "at least one"
    for choice in parameter.choices or ():
        if fault := _fault(parameter, choice):
            yield "choices", _text(choice), fault
    if parameter.default is not None:
        fault = value_fault(parameter, parameter.default)
        if fault:
            yield "default", _text(parameter.default), fault


def value_fault(parameter: Parameter, value: object) -> str | None:
    """What is expected instead of this value; None when it will do."""
    fault = _fault(parameter, value)
    if fault is None and parameter.choices is not None and value not in parameter.choices:
        fault = f"one of choices ({', '.join(_text(choice) for choice in parameter.choices)})"
    return fault


def _fault(parameter: Parameter, value: object) -> str | None:
    """The same, but for choices."""
    if not isinstance(value, _TYPES[parameter.type]) or isinstance(value, bool) != (parameter.type == "boolean"):
        return f"{'an' if parameter.type == 'integer' else 'a'} {parameter.type}, as its type says"
    if isinstance(value, str):
        if "\0" in value:
            return "no NUL character"
        if parameter.pattern is not None and not re.fullmatch(parameter.pattern, value):
            return f"a match of its pattern {parameter.pattern}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not (math.isfinite(value) and -_SAFE <= value < _SAFE):
            return "a number of at most 64 bits"
        if parameter.minimum is not None and value < parameter.minimum:
            return f"at least its minimum ({parameter.minimum:g})"
        if parameter.maximum is not None and value > parameter.maximum:
            return f"at most its maximum ({parameter.maximum:g})"
    return None


def _text(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)
