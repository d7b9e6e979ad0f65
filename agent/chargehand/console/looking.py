"""What each page shows: asked of the executors, and laid out by `views` and `drawing`. Blocks; for a thread.

`PAGES` names them. What a page's address says (`executor`, `state`, `page`, ...) comes as a mapping of texts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from chargehand.client import Client
from chargehand.config.quantities import parse_duration
from chargehand.config.settings import Settings
from chargehand.console import drawing, views
from chargehand.doctor.checks import examine
from chargehand.executors import Executors
from chargehand.plan.calendar import CalendarError, following
from chargehand.requests import NotPossible, no_plan
from chargehand.store.plans import PLAN_WORDS, PlanView, StepView
from chargehand.store.recurring import RecurringView
from chargehand.store.stats import Minute, QueueStats
from chargehand.why import Answer, needs_somebody

__all__ = ["FILTERS", "PAGES", "Address", "BadFilter", "Found", "Missing", "Page", "choose", "doctor", "is_id"]

Address = Mapping[str, str]

_TROUBLES = 200  # plans that are looked at
_A_PAGE = 50  # plans of a list
_STEPS = 50  # of a plan on one page
_LINES = 300  # of what a plan's steps say
_MOMENTS = 300  # of a plan's history
_WHOLE = 2_000  # steps: of larger plans the history is not read, and results only of the steps that are listed
_PAGES = 400  # of a list of plans; whoever looks for older ones narrows the filters
_ENTRIES = 100  # of a queue
_THROUGH = 5_000  # plans that a search by text looks through
_RUNS = 5  # next ones of a recurring plan


class Missing(Exception):
    """There is no such thing. The message says what was looked for, and where to find those there are."""


class Page(NamedTuple):
    """A page that goes on while it is looked at."""

    template: str
    look: Callable[[Executors, Address], dict[str, Any]]
    every: float  # seconds between two looks


# -- the executor ---------------------------------------------------------------------------------


def overview(executors: Executors, address: Address) -> dict[str, Any]:
    client, chosen = _executor(executors, address)
    census = client.census()
    stats = client.stats(census)
    heard = [one.member for one in census.members if not one.silent]
    workers = [one for one in heard if one.kind == "worker"]
    active = next((one for one in heard if one.role == "active"), None)
    return {
        **chosen,
        "now_ms": census.now_ms,
        "census": census,
        "stats": stats,
        "nodes": views.nodes(census),
        "passive": sum(one.kind == "orchestrator" and one.role == "passive" for one in heard),
        "busy": sum(one.busy for one in workers),
        "threads": sum(one.threads for one in workers),
        "queued": sum(census.queues.values()),
        "share": active.share if active is not None else 0,
        "behind": active.behind if active is not None else 0.0,
        "queues": [one for one in stats.queues if not _idle_node(one)],
        "charts": _charts(stats.minutes),
        "troubles": client.troubles(_TROUBLES),
    }


def _idle_node(queue: QueueStats) -> bool:
    """A node's own queue that nothing goes through: with many nodes they only hide the others."""
    return queue.name.startswith("@") and not (queue.waiting or queue.in_rate or queue.out_rate)


def _executor(executors: Executors, address: Address) -> tuple[Client, dict[str, Any]]:
    """The one that the page is about, and what the page says of it."""
    names = executors.names
    name = address.get("executor") or names[0]
    try:
        return executors.client(name), {"executor": name, "names": names}
    except NotPossible as error:
        raise Missing(str(error)) from error


def _named(address: Address, what: str) -> str:
    if what not in address:
        raise Missing(f"the address names no {what}")
    return address[what]


class _Figure(NamedTuple):
    title: str
    chart: drawing.Chart
    now: str
    labels: Sequence[str]  # of its columns
    unit: str = ""


def _charts(minutes: Sequence[Minute]) -> list[_Figure]:
    last = minutes[-2] if len(minutes) > 1 else minutes[-1]  # the latest that is whole

    def labels(told: Callable[[Minute], str]) -> list[str]:
        return [f"{views.clock(one.ms, one.ms)[:5]}: {told(one)}" for one in minutes]

    return [
        _Figure(
            "Steps a minute",
            drawing.chart(minutes, lambda one: one.steps, lambda one: one.failed + one.lost, least=10),
            f"{last.steps:,}" + (f", {last.failed + last.lost:,} failed" if last.failed + last.lost else ""),
            labels(lambda one: f"{one.steps:,} steps, {one.failed:,} failed, {one.lost:,} lost"),
        ),
        _Figure(
            "Plans a minute",
            drawing.chart(
                minutes, lambda one: one.plans, lambda one: one.bad, line=lambda one: one.submitted, least=10
            ),
            f"{last.plans:,} ended, {last.submitted:,} submitted",
            labels(lambda one: f"{one.plans:,} succeeded, {one.bad:,} ended otherwise, {one.submitted:,} submitted"),
        ),
        _Figure(
            "From submission to end",
            drawing.chart(minutes, lambda one: one.median_ms / 1000, line=lambda one: one.p95_ms / 1000, least=0.1),
            f"median {views.took(last.median_ms / 1000)}, 95 % {views.took(last.p95_ms / 1000)}",
            labels(lambda one: f"median {views.took(one.median_ms / 1000)}, 95 % {views.took(one.p95_ms / 1000)}"),
            " s",
        ),
        _Figure(
            "Orchestrator busy",
            drawing.chart(minutes, lambda one: one.busy, least=100),
            f"{last.busy} %" + (f", {views.took(last.behind_ms / 1000)} behind" if last.behind_ms >= 100 else ""),
            labels(lambda one: f"{one.busy} % busy, {views.took(one.behind_ms / 1000)} behind"),
            " %",
        ),
    ]


