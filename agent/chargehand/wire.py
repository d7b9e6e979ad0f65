"""What travels: the messages between clients, orchestrators and workers, and their encoding.

Everything is JSON. Small, frequent records are arrays; records that a person may read are objects.
Redis' scripts never look inside a payload, so the one thing they need (which attempt an entry is)
stands before it:

    queue entry   `PLAN/STEP/ATTEMPT [action, input, extra]`, with a `!` before it when the step was
                  lost with a worker before (a suspect: it is never prefetched), and a `~` before that when it
                  runs though its plan is being ended
    result        `[attempt, worker, node, started_ms, ended_ms, output]`, a field of the plan's outputs
    event         `[kind, ...]`, one stream entry of the inbox

A reader of format N accepts N-1 and N; the definition carries its number.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct

from chargehand.decoding import decoder

__all__ = [
    "FORMAT",
    "HALTED",
    "MAX_EVENT",
    "MAX_INLINE",
    "MAX_INPUT",
    "MAX_OUTPUT",
    "STEPS_A_PART",
    "SUB_PLANS_FAILED",
    "SYSTEM_EVENTS",
    "WHOLE_PLAN",
    "Cancelled",
    "Cascade",
    "Definition",
    "Died",
    "Ended",
    "Entry",
    "Event",
    "Extra",
    "Failure",
    "Finished",
    "Halted",
    "Hook",
    "Lock",
    "Policy",
    "Recurring",
    "Result",
    "Resumed",
    "Retried",
    "Reverted",
    "Sent",
    "Skipped",
    "Step",
    "Submitted",
    "Suspension",
    "boot_key",
    "child_generation",
    "child_id",
    "decode_event",
    "encode",
    "is_newer",
    "read_boot",
    "read_entry",
    "read_key",
    "reverted_field",
    "saved_field",
    "spawned_field",
    "step_key",
    "write_entry",
]

FORMAT = 1

MAX_INPUT = 256 * 1024  # bytes of one step's input
MAX_OUTPUT = 1024 * 1024  # bytes of one step's output
MAX_EVENT = 64 * 1024  # bytes of one event's data
SUB_PLANS_FAILED = "sub-plans failed"  # the kind of a step's failure: it is tried again from its beginning
SYSTEM_EVENTS = frozenset({"children", "cancel"})  # names of events that come from the director alone
HALTED = -1  # the grace of a plan that was halted: nothing of it runs any more, not even what undoes it
WHOLE_PLAN = -1  # stands for a step number where something is about the plan itself
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
    rescue: str = "pause"  # when a step has failed for good; or "skip", "fail", "revert"
    limit: int = 0  # most steps of the action that stand at once, over all plans; 0: none
    rate: tuple[int, int] = (0, 0)  # at most so many begin in so many ms; (0, 0): no limit
    reboots: bool = False  # it reboots its node: finished by the node's next boot
    revert: bool = False  # the action has a revert phase, `ACTION:revert`
    cancels: bool = False  # a suspended step wants to be told ("cancel") before it is cancelled


class Step(Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """One step of a definition. `after` names earlier steps: an index, or a half-open range [first, end)."""

    policy: int  # index into the definition's policies
    input: Raw = Raw(b"{}")
    after: list[int | tuple[int, int]] = []
    node: str | None = None


class Lock(Struct, frozen=True, array_like=True, omit_defaults=True):
    """Something that a plan holds while it is under way; those who want it too wait in order."""

    name: str
    most: int = 1  # holders at once; 1: exclusive, 0: shared (any number, none of them exclusive)


class Hook(Struct, frozen=True, array_like=True, omit_defaults=True):
    """A step to run, as a plan of its own, when a plan enters one of these states (their letters)."""

    states: str
    policy: int  # index into the definition's policies
    input: Raw = Raw(b"{}")


class Definition(Struct, frozen=True, omit_defaults=True):
    """An execution plan as submitted: immutable. Large ones carry `parts` > 0 and their steps apart."""

    label: str  # the action that was asked for
    policies: list[Policy]
    total: int  # steps in all
    steps: list[Step] = []
    parts: int = 0
    by: str = ""  # who submitted it
    labels: list[str] = []  # what people may look for
    start_at_ms: int = 0  # not before; ms of Redis' TIME
    start_before_ms: int = 0  # not started by then: it fails
    after: list[str] = []  # plans that must have ended before it starts
    after_failure: str = "fail"  # when one of them ends otherwise than well; or "run"
    locks: list[Lock] = []
    busy: str = "wait"  # when a lock is held by another; or "reject"
    limit: int = 0  # most of its steps that stand at once; 0: as many as there is room for
    hooks: list[Hook] = []
    parent: tuple[str, int] | None = None  # the plan and step that started it: told of its end
    format: int = FORMAT


class Extra(Struct, frozen=True, omit_defaults=True):
    """The rarely used rest of a queue entry."""

    timeout_ms: int = 0
    exclusive: bool = False
    alone: bool = False  # the worker runs nothing beside it
    tries: int = 0  # failed tries before this one
    event: tuple[str, Raw] | None = None  # why a suspended step goes on: the event's name and data
    saved: bool = False  # it was suspended: what it saved stands under `saved_field(step)` of the plan's outputs
    generation: int = 0  # how often its sub-plans have all ended
    children: tuple[int, int, int] | None = None  # with the event "children": sub-plans in all, succeeded, failed
    output: bool = False  # give it the output that the step has left (revert)
    boot: str = ""  # `boot_key` of when this step, which reboots its node, was lost: in another boot it has succeeded


class Entry(NamedTuple):
    """A step as a worker takes it. `key` is `PLAN/STEP/ATTEMPT`: what ownership is recorded under."""

    key: str
    action: str
    input: Raw
    extra: Extra
    suspect: bool
    despite: bool  # it runs though its plan is being ended: it undoes it, or was told to cancel
    raw: bytes


class Result(Struct, frozen=True, array_like=True, gc=False):
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


class Suspension(Struct, frozen=True, array_like=True, omit_defaults=True):
    """An attempt ended without a result: the step waits for an event. What it saved is in the plan's outputs."""

    wake_ms: int = 0  # from now on; 0: until something happens
    event: str = "wake"  # the event that it gets then
    children: int = 0  # sub-plans that it has started: the event "children" comes when all have ended
    end: int = 0  # the highest number of them + 1; 0: as many as there are


