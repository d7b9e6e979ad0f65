"""The answer to why a plan stands where it stands, and the kinds of causes that there are."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["KINDS", "Answer", "Cause", "needs_somebody"]

#: Every kind of a cause, in the order of the way. The table of docs/troubleshooting.md says what to do about each.
KINDS = (
    *("no-redis", "no-plan", "several", "parts", "other-executor", "recurring"),
    *("no-active", "takeover", "behind", "saturated", "replicas", "full", "inbox"),
    *("scheduled", "after", "lock", "limit", "rate", "plan-limit"),
    *("no-worker", "unit", "node-away", "workers-silent", "draining", "no-action", "alone", "busy", "queued"),
    *("owner-silent", "overtime", "running", "unseen"),
    *("event", "wake", "sub-plans", "retry", "failed-step"),
    *("paused", "lost", "cancelling", "reverting", "failing", "moves", "ended"),
)


class Cause(Struct, omit_defaults=True):
    """One reason, and what to do about it."""

    kind: str  # a word of the table in docs/troubleshooting.md: `no-active`, `no-worker`, `lock`, ...
    text: str  # one sentence: "step 3 waits for a worker: none serves the queue 'reports'"
    evidence: list[str] = []  # what was seen, one line each
    advice: list[str] = []  # what to do now, one line each; commands as they are typed
    steps: list[int] = []  # the steps that it holds up; none: the plan
    stuck: bool = False  # it does not end by itself: somebody must do something


class Answer(Struct, omit_defaults=True):
    """Why one plan stands where it stands. The first cause is the one to look at first."""

    plan: str
    state: str  # as in a view; "unknown" when Redis does not answer, "none" when there is no such plan
    text: str  # the whole in one sentence
    causes: list[Cause] = []
    executor: str = ""  # of several
    label: str = ""  # the action that was asked for


def needs_somebody(answer: Answer) -> bool:
    """True when it does not go on by itself, and has not ended well."""
    return any(cause.stuck for cause in answer.causes)
