"""The latest failures, those with the same cause together. It looks at a bounded number of plans, newest first."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from chargehand.decoding import decoder
from chargehand.plan.life import PlanState, StepState
from chargehand.plan.run import StepRecord
from chargehand.store.connection import Command, Line
from chargehand.store.keys import Keys
from chargehand.store.searching import newest_in
from chargehand.store.stats import Trouble
from chargehand.wire import STEPS_A_PART, Failure, Policy

__all__ = ["cause_of", "read_troubles"]

_STATES = (PlanState.PAUSED, PlanState.FAILING, PlanState.FAILED, PlanState.REJECTED)
_FAILED = frozenset({int(StepState.FAILED), int(StepState.SPOILED)})
_AT_ONCE = 25  # plans read together
_STEPS = 50  # steps of a plan that are looked at, more or less
_NAMED = 5  # plans of a cause that are named, and nodes

#: What makes two messages of one cause differ, in this order: a later pattern sees what an earlier one has left.
_PARTICULARS = (
    (re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|`[^`]*`"), "'…'"),
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s,;)\]]+", re.IGNORECASE), "URL"),
    (re.compile(r"(?<![\w.])~?(?:/[\w.@%+=:-]+)+/?"), "PATH"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "ID"),
    (re.compile(r"\b(?:0x[0-9a-f]+|(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{8,})\b", re.IGNORECASE), "ID"),
    (re.compile(r"[0-9]+(?:[.,:][0-9]+)*"), "N"),
)
_LONGEST = 160  # characters of a cause

_failure_decoder = decoder(Failure)
_record_decoder = decoder(StepRecord)


class _Failed(NamedTuple):
    """One failure."""

    plan: str
    action: str
    error: Failure
    ms: int


class _Head(Struct):
    """Of a definition: what names the action of a step. A step is `[policy, ...]`."""

    label: str
    policies: list[Policy] = []
    steps: list[list[Raw]] = []
    parts: int = 0


_head_decoder = decoder(_Head)
_part_decoder = decoder(list[list[Raw]])


def cause_of(error: Failure) -> str:
    """Kind and first line of the message, without what is this failure's alone: numbers, ids, paths, quoted words."""
    text = error.message.strip().partition("\n")[0]
    for pattern, word in _PARTICULARS:
        text = pattern.sub(word, text)
    cause = f"{error.kind}: {text}" if text else error.kind
    return cause if len(cause) <= _LONGEST else cause[: _LONGEST - 1] + "…"


def read_troubles(line: Line, keys: Keys, most: int) -> list[Trouble]:
    """Of the newest `most` plans that are paused, failing, failed or rejected; the latest trouble first."""
    walks = [newest_in(line, keys, state) for state in _STATES]
    newest = list(islice(heapq.merge(*walks, key=itemgetter(1), reverse=True), most))
    found: list[_Failed] = []
    for at in range(0, len(newest), _AT_ONCE):
        found += _failures(line, keys, newest[at : at + _AT_ONCE])
    return grouped(found)


def _failures(line: Line, keys: Keys, plans: Sequence[tuple[str, int]]) -> Iterable[_Failed]:
    commands: list[Command] = []
    for plan, _ in plans:
        records = keys.records(plan)
        commands += [
            ("LINDEX", keys.plan(plan), 0),
            ("GET", keys.states(plan)),
            ("HGET", records, "plan"),
            ("HSCAN", records, 0, "COUNT", _STEPS),
        ]
    answers = line.batch(commands)
    for at, (plan, since_ms) in enumerate(plans):
        definition, states, why, (_, some) = answers[4 * at : 4 * at + 4]
        try:
            head = _head_decoder.decode(definition or b"null")
        except msgspec.MsgspecError:
            head = _Head("?")
        failed = [*islice(_records(states or b"", some), _STEPS)]
        for step, error in failed:
            yield _Failed(plan, _action(line, keys, plan, head, step), error, error.ended_ms or since_ms)
        if why and not failed:  # else it says no more than its steps
            yield _Failed(plan, head.label, _failure_decoder.decode(why), since_ms)


def _records(states: bytes, fields: Sequence[bytes]) -> Iterable[tuple[int, Failure]]:
    """The steps that are failed now, and why."""
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if not name.isdigit() or not int(name) + 1 < len(states) or states[int(name) + 1] not in _FAILED:
            continue
        record = _record_decoder.decode(value)
        if record.error:
            yield int(name), _failure_decoder.decode(record.error)


def _action(line: Line, keys: Keys, plan: str, head: _Head, step: int) -> str:
    if head.parts:
        part: Any = line.call("LINDEX", keys.plan(plan), 2 + step // STEPS_A_PART)
        steps, step = _part_decoder.decode(part or b"[]"), step % STEPS_A_PART
    else:
        steps = head.steps
    try:
        return head.policies[int(bytes(steps[step][0]))].action
    except (IndexError, ValueError):
        return head.label


def grouped(failures: Iterable[_Failed]) -> list[Trouble]:
    by_cause: dict[str, list[_Failed]] = {}
    for one in failures:
        by_cause.setdefault(cause_of(one.error), []).append(one)
    troubles = []
    for cause, some in by_cause.items():
        some.sort(key=lambda one: -one.ms)
        actions = Counter(one.action for one in some).most_common()
        others = f" and {len(actions) - 1} more" if len(actions) > 1 else ""
        troubles.append(
            Trouble(
                cause=cause,
                action=actions[0][0] + others,
                count=len(some),
                last_ms=some[0].ms,
                plans=list(dict.fromkeys(one.plan for one in some))[:_NAMED],
                example=some[0].error.message,
                nodes=sorted({one.error.node for one in some if one.error.node})[:_NAMED],
            )
        )
    return sorted(troubles, key=lambda one: -one.last_ms)
