"""What pages show, from what is known: words, times and who did what when. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

import msgspec

from chargehand.plan.asking import Request, plan_refuses, step_refuses
from chargehand.plan.life import ENDED, StepState
from chargehand.store.census import Census, Seen
from chargehand.store.history import Moment
from chargehand.store.plans import PLAN_WORDS, STEP_WORDS, PlanView, StepView

__all__ = [
    "ENDED_WORDS",
    "Attempt",
    "after",
    "age",
    "attempts",
    "clock",
    "count",
    "iso",
    "nodes",
    "plan_allows",
    "plural",
    "pretty",
    "rate",
    "running",
    "step_allows",
    "step_counts",
    "told",
    "tone",
    "took",
]

_TONES = {
    "good": ("succeeded", "active", "ok", "ready", "working"),
    "busy": ("running", "reverting"),
    "warn": ("paused", "retrying", "failing", "cancelling", "undoing", "undo retrying", "warning", "lost", "skipped"),
    "bad": ("failed", "rejected", "spoiled", "silent", "error", "halted"),
    "off": ("cancelled", "reverted"),
}
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words}

_PLAN_STATES = {word: state for state, word in PLAN_WORDS.items()}
_STEP_STATES = {word: state for state, word in STEP_WORDS.items()} | {"running": StepState.STANDING}

ENDED_WORDS = {PLAN_WORDS[state] for state in ENDED}

_PRETTY = 20_000  # characters of a value that are laid out; longer ones stand as they are


# -- words ----------------------------------------------------------------------------------------


def tone(word: str) -> str:
    """How a state is coloured and which shape stands before it: good, busy, wait, warn, bad, off."""
    return _TONE_OF.get(word, "wait")


def count(number: int) -> str:
    return f"{number:,}"


def plural(number: int, one: str, many: str = "") -> str:
    """'1 step', '3 steps'."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def rate(a_second: float) -> str:
    if a_second == 0:
        return "0/s"
    if a_second < 1:
        return f"{a_second * 60:.0f}/min" if a_second * 60 >= 10 else f"{a_second * 60:.1f}/min"
    return f"{a_second:,.0f}/s" if a_second >= 10 else f"{a_second:.1f}/s"


def took(seconds: float) -> str:
    """A duration."""
    if seconds < 0.0995:
        return f"{max(0, seconds) * 1000:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    return f"{seconds:.0f} s" if seconds < 60 else age(seconds)


def age(seconds: float) -> str:
    """How long ago, in one or two units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 5 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours and days < 10 else f"{days} d"


def clock(ms: int, now_ms: int) -> str:
    """A moment in this machine's time zone: the time of a day that is less than a day away, the date otherwise."""
    if not ms:
        return ""
    then = datetime.fromtimestamp(ms / 1000).astimezone()
    near = abs(now_ms - ms) < 86_400_000 and then.date() == datetime.fromtimestamp(now_ms / 1000).astimezone().date()
    return then.strftime("%H:%M:%S" if near else "%Y-%m-%d %H:%M")


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000).astimezone().isoformat(timespec="seconds")


def pretty(raw: bytes | msgspec.Raw | str) -> str:
    """JSON laid out for people."""
    data = raw.encode() if isinstance(raw, str) else bytes(raw)
    if len(data) > _PRETTY:
        return data.decode(errors="replace")
    try:
        return msgspec.json.format(data, indent=2).decode()
    except msgspec.MsgspecError:
        return data.decode(errors="replace")


# -- plans ----------------------------------------------------------------------------------------


def plan_allows(view: PlanView) -> set[str]:
    """What can be asked of a plan as it is now: names of requests in small letters (`resume`, `cancel`, ...)."""
    state = _PLAN_STATES.get(view.state)
    return {request.name.lower() for request in Request if plan_refuses(request, state) is None}


def step_allows(view: PlanView, step: StepView) -> set[str]:
    """The same of one step: `retry`, `skip`, `send`. Events are offered where a step waits for one."""
    whole = plan_allows(view)
    state = _STEP_STATES[step.state]
    able = {
        request.name.lower()
        for request in (Request.SKIP, Request.RETRY, Request.SEND)
        if step_refuses(request, state) is None
    }
    return able & whole - (set() if step.state == "suspended" else {"send"})


def step_counts(view: PlanView) -> dict[str, int]:
    """How many steps are in which state; those that run apart from those that are queued."""
    return dict(Counter(map(attrgetter("state"), view.steps)))


def after(step: StepView) -> str:
    """What it depends on, in words."""
    some = [f"{one[0]} to {one[1] - 1}" if isinstance(one, tuple) else str(one) for one in step.after]
    return ", ".join(some[:10]) + (f" and {len(some) - 10:,} more" if len(some) > 10 else "")


class Told(NamedTuple):
    """Something that happened, as a person reads it."""

    ms: int
    tone: str
    text: str


def told(view: PlanView, moments: Sequence[Moment], most: int) -> list[Told]:
    """A plan's history, the latest first; at most so many. Of many steps, those that simply went well are left out."""
    some = moments if len(moments) <= most else [one for one in moments if one.what != "succeeded"]
    return [_told(view, one) for one in reversed(some[-most:])]


