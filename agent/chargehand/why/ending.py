"""Plans that wait for somebody, that are being ended, and that have ended."""

from __future__ import annotations

from chargehand.store.evidence import LOOKED_AT, NAMED, Evidence
from chargehand.why.answer import Cause
from chargehand.why.queues import NO_ACTION
from chargehand.why.words import error_text, failure_line, length, moment, named
from chargehand.wire import SUB_PLANS_FAILED

__all__ = ["being_ended", "ended", "paused"]

#: What helps against some kinds of failures.
_HINTS = {
    "unknown action": NO_ACTION,
    "privileged action": "have its queue served by a [[worker]] with unit = true, and by no other",
    "unprivileged action": "have its queue served by another group than the one with unit = true",
    "output too large": "have the action give a path or a key instead of the data",
}


def paused(evidence: Evidence) -> Cause:
    view = evidence.view
    plan = view.plan
    failed = [step for step in view.steps if step.state == "failed"]
    seen = [f"paused since {moment(view.since_ms)}"] if view.since_ms else []
    seen += [failure_line(step) for step in failed[:NAMED]]
    kinds = {step.error.kind for step in failed if step.error is not None}
    advice = [_HINTS[kind] for kind in sorted(kinds & _HINTS.keys())]
    if failed and SUB_PLANS_FAILED in kinds:
        advice.append(f"chargehand plan children {plan} {failed[0].index} --state failed")
    advice.append(f"chargehand plan resume {plan}   (run what failed again)")
    if len(failed) > 1:
        advice.append(f"chargehand plan retry {plan} {failed[0].index}   (run only this one again)")
    if failed:
        advice.append(f"chargehand plan skip {plan} {failed[0].index}   (go on without it)")
    if any(policy.revert for policy in evidence.definition.policies):
        advice.append(f"chargehand plan revert {plan}   (undo what it has done)")
    advice.append(f"chargehand plan cancel {plan}   (give it up)")
    if not failed:
        return Cause("paused", "it is paused, and somebody is to decide", seen, advice, stuck=True)
    what = f"step {failed[0].index} ({failed[0].action})" if len(failed) == 1 else f"{len(failed):,} of its steps"
    lost = kinds == {"lost"}
    verb = "was lost with its worker" if lost and len(failed) == 1 else "were lost" if lost else "failed"
    text = f"it is paused: {what} {verb}, and somebody is to decide ({error_text(failed[0].error)})"
    some = [step.index for step in failed[:LOOKED_AT]]
    return Cause("lost" if lost else "paused", text, seen, advice, some, stuck=True)


_BEING = {"cancelling": "cancelled", "reverting": "reverted", "failing": "given up, as a step of it failed"}


def being_ended(evidence: Evidence) -> Cause:
    view = evidence.view
    moving = {"queued", "running", "suspended", "undoing", "undo retrying"}
    left = [step.index for step in view.steps if step.state in moving]
    seen = [f"{view.state} since {moment(view.since_ms)}"] if view.since_ms else []
    if evidence.grace_ms is not None and evidence.grace_ms >= 0:
        seen.append(f"what runs of it has {length(evidence.grace_ms / 1000)} to end by itself, then it is ended")
    seen += [failure_line(step) for step in view.steps if step.state in {"failed", "spoiled"}][:NAMED]
    advice = [f"chargehand plan halt {view.plan}   (end it at once, whatever runs)"]
    if view.state == "cancelling":
        advice.insert(0, f"chargehand plan cancel --grace 1s {view.plan}   (less patience with what runs)")
    waits = f", and waits for {named('step', left)}" if left else ""
    return Cause(view.state, f"it is being {_BEING[view.state]}{waits}", seen, advice, left[:LOOKED_AT])


def ended(evidence: Evidence) -> Cause:
    view = evidence.view
    failed = [step for step in view.steps if step.state in {"failed", "spoiled"}]
    seen = [f"the plan: {error_text(view.error)}"] if view.error is not None else []
    seen += [failure_line(step) for step in failed[:NAMED]]
    first = view.error or next((step.error for step in failed if step.error is not None), None)
    at = f" at {moment(view.since_ms)}" if view.since_ms else ""
    badly = view.state in {"failed", "rejected"}  # the other ends are what somebody wanted
    why = f" ({error_text(first)})" if first is not None and view.state != "succeeded" else ""
    advice = [f"chargehand plan history {view.plan}"] if badly else []
    return Cause("ended", f"it has ended: {view.state}{at}{why}", seen, advice, stuck=badly)
