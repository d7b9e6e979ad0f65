"""Why nobody takes a step that stands on a queue: who serves it, and what they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chargehand.store.census import Seen
from chargehand.store.evidence import FAR, NAMED, Evidence
from chargehand.store.plans import StepView
from chargehand.why.words import length, names, worker_line

__all__ = ["NO_ACTION", "Reason", "Stand", "waits_for_worker"]

#: What helps when a worker does not know an action.
NO_ACTION = "have the workers of its queue import it: [actions] modules, then chargehand reload"

_LINES = 20  # of one list


class Reason(NamedTuple):
    """Why a step does not end: those with the same one are told together."""

    kind: str
    verb: str  # "waits", "runs", "is", "has"
    rest: str  # of the sentence
    stuck: bool = False


class Stand(NamedTuple):
    """Where one step stands."""

    reason: Reason
    own: list[str]  # what was seen of this step
    common: list[str] = []  # and of all that stand for the same reason
    advice: list[str] = []


def waits_for_worker(evidence: Evidence, step: StepView) -> Stand:
    queue = step.queue
    own = [*_position(evidence, step), *_losses(step)]
    serving = [one for one in evidence.census.members if one.member.kind == "worker" and queue in one.member.queues]
    heard = [one for one in serving if not one.silent]
    working = [one for one in heard if one.member.role != "draining"]
    if working:
        return _among(evidence, step, working, own)
    who = [worker_line(one) for one in serving[:NAMED]]
    cancel = f"or give the plan up: chargehand plan cancel {evidence.view.plan}"
    nodes = ", ".join(sorted({one.member.node for one in serving})[:NAMED])
    if heard:
        advice = [f"on {nodes}: chargehand undrain   (if it was drained), or have another node serve the queue"]
        reason = Reason("draining", "waits", f"for a worker: those that serve {queue!r} are draining", stuck=True)
        return Stand(reason, own, who, [*advice, cancel])
    if queue.startswith("@"):
        there = sorted({one.member.node for one in evidence.census.members if not one.silent})
        seen = [f"nodes that are there: {', '.join(there[:_LINES])}" if there else "no node is there", *who]
        advice = [f"on {queue[1:]}: systemctl status chargehand; systemctl start chargehand", cancel]
        reason = Reason("node-away", "waits", f"for node {queue[1:]!r}: it is away", stuck=True)
        return Stand(reason, own, seen, advice)
    if serving:
        advice = [f"on {nodes}: systemctl status chargehand", "chargehand status"]
        reason = Reason("workers-silent", "waits", f"for a worker: those that serve {queue!r} are silent", stuck=True)
        return Stand(reason, own, who, advice)
    unit = next((name for name, queues in evidence.units if queue in queues), None)
    if unit is not None:
        reason = Reason("unit", "waits", f"for a worker: {unit} serves {queue!r}, and does not run", stuck=True)
        return Stand(reason, own, [], [f"systemctl enable --now {unit}", cancel])
    advice = [
        f'where its action can run: [[worker]] queues = [..., "{queue}"] in the configuration; chargehand reload',
        cancel,
    ]
    reason = Reason("no-worker", "waits", f"for a worker: none serves {queue!r}", stuck=True)
    return Stand(reason, own, _who_serves_what(evidence.census.members), advice)


def _among(evidence: Evidence, step: StepView, working: Sequence[Seen], own: list[str]) -> Stand:
    """There are workers for it."""
    unable = _unable(evidence, step, working)
    if unable is not None:
        return Stand(unable, own, [worker_line(one) for one in working[:NAMED]], [NO_ACTION])
    place = evidence.places.get(step.index)
    if place is not None and place.alone and all(one.member.busy for one in working):
        rest = f"for a worker of {step.queue!r} that has nothing else in hand, as its worker died before"
        return Stand(Reason("alone", "waits", rest), own, _with_what(working))
    busy, threads = (sum(getattr(one.member, what) for one in working) for what in ("busy", "threads"))
    depth = evidence.census.queues.get(step.queue, 0)
    what = f"{depth:,} steps in the queue" if depth != 1 else "1 step in the queue"
    rest = f"for a worker: {what} {step.queue!r}, {busy} of its {threads} threads busy"
    if busy < threads:
        return Stand(Reason("queued", "waits", rest), own, [worker_line(one) for one in working[:NAMED]])
    advice = ["more threads ([[worker]] threads), more workers (processes) or more nodes for this queue"]
    return Stand(Reason("busy", "waits", rest), own, _with_what(working), advice)


def _unable(evidence: Evidence, step: StepView, working: Sequence[Seen]) -> Reason | None:
    """Of all that serve its queue it is known that they cannot run it: whoever takes it will fail."""
    known = [evidence.actions.get(one.incarnation) for one in working]
    name = step.action.partition(":")[0]  # what it is planned or reverted by has a colon
    if any(actions is None or actions & {name, step.action} for actions in known):
        return None
    return Reason("no-action", "waits", f"for a worker: none that serves {step.queue!r} has {name!r}", stuck=True)


def _position(evidence: Evidence, step: StepView) -> list[str]:
    place = evidence.places.get(step.index)
    if place is not None:
        which = "those of the queue that run alone" if place.alone else "the queue"
        return [f"step {step.index} is number {place.before + 1:,} in {which}"]
    looked = evidence.looked.get(step.queue, 0)
    return [f"step {step.index} has more than {looked:,} before it"] if looked >= FAR else []


def _losses(step: StepView) -> list[str]:
    if not step.losses:
        return []
    times = {1: "once", 2: "twice"}.get(step.losses, f"{step.losses} times")
    return [f"the worker of step {step.index} died {times} while it ran; after three times the plan pauses"]


def _who_serves_what(members: Sequence[Seen]) -> list[str]:
    served: dict[str, list[str]] = {}
    for one in members:
        if one.member.kind == "worker" and not one.silent:
            served.setdefault(", ".join(one.member.queues), []).append(f"{one.member.child} on {one.member.node}")
    if not served:
        return ["no worker is there at all"]
    return [f"{names(who)}: {queues}" for queues, who in list(served.items())[:_LINES]]


def _with_what(working: Sequence[Seen]) -> list[str]:
    """What they are busy with, the longest first."""
    runs = [
        (for_ms / 1000 + one.beat_age, key, one)
        for one in working
        for key, for_ms in zip(one.member.running, one.member.for_ms, strict=False)
    ]
    runs.sort(key=lambda run: -run[0])
    lines = []
    for seconds, key, one in runs[:NAMED]:
        plan, _, rest = key.partition("/")
        where = f"{one.member.child} on {one.member.node}"
        lines.append(f"{where} has run step {rest.partition('/')[0]} of plan {plan} for {length(seconds)}")
    return lines + ([f"and {len(runs) - NAMED:,} more"] if len(runs) > NAMED else [])
