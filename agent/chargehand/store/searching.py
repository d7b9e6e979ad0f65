"""Looking for plans, by the indexes that the orchestrator keeps: never by going through all of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import NamedTuple, TypeVar

from chargehand.plan.life import ENDED, PlanState
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.plans import PLAN_WORDS, PlanView, is_child, read_heads

__all__ = ["Wanted", "in_state", "newest_in", "search"]

T = TypeVar("T")

_PAGE = 500  # plans of an index read at once
_HEADS = 50  # plans looked at at once


class Wanted(NamedTuple):
    """What is looked for. Times are ms, of the submission."""

    states: frozenset[PlanState] | None = None  # None: any, and those not accepted yet
    action: str = ""
    labels: tuple[str, ...] = ()  # all of them
    since_ms: int = 0
    until_ms: int | None = None
    children: bool = False  # sub-plans too
    by: str = ""  # in the name of who submitted it
    text: str = ""  # in the label or one of the labels, whatever the case
    before_ms: int | None = None  # in its state since then or longer
    oldest_first: bool = False
    submitted: bool = False  # those not accepted yet, beside `states`


def search(line: Line, keys: Keys, wanted: Wanted) -> Iterator[PlanView]:
    """Plans that meet all of it: those not accepted yet first; then those of an action or a label by their submission,
    the newest first; or else those that can still move and those that ended, each by when they came into their state.
    `oldest_first` turns each of these around.

    It walks the narrowest index there is, page by page, so a caller that has enough just stops. What moves meanwhile
    may be missing; nothing comes twice.
    """
    seen: set[bytes] = set()
    for group in _candidates(line, keys, wanted):
        for some in _batched(_fresh(group, seen, children=wanted.children), _HEADS):
            for view in read_heads(line, keys, [plan.decode() for plan in some]):
                if _meets(view, wanted):
                    yield view


def _candidates(line: Line, keys: Keys, wanted: Wanted) -> Iterator[Iterator[bytes]]:
    if wanted.states is None or wanted.submitted:
        yield _pending(line, keys)
    states = [state for state in PlanState if wanted.states is None or state in wanted.states]
    texts = [keys.labelled(f"action:{wanted.action}")] if wanted.action else []
    texts += [keys.labelled(f"labelled:{label}") for label in wanted.labels]
    until = "+inf" if wanted.until_ms is None else wanted.until_ms
    sizes = line.batch([("ZCOUNT", key, wanted.since_ms, until) for key in texts])
    in_states = line.batch([("ZCOUNT", keys.index(chr(state)), wanted.since_ms, "+inf") for state in states])
    if texts and (wanted.states is None or min(sizes) <= sum(in_states)):
        lead = texts.pop(sizes.index(min(sizes)))
        walk = _walk(line, lead, wanted.since_ms, wanted.until_ms, oldest_first=wanted.oldest_first)
        yield _also_in(line, texts, (plan for plan, _ in walk))
        return
    # A plan comes into a state when it is submitted or later, so only the beginning bounds these.
    for ended in (False, True):
        bounds = wanted.since_ms, wanted.before_ms
        walks = [
            _walk(line, keys.index(chr(one)), *bounds, oldest_first=wanted.oldest_first)
            for one in states
            if (one in ENDED) is ended
        ]
        merged = heapq.merge(*walks, key=itemgetter(1), reverse=not wanted.oldest_first)
        yield _also_in(line, texts, (plan for plan, _ in merged))


def _pending(line: Line, keys: Keys) -> Iterator[bytes]:
    cursor = b"0"
    while True:
        cursor, found = line.call("HSCAN", keys.pending, cursor, "COUNT", _PAGE)
        yield from found[::2]
        if cursor == b"0":
            return


def _also_in(line: Line, indexes: Sequence[str], plans: Iterator[bytes]) -> Iterator[bytes]:
    """Those that stand in all of these indexes too."""
    if not indexes:
        yield from plans
        return
    for some in _batched(plans, _PAGE):
        scores = line.batch([("ZMSCORE", key, *some) for key in indexes])
        yield from (plan for plan, *found in zip(some, *scores, strict=True) if None not in found)


def _fresh(plans: Iterator[bytes], seen: set[bytes], *, children: bool) -> Iterator[bytes]:
    for plan in plans:
        if plan not in seen and (children or not is_child(plan.decode())):
            seen.add(plan)
            yield plan


def _batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while some := list(islice(items, size)):
        yield some


def _meets(view: PlanView, wanted: Wanted) -> bool:
    """What the index that was walked does not say by itself, and what has changed since."""
    return (
        (wanted.states is None or view.state in _words(wanted))
        and wanted.action in {"", view.label}
        and set(wanted.labels) <= set(view.labels)
        and wanted.since_ms <= view.submitted_ms
        and (wanted.until_ms is None or view.submitted_ms <= wanted.until_ms)
        and wanted.by in view.by
        and (not wanted.text or any(wanted.text.lower() in one.lower() for one in (view.label, *view.labels)))
        and (wanted.before_ms is None or (view.since_ms or view.submitted_ms) <= wanted.before_ms)
    )


def _words(wanted: Wanted) -> set[str]:
    words = {PLAN_WORDS[state] for state in wanted.states or ()}
    return words | {"submitted"} if wanted.submitted else words


def in_state(line: Line, keys: Keys, state: PlanState, since_ms: int, until_ms: int) -> Iterator[str]:
    """Plans that entered this state within these times (ms of Redis' TIME), the oldest first.

    What moves on or goes while this runs may be missing; nothing comes twice.
    """
    for plan, _ in _walk(line, keys.index(chr(state)), since_ms, until_ms, oldest_first=True):
        yield plan.decode()


def newest_in(line: Line, keys: Keys, state: PlanState) -> Iterator[tuple[str, int]]:
    """Plans in this state, and since when (ms of Redis' TIME), the newest first."""
    for plan, since in _walk(line, keys.index(chr(state)), 0, None):
        yield plan.decode(), int(since)


def _walk(
    line: Line, key: str, since_ms: int, until_ms: int | None, *, oldest_first: bool = False
) -> Iterator[tuple[bytes, float]]:
    """The members of a sorted set with their scores, page by page; nothing comes twice."""
    low: float | str = since_ms
    high: float | str = "+inf" if until_ms is None else until_ms
    last, seen = None, set[bytes]()  # members of the last score that was read: the next page begins with it
    while True:
        bounds = (low, high, "BYSCORE") if oldest_first else (high, low, "BYSCORE", "REV")
        found = line.call("ZRANGE", key, *bounds, "LIMIT", 0, _PAGE + len(seen), "WITHSCORES")
        fresh = [(one, float(score)) for one, score in zip(found[::2], found[1::2], strict=True) if one not in seen]
        if not fresh:
            return
        yield from fresh
        score = fresh[-1][1]
        seen = {one for one, at in fresh if at == score} | (seen if score == last else set())
        last = score
        low, high = (score, high) if oldest_first else (low, score)
