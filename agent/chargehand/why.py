"""Where a plan stands and why it does not go on: one answer in plain words, with the evidence under it."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Answer", "Cause"]


class Cause(Struct, omit_defaults=True):
    """One reason, and what to do about it."""

    kind: str  # a word of the table in docs/troubleshooting.md: `no-active`, `no-worker`, `lock`, ...
    text: str  # one sentence: "step 3 waits for a worker: none serves the queue 'reports'"
    evidence: list[str] = []  # what was seen, one line each
    advice: list[str] = []  # what to do now, one line each; commands as they are typed
    steps: list[int] = []  # the steps that it holds up; none: the plan


class Answer(Struct, omit_defaults=True):
    """Why one plan stands where it stands. The first cause is the one to look at first."""

    plan: str
    state: str  # as in a view; "unknown" when Redis does not answer, "none" when there is no such plan
    text: str  # the whole in one sentence
    causes: list[Cause] = []
    executor: str = ""  # of several