def queues(executors: Executors, address: Address) -> dict[str, Any]:
    client, chosen = _executor(executors, address)
    return {**chosen, "queues": client.stats().queues}


def queue(executors: Executors, address: Address) -> dict[str, Any]:
    client, chosen = _executor(executors, address)
    (view,) = client.queues(_named(address, "name"), most=_ENTRIES)
    return {**chosen, "queue": view}


def failures(executors: Executors, address: Address) -> dict[str, Any]:
    client, chosen = _executor(executors, address)
    return {**chosen, "most": _TROUBLES, "troubles": client.troubles(_TROUBLES)}


def all_executors(executors: Executors, _: Address) -> dict[str, Any]:
    return {"executors": executors.views()}


class _Recurs(NamedTuple):
    view: RecurringView
    executor: str
    state: str
    next: Sequence[int]  # ms


def recurring(executors: Executors, _: Address) -> dict[str, Any]:
    rows = [
        _Recurs(view, name, _recurs(view), list(islice(_runs(view), _RUNS)))
        for name in executors.names
        for view in executors.client(name).all_recurring()
    ]
    return {"rows": sorted(rows, key=lambda row: row.view.name)}


def _recurs(view: RecurringView) -> str:
    if view.problem:
        return "failed"
    return "paused" if view.paused else "ready" if view.next_ms else "ended"


def _runs(view: RecurringView) -> Iterator[int]:
    left = view.recurrence.most - view.runs if view.recurrence.most else None
    due: int | None = view.next_ms or None
    while due is not None and not view.paused and (left is None or left > 0):
        yield due
        left = left - 1 if left is not None else None
        try:
            due = following(view.recurrence, due)
        except CalendarError:  # the view's `problem` says so
            return


# -- one plan -------------------------------------------------------------------------------------