class Submitted(Struct, frozen=True, array_like=True, omit_defaults=True, tag="submit"):
    plan: str
    definition: Raw
    after: list[str] = []  # as in the definition


class Finished(Struct, frozen=True, array_like=True, omit_defaults=True, tag="finish"):
    plan: str
    step: int
    attempt: int
    failure: Failure | None = None
    suspended: Suspension | None = None
    children: int = 0  # with a failure: the highest number of the sub-plans that it had started, + 1


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


class Retried(Struct, frozen=True, array_like=True, omit_defaults=True, tag="retry"):
    """Somebody has a step that failed run again."""

    plan: str
    step: int
    by: str = ""


class Sent(Struct, frozen=True, array_like=True, omit_defaults=True, tag="event"):
    """An event for a step. It is kept until the step is suspended, but for an optional one."""

    plan: str
    step: int
    name: str
    data: Raw = Raw(b"null")
    optional: bool = False  # dropped unless the step is suspended now
    by: str = ""


class Cancelled(Struct, frozen=True, array_like=True, omit_defaults=True, tag="cancel"):
    """Somebody wants a plan to end: nothing new starts, what runs has `grace_ms` to end by itself."""

    plan: str
    grace_ms: int = 10_000
    by: str = ""


class Halted(Struct, frozen=True, array_like=True, omit_defaults=True, tag="halt"):
    """Somebody ends a plan at once and for good, whatever its steps do."""

    plan: str
    by: str = ""


class Reverted(Struct, frozen=True, array_like=True, omit_defaults=True, tag="revert"):
    """Somebody wants what a plan has done to be undone."""

    plan: str
    by: str = ""


