"""Plans as people and programs read them: one, or several without their steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
]

T = TypeVar("T")


class ResultView(Struct):
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
    """The whole of a plan; None when there is none of that id. `results`: with what its steps have left."""
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
    all_steps = list(definition.steps)
    for part in range(definition.parts):
        all_steps += decode(line.call("LINDEX", keys.plan(plan), 2 + part), list[Step])
    reader = _Steps(
        definition.policies, states or b"", records, outputs[0] if outputs else [], said, _owned(line, keys, plan)
    )
    view.steps = [reader.view(index, step) for index, step in enumerate(all_steps)]
    begun = [step.progress.fraction for step in view.steps if step.progress and step.state in {"running", "suspended"}]
    view.progress = _share_done(view, sum(begun))
    return view


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


class _Steps:
    """What is known of a plan's steps, apart from its definition."""

    def __init__(
        self,
        policies: Sequence[Policy],
        states: bytes,
        records: list[bytes],
        outputs: list[bytes],
        progress: list[bytes],
        owned: set[int],
    ) -> None:
        self._policies = policies
        self._states = states[1:]
        self._records = _by_step(records, StepRecord)
        self._results = _by_step(outputs, Result)
        self._progress = _by_step(progress, Progress)
        self._owned = owned

    def view(self, index: int, step: Step) -> StepView:
        policy = self._policies[step.policy]
        state = STEP_WORDS[StepState(self._states[index])] if self._states else "waiting"
        record = self._records.get(index) or StepRecord()
        result = self._results.get(index)
        more = record.more
        return StepView(
            index=index,
            action=policy.action,
            queue=f"@{step.node}" if step.node else policy.queue,
            state="running" if state == "queued" and index in self._owned else state,
            attempt=record.attempt,
            after=step.after,
            losses=record.losses,
            error=decode(record.error, Failure) if record.error else None,
            result=ResultView(*msgspec.structs.astuple(result)) if result is not None else None,
            progress=self._progress.get(index),
            children=ChildCounts(more.total, more.ok, more.bad, more.generation) if more and more.total else None,
        )


def _by_step(fields: list[bytes], kind: type[T]) -> dict[int, T]:
    """The fields of a hash that are named by a step's number."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return {int(name): decode(value, kind) for name, value in pairs if name.isdigit()}


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