def plan(executors: Executors, address: Address) -> dict[str, Any]:
    name = _named(address, "plan")
    view = _read(executors, name)
    client = executors.at(name)
    answer = _why(executors, view)
    census = client.census()
    run = views.running(census, name)
    show = address.get("show", "")
    steps = [step for step in view.steps if step.state == show] if show else view.steps
    page = _number(address.get("page"))
    shown = steps[(page - 1) * _STEPS : page * _STEPS]
    whole = view.total <= _WHOLE
    if not whole:
        _put_results(client, view, shown)
    moments = list(client.history(name)) if whole else []
    tries = views.attempts(view, moments, census.now_ms, run)
    return {
        "now_ms": census.now_ms,
        "view": view,
        "run": run,
        "standing": view.state not in views.ENDED_WORDS,
        "answer": answer,
        "stuck": answer is not None and needs_somebody(answer),
        "allows": views.plan_allows(view),
        "able": {step.index: able for step in shown if (able := views.step_allows(view, step))},
        "failed": [step.index for step in view.steps if step.state == "failed"][:_STEPS],
        "graph": drawing.graph(view.steps),
        "line": drawing.time_line(tries),
        "whole": whole,
        "spoken": [one for one in client.news(client.follower(name, past=_LINES)) if one.kind in {"out", "err", "say"}],
        "steps": shown,
        "step_page": page,
        "step_pages": -(-len(steps) // _STEPS),
        "step_counts": views.step_counts(view),
        "show": show,
        "moments": views.told(view, moments, _MOMENTS),
    }


def _read(executors: Executors, name: str) -> PlanView:
    head = executors.read(name, steps=False)
    view = executors.read(name, results=head.total <= _WHOLE) if head is not None else None
    if view is None:
        raise Missing(no_plan(name))
    return view


def _put_results(client: Client, view: PlanView, steps: Iterable[StepView]) -> None:
    """What these steps have left, into a view that was read without."""
    for index, result in client.results(view.plan, [step.index for step in steps]).items():
        view.steps[index].result = result


def _why(executors: Executors, view: PlanView) -> Answer | None:
    """None: it goes on, or it has ended well."""
    if view.state == "succeeded":
        return None
    answer = executors.why(view.plan, view)
    return answer if any(cause.kind not in {"running", "moves"} for cause in answer.causes) else None


def step(executors: Executors, address: Address) -> dict[str, Any]:
    name, wanted = _named(address, "plan"), _named(address, "step")
    view = _read(executors, name)
    if not wanted.isdecimal() or len(wanted) > 9 or int(wanted) >= len(view.steps):
        raise Missing(f"plan {name} has {views.plural(len(view.steps), 'step')}, so no step {wanted}")
    number = int(wanted)
    client = executors.at(name)
    one = view.steps[number]
    whole = view.total <= _WHOLE
    if not whole:
        _put_results(client, view, [one])
    moments = client.history(name) if whole else []
    page, show = _number(address.get("page")), address.get("show", "")
    children = client.children(name, number, state=show or None, first=(page - 1) * _A_PAGE, most=_A_PAGE)
    chosen = children.counts.get(show, 0) if show else children.total
    census = client.census()
    tries = views.attempts(view, moments, census.now_ms, views.running(census, name))
    return {
        "view": view,
        "step": one,
        "after": views.after(one),
        "able": views.step_allows(view, one),
        "tries": [attempt for attempt in tries if attempt.step == number],
        "children": children if children.total else None,
        "show": show,
        "page": page,
        "pages": -(-chosen // _A_PAGE),
    }


# -- plans ----------------------------------------------------------------------------------------


class BadFilter(Exception):
    """What was typed into a filter. The message says what would do."""


class Found(NamedTuple):
    plans: list[PlanView]
    bounded: int  # so many were looked through, and there are more; 0: all that there are


FILTERS = ("q", "state", "action", "label", "by", "longer", "since", "until")


def plans(executors: Executors, address: Address) -> dict[str, Any]:
    asked = {name: address.get(name, "").strip() for name in FILTERS}
    page = min(_number(address.get("page")), _PAGES)
    problem = ""
    found = Found([], 0)
    try:
        found = choose(executors, asked, page * _A_PAGE + 1)
    except BadFilter as error:
        problem = str(error)
    return {
        "asked": asked,
        "filtered": any(asked.values()),
        "problem": problem,
        "plans": found.plans[(page - 1) * _A_PAGE : page * _A_PAGE],
        "more": len(found.plans) > page * _A_PAGE and page < _PAGES,
        "page": page,
        "bounded": found.bounded,
        "states": ["submitted", *PLAN_WORDS.values()],
    }


def choose(executors: Executors, asked: Address, most: int) -> Found:
    """Plans that meet the filters, at most `most`. Raises `BadFilter`."""
    if asked["state"] not in {"", "submitted", *PLAN_WORDS.values()}:
        raise BadFilter(f"no plan is ever {asked['state']!r}: it is one of {', '.join(PLAN_WORDS.values())}")
    text, by = asked["q"].lower(), asked["by"].lower()
    found = executors.search(
        state=asked["state"] or None,
        action=asked["action"],
        labels=[asked["label"]] if asked["label"] else [],
        since=_time(asked["since"]),
        until=_time(asked["until"]),
        longer_than=_seconds(asked["longer"]),
        most=max(most, _THROUGH) if text or by else most,
    )
    if not text and not by:
        return Found(found, 0)
    met = [view for view in found if by in view.by.lower() and _mentions(view, text)]
    return Found(met[:most], len(found) if len(found) >= _THROUGH and len(met) < most else 0)


def _mentions(view: PlanView, text: str) -> bool:
    return any(text in one.lower() for one in (view.plan, view.label, *view.labels))


def is_id(text: str) -> bool:
    """True for what may be a plan's id."""
    return re.fullmatch(r"[A-Za-z0-9._-]{1,96}", text) is not None


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(parse_duration(text))
    except ValueError as error:
        raise BadFilter(f"how long a plan is in its state: {error}") from None


def _time(text: str) -> datetime | None:
    """How long ago, or a time; with the local zone where it names none."""
    if not text:
        return None
    try:
        return datetime.fromtimestamp(time.time() - parse_duration(text)).astimezone()
    except (ValueError, OverflowError, OSError):  # no duration; or one that leads to before there were dates
        pass
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise BadFilter(f'{text!r} is no time: write how long ago ("7d", "30m"), or "2026-11-24T10:00"') from None


def _number(text: str | None) -> int:
    """The number of a page; 1 where it is none."""
    return max(1, int(text)) if text and text.isascii() and text.isdigit() and len(text) < 8 else 1


# -- the set-up -----------------------------------------------------------------------------------


def doctor(settings: Settings) -> dict[str, Any]:
    """What `chargehand doctor` finds on this node. It takes a second, and longer when Redis does not answer."""
    findings = examine(settings)
    return {
        "wrong": [one for one in findings if one.severity != "ok"],
        "passed": [one for one in findings if one.severity == "ok"],
    }


PAGES = {
    "overview": Page("overview.html", overview, 1.0),
    "plan": Page("plan.html", plan, 1.0),
    "step": Page("step.html", step, 1.0),
    "plans": Page("plans.html", plans, 2.0),
    "recurring": Page("recurring.html", recurring, 5.0),
    "failures": Page("failures.html", failures, 5.0),
    "queues": Page("queues.html", queues, 1.0),
    "queue": Page("queue.html", queue, 1.0),
    "executors": Page("executors.html", all_executors, 1.0),
}
