"""The words that answers are made of: names, counts, times, members, errors. One line each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chargehand.store.census import Seen
from chargehand.store.evidence import NAMED, Other
from chargehand.store.plans import StepView
from chargehand.wire import Failure

__all__ = [
    "acting",
    "counted",
    "cut",
    "error_text",
    "failure_line",
    "length",
    "moment",
    "named",
    "names",
    "orchestrator_line",
    "other_line",
    "worker_line",
]

_LONGEST = 300  # characters of somebody else's words


def names(some: Sequence[object], count: int = 0) -> str:
    """The first few. count: how many there are, if more than these."""
    count = max(count, len(some))
    return ", ".join(map(str, some[:NAMED])) + (f" and {count - NAMED:,} more" if count > NAMED else "")


def named(what: str, some: Sequence[object], count: int = 0) -> str:
    """`steps 3, 4`: the same, and what they are."""
    return f"{what if max(count, len(some)) == 1 else what + 's'} {names(some, count)}"


_PLURAL = {"waits": "wait", "runs": "run", "is": "are", "has": "have"}


def acting(steps: Sequence[int], verb: str) -> str:
    """`step 3 waits`, `steps 3, 4 wait`."""
    return f"{named('step', steps)} {verb if len(steps) == 1 else _PLURAL[verb]}"


def counted(number: int, what: str) -> str:
    return f"{number:,} {what if number == 1 else what + 's'}"


def moment(ms: int) -> str:
    """A time of Redis or of a worker, in the zone of here."""
    try:
        return f"{datetime.fromtimestamp(ms / 1000).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # a year that no calendar here has
        return f"{ms} ms"


def length(seconds: float) -> str:
    """How long: `0.4 s`, `12 s`, `5 min`, `3 h`, `4 days`."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.1f} s"


def cut(text: str) -> str:
    """Its first line, not too long."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def error_text(error: Failure | None) -> str:
    return cut(f"{error.kind}: {error.message}") if error is not None else "no error is known"


def failure_line(step: StepView) -> str:
    where = f" on {step.error.node}" if step.error is not None and step.error.node else ""
    return f"step {step.index} {step.action}, attempt {step.attempt}{where}: {error_text(step.error)}"


def other_line(one: Other, now_ms: int) -> str:
    """What another plan does."""
    if not one.state:
        return f"plan {one.plan} is gone"
    since = f" for {length(max(0, now_ms - one.since_ms) / 1000)}" if one.since_ms else ""
    return f"plan {one.plan} ({cut(one.label)}) is {one.state}{since}"


def orchestrator_line(one: Seen, *, holds: bool) -> str:
    """holds: the lease is its own now."""
    share = f", {one.member.share} % busy" if one.member.share else ""
    role = "active" if holds else "was active" if one.member.role == "active" else one.member.role or "passive"
    return f"{_who(one)}: {role}{share}, {_heart(one)}"


def worker_line(one: Seen) -> str:
    member = one.member
    return f"{_who(one)}: {member.role}, {member.busy} of {member.threads} threads busy, {_heart(one)}"


def _who(one: Seen) -> str:
    return f"{one.member.child} on {one.member.node}"


def _heart(one: Seen) -> str:
    why = f"; {cut(one.member.degraded)}" if one.member.degraded else ""
    return (f"silent for {length(one.beat_age)}" if one.silent else f"heartbeat {one.beat_age:.1f} s ago") + why
