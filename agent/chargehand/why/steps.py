"""What those steps wait for that have their turn: a worker, its end, an event, the next attempt."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from chargehand.store.evidence import LOOKED_AT, NAMED, Evidence, Owner
from chargehand.store.plans import StepView
from chargehand.why.answer import Cause
from chargehand.why.deciding import inbox_line
from chargehand.why.queues import Reason, Stand, waits_for_worker
from chargehand.why.words import acting, cut, error_text, failure_line, length, moment, named, other_line

__all__ = ["failed_steps", "under_way"]

_UNDER_WAY = frozenset({"queued", "running", "undoing", "suspended", "retrying", "undo retrying"})
_GRACE_MS = 5_000  # past the time-out: the worker has ended by then what can be ended


def under_way(evidence: Evidence) -> Iterator[Cause]:
    """All steps that stand for the same reason are one cause."""
    groups: dict[Reason, list[tuple[int, Stand]]] = {}
    stands = ((step.index, _stand(evidence, step)) for step in evidence.view.steps)
    for index, stand in islice(((index, stand) for index, stand in stands if stand is not None), LOOKED_AT):
        groups.setdefault(stand.reason, []).append((index, stand))
    left_out = _not_all(evidence)
    for reason, some in groups.items():
        steps = [index for index, _ in some]
        first = some[0][1]
        seen = [line for _, stand in some[:NAMED] for line in stand.own]
        text = f"{acting(steps, reason.verb)} {reason.rest}"
        yield Cause(reason.kind, text, [*seen, *first.common, *left_out], first.advice, steps, reason.stuck)


def _not_all(evidence: Evidence) -> list[str]:
    count = sum(step.state in _UNDER_WAY for step in evidence.view.steps)
    return [f"of its {count:,} steps under way only the first {LOOKED_AT} are told of"] if count > LOOKED_AT else []


def failed_steps(evidence: Evidence) -> Iterator[Cause]:
    """Of a plan that goes on as far as it can without them."""
    failed = [step for step in evidence.view.steps if step.state == "failed"]
    if failed:
        plan, some = evidence.view.plan, [step.index for step in failed]
        yield Cause(
            "failed-step",
            f"{named('step', some)} failed; the plan pauses when the others have ended",
            evidence=[failure_line(step) for step in failed[:NAMED]],
            advice=[f"chargehand plan retry {plan} {some[0]}", f"chargehand plan skip {plan} {some[0]}"],
            steps=some[:LOOKED_AT],
        )


def _stand(evidence: Evidence, step: StepView) -> Stand | None:
    """None: it waits for another step, has ended, or moves at this moment."""
    if step.index in evidence.moved:
        return None
    if step.state in {"queued", "running", "undoing"}:
        owner = evidence.owners.get(step.index)
        if owner is not None:
            return _taken(evidence, step, owner)
        if step.state == "running":  # it had an owner when the plan was read: it has ended since
            return _unseen(evidence, step) if step.index in evidence.unseen else None
        return _unseen(evidence, step) if _has_ended(evidence, step) else waits_for_worker(evidence, step)
    if step.state == "suspended":
        return _suspended(evidence, step)
    if step.state in {"retrying", "undo retrying"}:
        return _retrying(evidence, step)
    return None


def _has_ended(evidence: Evidence, step: StepView) -> bool:
    """It is on no queue that was looked through to its end, and nobody has it."""
    if step.index in evidence.unseen:
        return True
    return step.queue in evidence.whole and step.index not in evidence.places


def _unseen(evidence: Evidence, step: StepView) -> Stand:
    result = f"its result is written: chargehand plan show --output {evidence.view.plan}"
    own = [result] if step.index in evidence.unseen else []
    common = inbox_line(evidence) or ["the inbox is empty by now"]
    return Stand(Reason("unseen", "has", "ended, and the orchestrator has not seen it yet"), own, common)


def _taken(evidence: Evidence, step: StepView, owner: Owner) -> Stand:
    plan, where = evidence.view.plan, f"on {owner.node} ({owner.child})"
    limit = f"of at most {length(owner.timeout_ms / 1000)}" if owner.timeout_ms else "no time-out"
    if owner.for_ms is None:
        own = [f"step {step.index}, attempt {owner.attempt}: taken since the last heartbeat, or in line there; {limit}"]
    else:
        since = moment(evidence.census.now_ms - owner.for_ms)
        own = [f"step {step.index}, attempt {owner.attempt}: since {since}, {length(owner.for_ms / 1000)}; {limit}"]
    if step.progress is not None:
        about = f" {step.progress.message!r}" if step.progress.message else ""
        own.append(f"  progress {step.progress.fraction:.0%}{about}, told at {moment(step.progress.ms)}")
    if step.index in evidence.said:
        own.append(f"  said last: {cut(evidence.said[step.index])}")
    common = [f"the worker's heartbeat is {owner.beat_age:.1f} s old"]
    common += [f"the worker says: {cut(owner.degraded)}"] if owner.degraded else []
    if owner.silent:
        decided = evidence.census.lease_token is not None
        then = "it is taken back, and runs again" if decided else "no orchestrator is active to take it back"
        advice = [f"on {owner.node}: systemctl status chargehand"]
        reason = Reason("owner-silent", "is", f"with a worker that has fallen silent, {where}", stuck=not decided)
        return Stand(reason, own, [*common, then], advice)
    if owner.timeout_ms and (owner.for_ms or 0) > owner.timeout_ms + _GRACE_MS:
        advice = [
            f"chargehand plan halt {plan}   (give the plan up)",
            f"on {owner.node}: chargehand restart {owner.child}   (the step ends with its worker, and runs again)",
        ]
        rest = f"{where}, over its time-out of {length(owner.timeout_ms / 1000)}: it cannot be interrupted"
        return Stand(Reason("overtime", "runs", rest, stuck=True), own, common, advice)
    return Stand(Reason("running", "runs", where), own, common, [f"chargehand plan watch {plan}"])


def _suspended(evidence: Evidence, step: StepView) -> Stand:
    plan, counts = evidence.view.plan, step.children
    left = counts.total - counts.succeeded - counts.failed if counts is not None else 0
    if counts is not None and left:
        some = evidence.children.get(step.index, [])
        seen = [f"{counts.total - left:,} of {counts.total:,} have ended, {counts.failed:,} of them badly"]
        seen += [other_line(one, evidence.census.now_ms) for one in some]
        advice = [f"chargehand why {one.plan}" for one in some[:1]]
        advice.append(f"chargehand plan children {plan} {step.index}")
        return Stand(Reason("sub-plans", "waits", f"for sub-plans, {left:,} of them"), [], seen, advice)
    at_ms = evidence.due.get(step.index, 0)
    advice = [f"chargehand plan event {plan} {step.index} NAME"]
    if at_ms:
        reason = Reason("wake", "waits", f"for an event, or until {moment(at_ms)}")
        return Stand(reason, [], [], [f"{advice[0]}   (it goes on now)"])
    seen = ["its own code has suspended it: it goes on when somebody sends it an event"]
    return Stand(Reason("event", "waits", "for an event (chargehand plan event)"), [], seen, advice)


def _retrying(evidence: Evidence, step: StepView) -> Stand:
    at_ms = evidence.due.get(step.index, 0)
    own = [f"step {step.index}, attempt {step.attempt} failed: {error_text(step.error)}"]
    advice = []
    if step.state == "retrying":
        advice.append(f"chargehand plan retry {evidence.view.plan} {step.index}   (now)")
    when = f", at {moment(at_ms)}" if at_ms else ""
    return Stand(Reason("retry", "waits", f"for the next attempt{when}"), own, [], advice)