class Ended(Struct, frozen=True, array_like=True, omit_defaults=True, tag="ended"):
    """Told by the orchestrator to itself: `other` has ended, and `plan` waits for that."""

    plan: str
    step: int  # that started `other`; WHOLE_PLAN: `plan` starts after `other`
    other: str
    state: str  # letter


class Cascade(Struct, frozen=True, array_like=True, omit_defaults=True, tag="cascade"):
    """Told by the orchestrator to itself: cancel the sub-plans of a step, from number `first` on."""

    plan: str
    step: int
    generation: int
    first: int
    end: int
    grace_ms: int


class Recurring(Struct, frozen=True, array_like=True, omit_defaults=True, tag="recurring"):
    """Somebody sets, pauses, resumes or removes a recurring plan."""

    name: str
    what: str  # set, pause, resume, remove
    record: Raw = Raw(b"null")  # to set: a `Repeat`
    by: str = ""


Event = (
    Submitted
    | Finished
    | Died
    | Resumed
    | Skipped
    | Retried
    | Sent
    | Cancelled
    | Halted
    | Reverted
    | Ended
    | Cascade
    | Recurring
)

_event_decoder = decoder(Event)
_body_decoder = decoder(list[Raw])
_name_decoder = decoder(str)
_extra_decoder = decoder(Extra)
_no_extra = Extra()


def decode_event(data: bytes) -> Event:
    """Read one event. Raises `msgspec.DecodeError` or `msgspec.ValidationError` for what this version cannot read."""
    event: Event = _event_decoder.decode(data)
    return event


class _Format(Struct):
    format: int = FORMAT


_format_decoder = decoder(_Format)


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


def boot_key(boot: str, node: str) -> str:
    """One boot of one node."""
    return f"{boot}@{node}"


def read_boot(key: str) -> tuple[str, str]:
    """Its boot id, and the node's name; empty in what was written before names stood there."""
    boot, _, node = key.partition("@")
    return boot, node


def saved_field(step: int) -> str:
    """Where a suspended step's saved state stands among its plan's outputs."""
    return f"saved {step}"


def reverted_field(step: int) -> str:
    """Where the result of a step's revert stands among its plan's outputs: the step's own stays what it was."""
    return f"reverted {step}"


def spawned_field(step: int) -> str:
    """Where a step that has started sub-plans keeps which ones, among its plan's outputs."""
    return f"spawned {step}"


def child_id(plan: str, step: int, number: int, generation: int = 0) -> str:
    """The plan id of a step's sub-plan: the same one whenever the step starts it."""
    return f"{plan}.{step}.{number}" if not generation else f"{plan}.{step}.{number}.{generation}"


def child_generation(child: str, plan: str, step: int) -> int | None:
    """Of a step's sub-plan by its id, as `child_id` made it; None for another plan."""
    number, _, generation = child.removeprefix(f"{plan}.{step}.").partition(".")
    return int(generation or 0) if number.isdecimal() and (generation or "0").isdecimal() else None


def write_entry(
    key: str, action: str, given: bytes | Raw, extra: Extra | None, *, suspect: bool = False, despite: bool = False
) -> bytes:
    mark = "~" * despite + "!" * suspect
    if extra is None:
        return b"%s [%s,%s]" % (f"{mark}{key}".encode(), encode(action), given)
    return b"%s [%s,%s,%s]" % (f"{mark}{key}".encode(), encode(action), given, encode(extra))


def read_entry(raw: bytes) -> Entry:
    head, _, body = raw.partition(b" ")
    parts = _body_decoder.decode(body)
    extra = _extra_decoder.decode(parts[2]) if len(parts) > 2 else _no_extra
    key, suspect, despite = head.decode(), False, False
    if key[0] in "~!":
        despite = key[0] == "~"
        key = key.removeprefix("~")
        suspect = key[0] == "!"
        key = key.removeprefix("!")
    return Entry(key, _name_decoder.decode(parts[0]), parts[1], extra, suspect, despite, raw)
