"""Plans as people and programs read them: one, or several without their steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from chargehand.decoding import decode
from chargehand.plan.asking import word
from chargehand.plan.life import DONE, PlanState, StepState
from chargehand.plan.run import StepRecord
from chargehand.store.connection import Command, Line
from chargehand.store.keys import Keys
from chargehand.store.submission import Meta
from chargehand.wire import Definition, Failure, Policy, Result, Step

__all__ = [
    "PLAN_WORDS",
    "STEP_WORDS",
    "ChildCounts",
    "PlanView",
    "Progress",
    "ResultView",
    "StepView",
    "is_child",
    "read_heads",
    "read_plan",
    "read_results",
]

T = TypeVar("T")


class ResultView(Struct, gc=False):
    """A result with its names, as readers outside want it."""

    attempt: int
    worker: str  # incarnation
    node: str
    started_ms: int
    ended_ms: int
    output: Raw


class Progress(Struct, array_like=True):
    """What a step last said of how far it is."""

    fraction: float  # 0 to 1
    message: str
    ms: int  # the worker's wall clock


class ChildCounts(Struct):
    """The sub-plans that a step started last."""

    total: int
    succeeded: int
    failed: int
    generation: int = 0  # how often its sub-plans had all ended before


class StepView(Struct, omit_defaults=True, gc=False):
    """One step. A plan may have 100,000 of them: the garbage collector, which could find no cycle, is spared them."""

    index: int
    action: str
    queue: str
    state: str
    attempt: int
    after: list[int | tuple[int, int]] = []
    losses: int = 0
    error: Failure | None = None
    result: ResultView | None = None
    progress: Progress | None = None
    children: ChildCounts | None = None


class PlanView(Struct, omit_defaults=True):
    """A plan as people and programs read it."""

    plan: str
    label: str
    state: str  # submitted, or a word of PLAN_WORDS
    total: int
    counts: dict[str, int]
    by: str = ""
    submitted_ms: int = 0
    error: Failure | None = None
    steps: list[StepView] = []
    since_ms: int = 0  # of its state
    labels: list[str] = []
    start_at_ms: int = 0
    start_before_ms: int = 0
    after: list[str] = []  # plans that it starts after
    parent: tuple[str, int] | None = None  # the plan and step that started it
    progress: float = 0.0  # 0 to 1: steps that are done with, and what those that run say
    waits: list[str] = []  # what holds it up, in words (see `chargehand.why`); a client puts it in
    executor: str = ""  # of several


PLAN_WORDS = {state: word(state) for state in PlanState}
STEP_WORDS = {state: word(state) for state in StepState}  # queued may be running: only the workers' ownership tells

_CHILD = re.compile(r"\.[0-9]+\.[0-9]+(\.[0-9]+)?$")


def is_child(plan: str) -> bool:
    """True for the id of a sub-plan (see `wire.child_id`)."""
    return _CHILD.search(plan) is not None


def read_heads(line: Line, keys: Keys, plans: Sequence[str]) -> list[PlanView]:
    """Plans without their steps, in two round trips. Those that do not exist are left out."""
    commands: list[Command] = []
    for plan in plans:
        commands += _head_commands(keys, plan)
    answers = line.batch(commands)
    views = []
    for at, plan in enumerate(plans):
        head, states, error = answers[3 * at : 3 * at + 3]
        if head:
            views.append(_head(plan, head, states or b"", error)[0])
    _date(line, keys, views)
    return views


def read_plan(line: Line, keys: Keys, plan: str, *, steps: bool = True, results: bool = True) -> PlanView | None:
    """The whole of a plan; None when there is none of that id. `results`: with what its steps have left.

    There may be 100,000 steps: what all have is put together at once, what some have is put in afterwards.
    """
    if not steps:
        found = read_heads(line, keys, [plan])
        return found[0] if found else None
    head, states, error, records, said, *outputs = line.batch(
        [
            *_head_commands(keys, plan),
            ("HGETALL", keys.records(plan)),
            ("HGETALL", keys.progress(plan)),
            *([("HGETALL", keys.outputs(plan))] if results else []),
        ]
    )
    if not head:
        return None
    view, definition = _head(plan, head, states or b"", error)
    _date(line, keys, [view])
    parts = line.batch([("LINDEX", keys.plan(plan), 2 + part) for part in range(definition.parts)])
    if None in parts:  # it has gone meanwhile
        return None
    all_steps = [*definition.steps, *chain.from_iterable(decode(part, list[Step]) for part in parts)]
    view.steps = _steps(definition.policies, all_steps, states or b"", _owned(line, keys, plan))
    for index, record in _by_step(records, StepRecord):
        _put_record(view.steps[index], record)
    for index, progress in _by_step(said, Progress):
        view.steps[index].progress = progress
    for index, result in _by_step(outputs[0] if outputs else [], Result):
        view.steps[index].result = _result(result)
    begun = [step.progress.fraction for step in view.steps if step.progress and step.state in {"running", "suspended"}]
    view.progress = _share_done(view, sum(begun))
    return view


def read_results(line: Line, keys: Keys, plan: str, steps: Sequence[int]) -> dict[int, ResultView]:
    """What these steps have left, those of them that have succeeded."""
    found = line.call("HMGET", keys.outputs(plan), *steps) if steps else []
    return {step: _result(decode(value, Result)) for step, value in zip(steps, found, strict=True) if value is not None}


def _head_commands(keys: Keys, plan: str) -> list[Command]:
    return [
        ("LRANGE", keys.plan(plan), 0, 1),
        ("GET", keys.states(plan)),
        ("HGET", keys.records(plan), "plan"),
    ]


def _head(plan: str, head: list[bytes], states: bytes, error: bytes | None) -> tuple[PlanView, Definition]:
    definition = decode(head[0], Definition)
    meta = decode(head[1], Meta)
    view = PlanView(
        plan=plan,
        label=definition.label,
        state=PLAN_WORDS[PlanState(states[0])] if states else "submitted",
        total=definition.total,
        counts={word: count for state, word in STEP_WORDS.items() if (count := states.count(state, 1))},
        by=meta.by,
        submitted_ms=meta.submitted_ms,
        error=decode(error, Failure) if error else None,
        labels=definition.labels,
        start_at_ms=definition.start_at_ms,
        start_before_ms=definition.start_before_ms,
        after=definition.after,
        parent=definition.parent,
    )
    view.progress = _share_done(view)
    return view, definition


def _share_done(view: PlanView, begun: float = 0.0) -> float:
    if not view.total:
        return 1.0
    return (sum(view.counts.get(STEP_WORDS[state], 0) for state in DONE) + begun) / view.total


_LETTERS = {word: chr(state) for state, word in PLAN_WORDS.items()}


def _date(line: Line, keys: Keys, views: Sequence[PlanView]) -> None:
    """Since when they are in their states. What moves at this moment has none."""
    known = [view for view in views if view.state in _LETTERS]
    since = line.batch([("ZSCORE", keys.index(_LETTERS[view.state]), view.plan) for view in known])
    for view, score in zip(known, since, strict=True):
        view.since_ms = int(float(score or 0))


_WORD_OF_LETTER = {int(state): word for state, word in STEP_WORDS.items()}


def _steps(policies: Sequence[Policy], steps: Sequence[Step], states: bytes, owned: set[int]) -> list[StepView]:
    """What the definition and the states say of all steps. `states` is empty before the plan is accepted."""
    words = [_WORD_OF_LETTER[letter] for letter in states[1:]] or ["waiting"] * len(steps)
    for index in owned:
        if words[index] == "queued":
            words[index] = "running"
    actions = [policy.action for policy in policies]
    queues = [policy.queue for policy in policies]
    return [
        StepView(
            index,
            actions[step.policy],
            f"@{step.node}" if step.node else queues[step.policy],
            word,
            1,
            step.after,
        )
        for index, (step, word) in enumerate(zip(steps, words, strict=True))
    ]


def _put_record(step: StepView, record: StepRecord) -> None:
    more = record.more
    step.attempt, step.losses = record.attempt, record.losses
    if record.error:
        step.error = decode(record.error, Failure)
    if more and more.total:
        step.children = ChildCounts(more.total, more.ok, more.bad, more.generation)


def _result(result: Result) -> ResultView:
    return ResultView(*msgspec.structs.astuple(result))


def _by_step(fields: list[bytes], kind: type[T]) -> Iterator[tuple[int, T]]:
    """The fields of a hash that are named by a step's number."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return ((int(name), decode(value, kind)) for name, value in pairs if name.isdigit())


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
