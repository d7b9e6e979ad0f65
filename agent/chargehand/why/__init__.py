"""Where a plan stands and why it does not go on: one answer in plain words, with the evidence under it.

Pure: `Evidence` in, `Answer` out. The whole way is walked in order (accepted, its time, other plans, locks, limits,
queues, workers, results), and everything on it that holds the plan up is a cause; those that somebody must see to
come first. `store/evidence.py` gathers what is judged here; docs/troubleshooting.md has a table of the kinds.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from chargehand.store.evidence import Evidence
from chargehand.store.plans import PlanView
from chargehand.why.answer import KINDS, Answer, Cause, needs_somebody
from chargehand.why.beginning import before_it_begins, limited, scheduled
from chargehand.why.deciding import not_accepted, nothing_decides
from chargehand.why.elsewhere import nowhere, several, unreachable
from chargehand.why.ending import being_ended, ended, paused
from chargehand.why.steps import failed_steps, under_way
from chargehand.why.words import counted

__all__ = ["KINDS", "Answer", "Cause", "explain", "needs_somebody", "nowhere", "reasons", "several", "unreachable"]

_ENDED = frozenset({"succeeded", "failed", "cancelled", "reverted", "halted", "rejected"})
_ENDING = frozenset({"cancelling", "reverting", "failing"})


def explain(evidence: Evidence) -> Answer:
    """The answer for a plan that exists."""
    view = evidence.view
    causes = sorted(_walk(evidence), key=lambda cause: not cause.stuck) or [_goes_on(view)]
    first = causes[0] = replace(causes[0], evidence=[*causes[0].evidence, *_kin(evidence)])
    more = f" (and {len(causes) - 1} more)" if len(causes) > 1 else ""
    return Answer(view.plan, view.state, f"{first.text}{more}", causes, label=view.label)


#: Not told beside a plan's steps: it goes on, or all plans are held up alike.
_NO_WAIT = frozenset(
    {"no-active", "takeover", "behind", "saturated", "replicas", "full", "running", "failed-step", "ended"}
)


def reasons(evidence: Evidence) -> list[str]:
    """What holds a plan up, a sentence each. It does with evidence for which no queue was looked into."""
    if evidence.view.state == "submitted":
        return [cause.text for cause in _walk(evidence)][:1]
    return [cause.text for cause in _walk(evidence) if cause.kind not in _NO_WAIT]


def _walk(evidence: Evidence) -> Iterator[Cause]:
    state = evidence.view.state
    if state in _ENDED:
        yield ended(evidence)
        return
    if state == "paused":
        yield paused(evidence)
        return
    yield from nothing_decides(evidence)
    if state == "submitted":
        yield not_accepted(evidence)
    elif state == "scheduled":
        yield scheduled(evidence)
    elif state == "waiting":
        yield from before_it_begins(evidence)
    else:
        if state in _ENDING:
            yield being_ended(evidence)
        yield from limited(evidence)
        yield from under_way(evidence)
        if state == "running":
            yield from failed_steps(evidence)


def _goes_on(view: PlanView) -> Cause:
    steps = ", ".join(f"{count:,} {word}" for word, count in view.counts.items())
    seen = [f"{counted(view.total, 'step')}: {steps}"] if steps else []
    return Cause("moves", "it goes on: nothing holds it up at this moment", seen)


def _kin(evidence: Evidence) -> list[str]:
    """What it belongs to."""
    view = evidence.view
    if view.parent is not None:
        state = f", which is {evidence.parent.state}" if evidence.parent is not None and evidence.parent.state else ""
        return [f"it is a sub-plan of step {view.parent[1]} of plan {view.parent[0]}{state}"]
    name, _, at = view.plan[1:].rpartition("-")
    if view.plan.startswith("r") and name and at.isdecimal():
        return [f"it is a run of the recurring plan {name!r}"]
    return []
