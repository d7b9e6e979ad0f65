"""Whether the demonstration kept its promises. Pure: what was read in, what holds out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chargehand.decoding import decode
from chargehand.store.plans import PlanView

__all__ = ["Finding", "judge"]


class Finding(NamedTuple):
    holds: bool
    text: str


def judge(view: PlanView, files: int, orphans: Sequence[str]) -> list[Finding]:
    """`view` is the whole plan after its end, `files` how many files there are, `orphans` what still runs."""
    return [_hashed(view, files), _counted_once(view), _ordered(view), _nothing_left(orphans)]


def _hashed(view: PlanView, files: int) -> Finding:
    last = view.steps[-1].result
    if view.state != "succeeded" or last is None:
        errors = [step.error.message for step in view.steps if step.error is not None and step.state == "failed"]
        return Finding(False, f"the plan is {view.state}: {'; '.join(errors) or view.counts}")
    answer = decode(last.output, dict[str, int | bool])
    holds = answer["files"] == files == answer["expected"] and bool(answer["equal"])
    same = "equal to" if answer["equal"] else "DIFFERENT FROM"
    return Finding(holds, f"{answer['files']} of {files} files hashed, {same} a direct computation")


def _counted_once(view: PlanView) -> Finding:
    results = sum(step.result is not None for step in view.steps)
    wrong = [step.index for step in view.steps if step.result is None or step.result.attempt != step.attempt]
    again = sum(step.attempt > 1 for step in view.steps)
    holds = results == view.total and not wrong and view.counts == {"succeeded": view.total}
    text = f"{results} results of {view.total} steps, each counted once ({again} steps were run again)"
    return Finding(holds, text if holds else f"{text}; WRONG: steps {wrong[:10]}, states {view.counts}")


def _ordered(view: PlanView) -> Finding:
    """No step started before all that it depends on had ended (one machine, so one clock)."""
    early = [
        (step.index, source.index)
        for step in view.steps
        for edge in step.after
        for source in (view.steps[edge : edge + 1] if isinstance(edge, int) else view.steps[edge[0] : edge[1]])
        if step.result is None or source.result is None or step.result.started_ms < source.result.ended_ms
    ]
    return Finding(not early, f"order kept in {view.total} steps" if not early else f"STARTED TOO EARLY: {early[:5]}")


def _nothing_left(orphans: Sequence[str]) -> Finding:
    return Finding(not orphans, "no process left behind" if not orphans else f"LEFT BEHIND: {'; '.join(orphans)}")
