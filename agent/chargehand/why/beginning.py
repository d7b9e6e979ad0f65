"""What a plan waits for before it begins, and its steps before they are queued: times, plans, locks, limits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from chargehand.store.evidence import LOOKED_AT, NAMED, Evidence, LimitWait, LockWait
from chargehand.why.answer import Cause
from chargehand.why.words import acting, counted, length, moment, named, other_line
from chargehand.wire import Policy

__all__ = ["before_it_begins", "limited", "scheduled"]


def scheduled(evidence: Evidence) -> Cause:
    at_ms, now_ms = evidence.definition.start_at_ms, evidence.census.now_ms
    when = f"that is in {length((at_ms - now_ms) / 1000)}" if at_ms > now_ms else "that is now"
    advice = [f"chargehand plan cancel {evidence.view.plan}   (if it is not to run)"]
    return Cause("scheduled", f"it is scheduled for {moment(at_ms)}", [when, *_latest(evidence)], advice)


def _latest(evidence: Evidence) -> list[str]:
    before_ms = evidence.definition.start_before_ms
    return [f"it fails if it has not begun before {moment(before_ms)}"] if before_ms else []


def before_it_begins(evidence: Evidence) -> Iterator[Cause]:
    """Other plans, then locks."""
    now_ms = evidence.census.now_ms
    if evidence.awaits:
        names = named("plan", [one.plan for one in evidence.awaits], evidence.awaited)
        yield Cause(
            "after",
            f"it waits for {names} to end",
            evidence=[*(other_line(one, now_ms) for one in evidence.awaits), *_latest(evidence)],
            advice=[f"chargehand why {one.plan}" for one in evidence.awaits if one.state],
            stuck=any(one.state == "paused" for one in evidence.awaits),
        )
    for lock in evidence.locks:
        yield _lock(evidence, lock)


def _lock(evidence: Evidence, lock: LockWait) -> Cause:
    holders = named("plan", [one.plan for one in lock.holders], lock.held_by)
    before = f"; {len(lock.before):,} before it" if lock.before else ""
    seen = [other_line(one, evidence.census.now_ms) for one in lock.holders]
    seen += [f"before it in line: {named('plan', lock.before)}"] if lock.before else []
    return Cause(
        "lock",
        f"it waits for the lock {lock.name!r}, held by {holders}{before}",
        evidence=[*seen, *_latest(evidence)],
        advice=[f"chargehand why {one.plan}" for one in lock.holders],
        stuck=any(one.state == "paused" for one in lock.holders),
    )


# -- limits ---------------------------------------------------------------------------------------


def limited(evidence: Evidence) -> Iterator[Cause]:
    """Steps that could begin, and may not."""
    ready = _ready(evidence)
    most = evidence.definition.limit
    if not ready:
        return
    under_way = [step.index for step in evidence.view.steps if step.state in {"queued", "running", "suspended"}]
    if 0 < most <= len(under_way):
        text = f"{acting(ready, 'waits')} for room: of this plan {counted(most, 'step')} at once may be under way"
        yield Cause("plan-limit", text, [f"under way: {named('step', under_way)}"], steps=ready[:LOOKED_AT])
        return
    for limit in evidence.limits:
        steps = [index for index in ready if _is_under(evidence, index, limit.name)]
        if steps:
            yield _limit(evidence, limit, steps)


def _is_under(evidence: Evidence, index: int, name: str) -> bool:
    kind, _, what = name.partition(":")
    step = evidence.view.steps[index]
    return what == (step.action if kind == "action" else step.queue)


def _limit(evidence: Evidence, limit: LimitWait, steps: list[int]) -> Cause:
    kind, _, what = limit.name.partition(":")
    policies = evidence.definition.policies if kind == "action" else []
    policy = next((one for one in policies if one.action == what), Policy(what))
    some = steps[:LOOKED_AT]
    if limit.opens_ms > evidence.census.now_ms:
        count, per_ms = policy.rate
        seen = [f"the next one may begin at {moment(limit.opens_ms)}"]
        seen += [f"the rate is {count:,} in {length(per_ms / 1000)}"] if count else []
        return Cause("rate", f"{acting(steps, 'waits')} for the rate of {kind} {what!r}", seen, steps=some)
    seen = [f"the limit is {policy.limit:,} at once"] if policy.limit else []
    seen += [f"its room is taken by {named('step', limit.standing)}"] if limit.standing else []
    plans = dict.fromkeys(step.rpartition("/")[0] for step in limit.standing[:NAMED])
    advice = [f"chargehand why {plan}" for plan in plans if plan != evidence.view.plan]
    return Cause("limit", f"{acting(steps, 'waits')} for room under the limit of {kind} {what!r}", seen, advice, some)


def _ready(evidence: Evidence) -> list[int]:
    """Steps that wait for nothing before them, and are not queued."""
    steps = evidence.view.steps
    if evidence.view.state != "running":
        return []
    sums = [0, *accumulate(step.state in {"succeeded", "skipped"} for step in steps)]

    def is_done(edge: int | tuple[int, int]) -> bool:
        first, end = (edge, edge + 1) if isinstance(edge, int) else edge
        return 0 <= first < end <= len(steps) and sums[end] - sums[first] == end - first

    return [step.index for step in steps if step.state == "waiting" and all(map(is_done, step.after))]
