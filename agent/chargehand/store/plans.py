"""Plans as people and programs read them: one, or those that are looked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw, Struct

from chargehand.plan.life import ENDED, PlanState, StepState
from chargehand.plan.run import StepRecord
from chargehand.store.connection import Command, Line
from chargehand.store.keys import Keys
from chargehand.store.submission import Meta
from chargehand.wire import Definition, Failure, Policy, Result, Step

__all__ = ["PlanView", "ResultView", "StepView", "in_state", "listing", "read_plan"]


class ResultView(Struct):
    """A result with its names, as readers outside want it."""

    attempt: int
    worker: str  # incarnation
    node: str
    started_ms: int
    ended_ms: int
    output: Raw


class StepView(Struct, omit_defaults=True):
    index: int
    action: str
    queue: str
    state: str
    attempt: int
    after: list[int | tuple[int, int]] = []
    losses: int = 0
    error: Failure | None = None
    result: ResultView | None = None


class PlanView(Struct, omit_defaults=True):
    """A plan as people and programs read it."""

    plan: str
    label: str
    state: str  # submitted, running, paused, succeeded, rejected
    total: int
    counts: dict[str, int]
    by: str = ""
    submitted_ms: int = 0
    error: Failure | None = None
    steps: list[StepView] = []


_PLAN_WORDS = {state: state.name.lower() for state in PlanState}
_STEP_WORDS = {state: state.name.lower() for state in StepState}
_STEP_WORDS[StepState.STANDING] = "queued"  # or running: only the workers' ownership tells


def read_plan(line: Line, keys: Keys, plan: str, *, steps: bool = True) -> PlanView | None:
    """The whole of a plan; None when there is none of that id."""
    head, states, records = line.batch(
        [("LRANGE", keys.plan(plan), 0, 1), ("GET", keys.states(plan)), ("HGETALL", keys.records(plan))]
    )
    if not head:
        return None
    definition = msgspec.json.decode(head[0], type=Definition)
    meta = msgspec.json.decode(head[1], type=Meta)
    kept = dict(zip(records[::2], records[1::2], strict=True))
    view = PlanView(
        plan=plan,
        label=definition.label,
        state=_PLAN_WORDS[PlanState(states[0])] if states else "submitted",
        total=definition.total,
        counts={},
        by=meta.by,
        submitted_ms=meta.submitted_ms,
        error=msgspec.json.decode(kept[b"plan"], type=Failure) if b"plan" in kept else None,
    )
    body = states[1:] if states else b""
    for state, word in _STEP_WORDS.items():
        count = body.count(state)
        if count:
            view.counts[word] = count
    if not steps:
        return view
    all_steps = list(definition.steps)
    for part in range(definition.parts):
        all_steps += msgspec.json.decode(line.call("LINDEX", keys.plan(plan), 2 + part), type=list[Step])
    outputs = line.call("HGETALL", keys.outputs(plan))
    results = {int(k): msgspec.json.decode(v, type=Result) for k, v in zip(outputs[::2], outputs[1::2], strict=True)}
    owned = _owned(line, keys, plan)
    for index, step in enumerate(all_steps):
        record = msgspec.json.decode(kept.get(b"%d" % index, b"[]"), type=StepRecord)
        view.steps.append(_step(index, step, definition.policies, body, record, results.get(index), owned))
    return view


def _step(
    index: int,
    step: Step,
    policies: Sequence[Policy],
    body: bytes,
    record: StepRecord,
    result: Result | None,
    owned: set[int],
) -> StepView:
    policy = policies[step.policy]
    word = _STEP_WORDS[StepState(body[index])] if index < len(body) else "waiting"
    return StepView(
        index=index,
        action=policy.action,
        queue=f"@{step.node}" if step.node else policy.queue,
        state="running" if word == "queued" and index in owned else word,
        attempt=record.attempt,
        after=step.after,
        losses=record.losses,
        error=msgspec.json.decode(record.error, type=Failure) if record.error else None,
        result=ResultView(*msgspec.structs.astuple(result)) if result is not None else None,
    )


def _owned(line: Line, keys: Keys, plan: str) -> set[int]:
    """Steps of the plan that a worker owns now."""
    members = line.call("HKEYS", keys.members)
    found: set[int] = set()
    for owned in line.batch([("HKEYS", keys.own(member.decode())) for member in members]):
        for key in owned:
            owner, step, _ = key.decode().rsplit("/", 2)
            if owner == plan:
                found.add(int(step))
    return found


def listing(line: Line, keys: Keys, *, state: str | None, most: int) -> list[PlanView]:
    """The newest plans first: those under way, then those that ended."""
    wanted = [one for one in PlanState if state in {None, one.name.lower()}]
    # Those that can still move first; each group newest first.
    groups = [[one for one in wanted if one not in ENDED], [one for one in wanted if one in ENDED]]
    found: list[bytes] = line.call("HKEYS", keys.pending)
    for group in groups:
        commands: list[Command] = [("ZRANGE", keys.index(chr(one)), 0, most - 1, "REV", "WITHSCORES") for one in group]
        scored = [
            (float(since), plan)
            for answer in line.batch(commands)
            for plan, since in zip(answer[::2], answer[1::2], strict=True)
        ]
        found += [plan for _, plan in sorted(scored, reverse=True)]
    views: list[PlanView] = []
    for plan in found:
        view = read_plan(line, keys, plan.decode(), steps=False)
        if view is not None and (state is None or view.state == state):
            views.append(view)
        if len(views) >= most:
            break
    return views


_PAGE = 200  # plans of an index read at once


def in_state(line: Line, keys: Keys, state: PlanState, since_ms: int, until_ms: int) -> Iterator[str]:
    """Plans that entered this state within these times (ms of Redis' TIME), the oldest first; in pages.

    What moves on or goes while this runs may be missing; nothing comes twice.
    """
    start, seen = since_ms, set[bytes]()  # plans of the last moment that was read: the next page begins with it
    while True:
        found = line.call(
            "ZRANGEBYSCORE", keys.index(chr(state)), start, until_ms, "WITHSCORES", "LIMIT", 0, _PAGE + len(seen)
        )
        fresh = [(plan, int(float(ms))) for plan, ms in zip(found[::2], found[1::2], strict=True) if plan not in seen]
        if not fresh:
            return
        yield from (plan.decode() for plan, _ in fresh)
        last = fresh[-1][1]
        seen = {plan for plan, ms in fresh if ms == last} | (seen if last == start else set())
        start = last
