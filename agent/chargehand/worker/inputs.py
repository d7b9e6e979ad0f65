"""The inputs of a step: as its plan gives them, with references replaced by outputs of earlier steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from chargehand.actions import BadInput
from chargehand.decoding import decode, decoder
from chargehand.wire import Result

__all__ = ["output_of", "resolve"]


_inputs_decoder = decoder(dict[str, Any])


def resolve(given: Raw, fetch: Callable[[list[int]], list[bytes | None]]) -> dict[str, Any]:
    """Raises `BadInput` for an output that is not there."""
    inputs: dict[str, Any] = _inputs_decoder.decode(given)
    if not inputs or b'"$ref' not in bytes(given):
        return inputs
    wanted: set[int] = set()
    _walk(inputs, lambda steps, _: wanted.update(steps))
    order = sorted(wanted)
    outputs: dict[int, Any] = {}
    for step, found in zip(order, fetch(order), strict=True):
        if found is None:
            raise BadInput(f"the output of step {step} is not there (any more)")
        outputs[step] = output_of(found)

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


def output_of(result: bytes | None) -> Any:
    """What a result holds; None where there is none."""
    return decode(decode(result, Result).output) if result is not None else None


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
