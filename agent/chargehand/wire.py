"""What travels: the messages between clients, orchestrators and workers, and their encoding.

Everything is JSON. Small, frequent records are arrays; records that a person may read are objects.
Redis' scripts never look inside a payload, so the one thing they need (which attempt an entry is)
stands before it:

    queue entry   `PLAN/STEP/ATTEMPT [action, input, extra]`, with a `!` before it when the step was
                  lost with a worker before (a suspect: it is never prefetched)
    result        `[attempt, worker, node, started_ms, ended_ms, output]`, a field of the plan's outputs
    event         `[kind, ...]`, one stream entry of the inbox

A reader of format N accepts N-1 and N; the definition carries its number.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct

__all__ = [
    "FORMAT",
    "MAX_INLINE",
    "MAX_INPUT",
    "MAX_OUTPUT",
    "STEPS_A_PART",
    "Definition",
    "Died",
    "Entry",
    "Event",
    "Extra",
    "Failure",
    "Finished",
    "Policy",
    "Result",
    "Resumed",
    "Skipped",
    "Step",
    "Submitted",
    "decode",
    "decode_event",
    "encode",
    "is_newer",
    "read_entry",
    "read_key",
    "step_key",
    "write_entry",
]

FORMAT = 1

MAX_INPUT = 256 * 1024  # bytes of one step's input
MAX_OUTPUT = 1024 * 1024  # bytes of one step's output
MAX_INLINE = 64 * 1024  # bytes of a definition that travels in its event; larger ones go in parts
STEPS_A_PART = 1_000

T = TypeVar("T")

encode = msgspec.json.Encoder().encode


class Policy(Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a plan knows of one action: how its steps are queued, tried again and given up."""

    action: str
    queue: str = "default"
    attempts: int = 1  # in all, the first included
    backoff_ms: int = 1_000  # before the second attempt; doubles
    max_backoff_ms: int = 60_000
    timeout_ms: int = 0  # of one attempt; 0: none
    on_lost: str = "rerun"  # or "pause"
    exclusive: bool = False
    rescue: str = "pause"  # when a step has failed for good; or "skip", "fail"


class Step(Struct, frozen=True, array_like=True, omit_defaults=True):
    """One step of a definition. `after` names earlier steps: an index, or a half-open range [first, end)."""

    policy: int  # index into the definition's policies
    input: Raw = Raw(b"{}")
    after: list[int | tuple[int, int]] = []
    node: str | None = None


class Definition(Struct, frozen=True, omit_defaults=True):
    """An execution plan as submitted: immutable. Large ones carry `parts` > 0 and their steps apart."""

    label: str  # the action that was asked for
    policies: list[Policy]
    total: int  # steps in all
    steps: list[Step] = []
    parts: int = 0
    by: str = ""  # who submitted it
    format: int = FORMAT


class Extra(Struct, frozen=True, omit_defaults=True):
    """The rarely used rest of a queue entry."""

    timeout_ms: int = 0
    exclusive: bool = False
    alone: bool = False  # the worker runs nothing beside it


class Entry(NamedTuple):
    """A step as a worker takes it. `key` is `PLAN/STEP/ATTEMPT`: what ownership is recorded under."""

    key: str
    action: str
    input: Raw
    extra: Extra
    suspect: bool
    raw: bytes


class Result(Struct, frozen=True, array_like=True):
    """What a finished attempt leaves under its plan."""

    attempt: int
    worker: str  # the incarnation
    node: str
    started_ms: int  # the worker's wall clock
    ended_ms: int
    output: Raw


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why an attempt failed, for people."""

    kind: str  # the exception's name, or: exit, signal, timeout, lost, refused
    message: str
    node: str = ""
    worker: str = ""
    trace: str = ""
    final: bool = False  # no further attempt can help
    started_ms: int = 0
    ended_ms: int = 0


class Submitted(Struct, frozen=True, array_like=True, tag="submit"):
    plan: str
    definition: Raw


class Finished(Struct, frozen=True, array_like=True, tag="finish"):
    plan: str
    step: int
    attempt: int
    failure: Failure | None = None


class Died(Struct, frozen=True, array_like=True, tag="died"):
    """A process is gone with its whole tree; or (`beat_ms` set) its heart has been silent too long."""

    incarnation: str


class Resumed(Struct, frozen=True, array_like=True, tag="resume"):
    plan: str
    by: str = ""


class Skipped(Struct, frozen=True, array_like=True, tag="skip"):
    """Somebody lets a paused plan go on without a step that failed."""

    plan: str
    step: int
    by: str = ""


Event = Submitted | Finished | Died | Resumed | Skipped

_event_decoder = msgspec.json.Decoder(Event)
_body_decoder = msgspec.json.Decoder(list[Raw])
_name_decoder = msgspec.json.Decoder(str)
_extra_decoder = msgspec.json.Decoder(Extra)
_no_extra = Extra()


def decode_event(data: bytes) -> Event:
    """Read one event. Raises `msgspec.DecodeError` or `msgspec.ValidationError` for what this version cannot read."""
    event: Event = _event_decoder.decode(data)
    return event


def decode(data: bytes | Raw, into: type[T]) -> T:
    return msgspec.json.decode(data, type=into)


class _Format(Struct):
    format: int = FORMAT


_format_decoder = msgspec.json.Decoder(_Format)


def is_newer(definition: Raw) -> bool:
    """True when it was written by a later version: to be left alone, for one that can read it."""
    # A definition of our own format does not mention it, so nothing is decoded twice on the hot path.
    if b'"format"' not in memoryview(definition).tobytes():
        return False
    try:
        return _format_decoder.decode(definition).format > FORMAT
    except msgspec.MsgspecError:
        return False


def step_key(plan: str, step: int, attempt: int) -> str:
    return f"{plan}/{step}/{attempt}"


def read_key(key: str) -> tuple[str, int, int]:
    plan, step, attempt = key.rsplit("/", 2)
    return plan, int(step), int(attempt)


def write_entry(key: str, action: str, given: bytes | Raw, extra: Extra | None, *, suspect: bool) -> bytes:
    mark = "!" if suspect else ""
    if extra is None:
        return b"%s [%s,%s]" % (f"{mark}{key}".encode(), encode(action), given)
    return b"%s [%s,%s,%s]" % (f"{mark}{key}".encode(), encode(action), given, encode(extra))


def read_entry(raw: bytes) -> Entry:
    head, _, body = raw.partition(b" ")
    parts = _body_decoder.decode(body)
    return Entry(
        key=head.decode().removeprefix("!"),
        action=_name_decoder.decode(parts[0]),
        input=parts[1],
        extra=_extra_decoder.decode(parts[2]) if len(parts) > 2 else _no_extra,
        suspect=head.startswith(b"!"),
        raw=raw,
    )
