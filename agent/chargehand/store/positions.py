"""Where the steps of a plan stand: on which queue, with which worker, until when; for `evidence`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chargehand.plan.life import StepState
from chargehand.plan.timers import retry_timer, wake_timer
from chargehand.store.census import Census
from chargehand.store.connection import Command, Line
from chargehand.store.keys import Keys
from chargehand.store.plans import StepView
from chargehand.store.profile import read_profiles
from chargehand.store.watching import Follower
from chargehand.wire import read_entry, read_key

__all__ = [
    "FAR",
    "LOOKED_AT",
    "Owner",
    "Place",
    "read_actions",
    "read_due",
    "read_owners",
    "read_places",
    "read_results",
    "read_said",
    "stands",
]

FAR = 10_000  # entries of a queue that are looked at, from its front
LOOKED_AT = 100  # steps of a plan whose timers, owners and results are looked at

_PAGE = 1_000  # entries of a queue read at once
_MOST_BYTES = 16 * 1024 * 1024  # of the entries of one queue: their inputs stand there too
_PROFILES = 20  # workers that are asked what they can run
_SPOKEN = 50  # what was said last
_STANDS = bytes([StepState.STANDING])
_STAND = frozenset({_STANDS, bytes([StepState.UNDOING])})


class Owner(NamedTuple):
    """A worker that has taken a step."""

    incarnation: str
    node: str
    child: str
    beat_age: float  # seconds
    silent: bool
    attempt: int
    for_ms: int | None = None  # how long the step has run; None: it was taken since the worker's last heartbeat
    timeout_ms: int = 0
    degraded: str = ""


class Place(NamedTuple):
    """Where a step stands on its queue."""

    before: int  # steps that come first
    alone: bool  # among those that run with nothing beside them


def stands(step: StepView) -> bool:
    """It is on a queue, with a worker, or its end is on its way to the orchestrator."""
    return step.state in {"queued", "running", "undoing"}


def read_places(
    line: Line, keys: Keys, plan: str, steps: Sequence[StepView], far: int
) -> tuple[dict[int, Place], dict[str, int], frozenset[str]]:
    """Where the steps stand on their queues, as far as these are looked into."""
    places: dict[int, Place] = {}
    looked: dict[str, int] = {}
    whole = set[str]()
    start = f"{plan}/".encode()
    for queue in dict.fromkeys(step.queue for step in steps):
        front = _Front(line, keys.queue(queue), far)
        aside = _Front(line, keys.alone(queue), far)
        for alone, entries in ((False, front), (True, aside)):
            for before, entry in enumerate(entries):
                name = entry.partition(b" ")[0].lstrip(b"~!")
                if name.startswith(start):
                    places.setdefault(int(name.rsplit(b"/", 2)[1]), Place(before, alone))
        looked[queue] = front.seen
        if front.whole and aside.whole:
            whole.add(queue)
    return places, looked, frozenset(whole)


class _Front:
    """The entries of a queue, from its front."""

    def __init__(self, line: Line, key: str, far: int) -> None:
        self._line, self._key, self._far = line, key, far
        self.seen = 0
        self.whole = False  # there are surely no more

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        while self.seen < self._far and size < _MOST_BYTES:
            page = self._line.call("LRANGE", self._key, self.seen, min(self._far, self.seen + _PAGE) - 1)
            self.seen += len(page)
            size += sum(map(len, page))
            yield from page
            if len(page) < _PAGE:
                self.whole = self.seen == len(page)  # between two pages it moves on
                return


def read_owners(line: Line, keys: Keys, plan: str, steps: Sequence[StepView], census: Census) -> dict[int, Owner]:
    if not steps:
        return {}
    workers = [one for one in census.members if one.member.kind == "worker"]
    owned = line.batch([("HKEYS", keys.own(one.incarnation)) for one in workers])
    start = f"{plan}/".encode()
    looked_at = {step.index for step in steps}
    pairs = ((one, key) for one, some in zip(workers, owned, strict=True) for key in some)
    ours = [(one, key.decode()) for one, key in pairs if key.startswith(start)]
    taken = [(one, key) for one, key in ours if read_key(key)[1] in looked_at]
    entries = line.batch([("HGET", keys.own(one.incarnation), key) for one, key in taken])
    found: dict[int, Owner] = {}
    for (one, key), entry in zip(taken, entries, strict=True):
        _, step, attempt = read_key(key)
        if entry is None:  # it has ended since
            continue
        member = one.member
        runs = dict(zip(member.running, member.for_ms, strict=False))
        for_ms = round(runs[key] + one.beat_age * 1000) if key in runs else None
        found[step] = Owner(
            incarnation=one.incarnation,
            node=member.node,
            child=member.child,
            beat_age=one.beat_age,
            silent=one.silent,
            attempt=attempt,
            for_ms=for_ms,
            timeout_ms=read_entry(entry).extra.timeout_ms,
            degraded=member.degraded,
        )
    return found


def read_actions(line: Line, keys: Keys, steps: Sequence[StepView], census: Census) -> dict[str, frozenset[str]]:
    queues = {step.queue for step in steps}
    serving = [one.incarnation for one in census.members if not one.silent and queues.intersection(one.member.queues)]
    profiles = read_profiles(line, keys, serving[:_PROFILES])
    return {one: frozenset(profile.actions) for one, profile in profiles.items()}


def read_results(line: Line, keys: Keys, plan: str, steps: Sequence[StepView]) -> tuple[frozenset[int], frozenset[int]]:
    """Steps whose result is written though they stand still, and steps that do not stand any more."""
    some = [step.index for step in steps]
    written = line.batch([("HEXISTS", keys.outputs(plan), step) for step in some])
    states = line.batch([("GETRANGE", keys.states(plan), step + 1, step + 1) for step in some])
    moved = {step for step, state in zip(some, states, strict=True) if state not in _STAND}
    unseen = {step for step, state, there in zip(some, states, written, strict=True) if there and state == _STANDS}
    return frozenset(unseen), frozenset(moved)


def read_due(line: Line, keys: Keys, plan: str, steps: Sequence[StepView]) -> dict[int, int]:
    timers: dict[int, str] = {}
    for step in steps:
        if step.state == "suspended":
            timers[step.index] = wake_timer(plan, step.index, step.attempt)
        elif step.state in {"retrying", "undo retrying"}:
            timers[step.index] = retry_timer(plan, step.index, step.attempt)
        if len(timers) == LOOKED_AT:
            break
    commands: list[Command] = [("ZSCORE", keys.timers, timer) for timer in timers.values()]
    found = line.batch(commands)
    return {step: int(float(score)) for step, score in zip(timers, found, strict=True) if score is not None}


def read_said(line: Line, keys: Keys, plan: str) -> dict[int, str]:
    follower = Follower(keys, plan, past=_SPOKEN)
    changes = follower.changes(line.batch(follower.questions()))
    return {
        one.step: one.text.rstrip("\n").rpartition("\n")[2]
        for one in changes
        if one.step is not None and one.kind in {"out", "err", "say"}
    }
