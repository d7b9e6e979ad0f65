"""JSON and plain values read as types, by any number of threads.

msgspec finds out what it must know of a type where the type is used first; two threads that do so at the same time can
crash the process (msgspec 0.22). So nothing else here makes a decoder or converts: types are prepared here, one at a
time.
"""

from __future__ import annotations

from _thread import allocate_lock  # not from threading: the agent has no threads, and does without that module
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, overload

import msgspec

__all__ = ["converter", "decode", "decoder"]

T = TypeVar("T")

_one_at_a_time = allocate_lock()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


@overload
def decoder(kind: type[T]) -> msgspec.json.Decoder[T]: ...


@overload
def decoder(kind: Any) -> msgspec.json.Decoder[Any]: ...


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """The decoder of a type, which can be hashed; it is made once. Raises `TypeError` for what JSON cannot hold."""
    found = _decoders.get(kind)
    if found is None:
        with _one_at_a_time:
            found = _decoders[kind] = msgspec.json.Decoder(kind)
    return found


@overload
def decode(data: bytes | bytearray | str | msgspec.Raw) -> Any: ...


@overload
def decode(data: bytes | bytearray | str | msgspec.Raw, kind: type[T]) -> T: ...


def decode(data: bytes | bytearray | str | msgspec.Raw, kind: Any = Any) -> Any:
    """JSON as a type; default: as it is. Raises `msgspec.DecodeError`, `msgspec.ValidationError`."""
    return decoder(kind).decode(data)


def converter(kind: Any, **options: Any) -> Callable[..., Any]:
    """Plain values as a type, which need not be one that can be hashed. It raises `msgspec.ValidationError`.

    options: of `msgspec.convert`, here or with each value. Raises `TypeError` for a type that nothing can be read as.
    """
    with _one_at_a_time, suppress(msgspec.ValidationError):
        msgspec.convert(None, kind, **options)  # what it makes of None does not matter
    return partial(msgspec.convert, type=kind, **options)