def _told(view: PlanView, one: Moment) -> Told:
    step = ""
    if one.step is not None:
        action = view.steps[one.step].action if one.step < len(view.steps) else ""
        step = f"step {one.step} {action}".rstrip()
    where = f" on {one.node}" if one.node else ""
    by = f" by {one.by}" if one.by else ""
    if one.what == "plan":
        return Told(one.ms, tone(one.text), f"the plan is {one.text}")
    if one.what == "asked":
        return Told(one.ms, "wait", f"{one.text} asked for{by}")
    if one.what == "submitted":
        return Told(one.ms, "wait", f"submitted{by}")
    if one.what == "failed":
        error = f": {one.error.kind}: {one.error.message}" if one.error is not None else ""
        return Told(one.ms, "bad", f"{step} failed at attempt {one.attempt}{where}{error}")
    if one.what == "lost":
        return Told(one.ms, "warn", f"{step} was lost with its worker at attempt {one.attempt}")
    if one.what == "event":
        return Told(one.ms, "wait", f"{step} was sent {one.text!r}{by}")
    return Told(one.ms, tone(one.what), f"{step} {one.what}{where}".strip())


class Attempt(NamedTuple):
    """One try at a step, for the time line. Times are ms by the worker's clock."""

    step: int
    action: str
    attempt: int
    started_ms: int
    ended_ms: int
    node: str
    outcome: str  # a state's word


class Running(NamedTuple):
    """Where a step runs, and since when (ms of Redis' TIME), as its worker told last."""

    node: str
    since_ms: int


def running(census: Census, plan: str) -> dict[tuple[int, int], Running]:
    """What workers run of a plan: (step, attempt) -> where. Of a worker with very many, the first."""
    found = {}
    for one in census.members:
        told_ms = census.now_ms - round(one.beat_age * 1000)
        for key, for_ms in zip(one.member.running, one.member.for_ms, strict=False):
            owner, step, attempt = key.rsplit("/", 2)
            if owner == plan:
                found[int(step), int(attempt)] = Running(one.member.node, told_ms - for_ms)
    return found


def attempts(
    view: PlanView, moments: Iterable[Moment], now_ms: int, run: Mapping[tuple[int, int], Running]
) -> list[Attempt]:
    """All that is known of who ran what when: by step, then by time. What runs now ends now."""
    found: dict[int, list[Attempt]] = defaultdict(list)
    for one in moments:
        if one.step is not None and one.started_ms and one.step < len(view.steps):
            action = view.steps[one.step].action
            found[one.step].append(Attempt(one.step, action, one.attempt, one.started_ms, one.ms, one.node, one.what))
    for step in view.steps:
        result, error = step.result, step.error
        if result is None and error is None and step.state != "running":
            continue  # most, of a large plan
        tries = found[step.index]
        seen = {(one.attempt, one.outcome) for one in tries}
        ended = []
        if result is not None:
            ended.append((result.attempt, result.started_ms, result.ended_ms, result.node, "succeeded"))
        if error is not None and error.started_ms and step.state == "failed":
            ended.append((step.attempt, error.started_ms, error.ended_ms, error.node, "failed"))
        tries += [Attempt(step.index, step.action, *one) for one in ended if (one[0], one[-1]) not in seen]
        if step.state == "running":
            where = run.get((step.index, step.attempt)) or Running("", _ready_ms(view, step, found))
            began = min(where.since_ms, now_ms)
            tries.append(Attempt(step.index, step.action, step.attempt, began, now_ms, where.node, "running"))
    return [one for step in sorted(found) for one in sorted(found[step], key=lambda one: one.started_ms)]


def _ready_ms(view: PlanView, step: StepView, found: dict[int, list[Attempt]]) -> int:
    """When a step that runs could begin: for as long as its worker has not told when it did."""
    own = [one.ended_ms for one in found[step.index]]
    before = [
        result.ended_ms
        for one in step.after
        for index in (range(*one) if isinstance(one, tuple) else (one,))
        if (result := view.steps[index].result) is not None
    ]
    return max([view.submitted_ms, view.start_at_ms, *own, *before])


# -- members --------------------------------------------------------------------------------------


class Node(NamedTuple):
    """A node and what is heard of it."""

    name: str
    role: str  # of its orchestrator: active, passive; without one: working. All silent: silent
    members: Sequence[Seen]
    busy: int
    threads: int
    degraded: Sequence[str]


def nodes(census: Census) -> list[Node]:
    """By name."""
    found: dict[str, list[Seen]] = defaultdict(list)
    for one in census.members:
        found[one.member.node].append(one)
    return [_node(name, members) for name, members in sorted(found.items())]


def _node(name: str, members: list[Seen]) -> Node:
    heard = [one for one in members if not one.silent]
    roles = [one.member.role for one in heard if one.member.kind == "orchestrator" and one.member.role]
    role = "silent" if not heard else "active" if "active" in roles else roles[0] if roles else "working"
    workers = [one.member for one in heard if one.member.kind == "worker"]
    return Node(
        name,
        role,
        members,
        sum(one.busy for one in workers),
        sum(one.threads for one in workers),
        [f"{one.member.child}: {one.member.degraded}" for one in members if one.member.degraded],
    )
