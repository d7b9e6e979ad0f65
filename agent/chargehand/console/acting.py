"""What the forms of the pages ask for. Each act is asked of the executor, written down with who asked, and answered by
the page it came from: with what was done, or with why it was not.

Whoever may not act is turned away before (`access`); the forms are plain, so they work without JavaScript.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from chargehand.client import Client
from chargehand.config.quantities import parse_duration
from chargehand.console import views
from chargehand.console.access import audit, form
from chargehand.console.desk import Desk
from chargehand.console.looking import FILTERS, PAGES, BadFilter, Missing, choose
from chargehand.console.rendering import page, visitor
from chargehand.decoding import decode
from chargehand.executors import Executors
from chargehand.requests import NotPossible
from chargehand.store.plans import PlanView

__all__ = ["LABELS", "ROUTES", "SAID", "turned_away"]

Form = Mapping[str, Sequence[str]]

_MOST = 10_000  # plans in one bulk act
_SHOWN = 20  # of them by name


class _Act(NamedTuple):
    label: str
    said: str  # when it has been asked for
    ask: Callable[[Client, str, Form], None]
    text: str = ""  # what it means, for several at once; empty: it is about steps, and for one plan alone


def _steps(sent: Form) -> list[int]:
    numbers = [one for text in sent.get("steps", []) for one in text.split(",") if one]
    if not numbers or not all(one.isascii() and one.isdigit() and len(one) < 10 for one in numbers):
        raise NotPossible("no step was named")
    return [int(one) for one in numbers]


def _cancel(client: Client, plan: str, sent: Form) -> None:
    try:
        grace = float(parse_duration(_text(sent, "grace") or "10s"))
    except ValueError as error:
        raise NotPossible(f"the time that what runs has to end: {error}") from error
    client.cancel(plan, grace=grace)


def _send(client: Client, plan: str, sent: Form) -> None:
    name = _text(sent, "name")
    if not name:
        raise NotPossible("the event has no name")
    for step in _steps(sent):
        client.send_event(plan, step, name, _data(_text(sent, "data")))


def _data(text: str) -> Any:
    """JSON where it is a list or a table, text otherwise: as on the command line."""
    if not text:
        return None
    if text[:1] not in {"[", "{"}:
        return text
    try:
        return decode(text)
    except msgspec.DecodeError as error:
        raise NotPossible(f"the event's data is no JSON: {error}") from error


_ACTS = {
    "resume": _Act(
        "Resume", "It is being resumed.", lambda client, plan, _: client.resume(plan), "Their failed steps run again."
    ),
    "cancel": _Act(
        "Cancel",
        "It is being cancelled.",
        _cancel,
        "Nothing new starts; what runs is told, and ended after 10 seconds.",
    ),
    "revert": _Act(
        "Revert",
        "It is being reverted.",
        lambda client, plan, _: client.revert(plan),
        "Nothing new starts; then what succeeded is undone, backwards.",
    ),
    "halt": _Act(
        "Halt",
        "It is being halted.",
        lambda client, plan, _: client.halt(plan),
        "They end at once and for good, even while a step hangs.",
    ),
    "retry": _Act("Retry", "It is tried again.", lambda client, plan, sent: client.retry(plan, _steps(sent))),
    "skip": _Act("Skip", "The plan goes on without it.", lambda client, plan, sent: client.skip(plan, _steps(sent))),
    "event": _Act("Send", "The event is sent.", _send),
}
_RECURRING: Mapping[str, tuple[str, Callable[[Client, str], None]]] = {
    "pause": ("It is being paused.", lambda client, name: client.pause_recurring(name)),
    "resume": ("It is being resumed.", lambda client, name: client.resume_recurring(name)),
    "remove": ("It is being removed.", lambda client, name: client.remove_recurring(name)),
}

LABELS = {name: act.label for name, act in _ACTS.items() if act.text}  # for several at once

#: What a page says when it comes after an act, by the `done` of its address.
SAID = {name: act.said for name, act in _ACTS.items()}
SAID |= {f"recurring-{name}": said for name, (said, _) in _RECURRING.items()}


def _text(sent: Form, name: str) -> str:
    return sent.get(name, [""])[0].strip()


def turned_away(request: Request, what: str, target: str) -> Response | None:
    """None: who asks may act. `access` has looked already; this is for a route that it should not know."""
    if visitor(request).acts:
        return None
    audit(request, what, target, "refused: may only read")
    return page(
        request,
        "error.html",
        status=403,
        title="You may only read here",
        text=f"{visitor(request).name or 'Whoever comes without a token'} may read; this needs the right to act.",
        advice=["sign in with a token that may act (chargehand console token NAME --rights act)"],
    )


async def _plan(request: Request) -> Response:
    sent = await form(request)
    return await run_in_threadpool(_plan_asked, request, sent)


def _plan_asked(request: Request, sent: Form) -> Response:
    plan, name = request.path_params["plan"], request.path_params["act"]
    act = _ACTS.get(name)
    if act is None:
        return page(request, "error.html", status=404, title="Not found", text=f"there is no act {name!r}", advice=[])
    away = turned_away(request, name, plan)
    if away is not None:
        return away
    desk: Desk = request.app.state.desk
    with desk.executors(visitor(request).name) as executors:
        refused = _ask(request, executors, plan, name, sent)
        if not refused:
            return RedirectResponse(f"/plans/{quote(plan, safe='')}?{urlencode({'done': name})}", 303)
        try:
            values = PAGES["plan"].look(executors, {"plan": plan})
        except Missing as missing:
            return page(request, "error.html", status=404, title="Not found", text=str(missing), advice=[])
    live = f"/live/plan?{urlencode({'plan': plan})}"
    return page(request, PAGES["plan"].template, status=409, live=live, refused=refused, **values)


def _ask(request: Request, executors: Executors, plan: str, name: str, sent: Form) -> str:
    """Ask it of one plan. Why it does not fit; empty: it was asked."""
    try:
        _ACTS[name].ask(executors.at(plan), plan, sent)
    except NotPossible as error:
        audit(request, name, plan, f"refused: {error}")
        return str(error)
    audit(request, name, plan, "asked")
    return ""


# -- several plans --------------------------------------------------------------------------------


class _Chosen(NamedTuple):
    plans: list[PlanView]  # those that the act fits
    left_out: int


def _chosen(executors: Executors, name: str, sent: Form) -> _Chosen:
    """Those that are marked, or all that the filters find. Raises `BadFilter`."""
    if _text(sent, "which") == "all":
        found = choose(executors, {one: _text(sent, one) for one in FILTERS}, _MOST + 1).plans
    else:
        names = list(dict.fromkeys(sent.get("plan", [])))[: _MOST + 1]
        found = [view for one in names if (view := executors.read(one, steps=False)) is not None]
    able = [view for view in found if name in views.plan_allows(view)]
    return _Chosen(able, len(found) - len(able))


async def _bulk(request: Request) -> Response:
    sent = await form(request)
    return await run_in_threadpool(_bulk_asked, request, sent)


def _bulk_asked(request: Request, sent: Form, refused: str = "") -> Response:
    """Say which and how many, and ask."""
    name = _text(sent, "act")
    if name not in LABELS:
        return page(request, "error.html", status=404, title="Not found", text=f"there is no act {name!r}", advice=[])
    away = turned_away(request, f"bulk {name}", "")
    if away is not None:
        return away
    desk: Desk = request.app.state.desk
    try:
        with desk.executors(visitor(request).name) as executors:
            chosen = _chosen(executors, name, sent)
    except BadFilter as error:
        return page(request, "error.html", status=400, title="Which plans?", text=str(error), advice=[])
    text = _ACTS[name].text
    if chosen.left_out:
        text += f" Left out: {views.plural(chosen.left_out, 'further plan')} that cannot be asked that now."
    if not chosen.plans and not chosen.left_out:
        text = "No plan was chosen: mark some in the list, or take all that the filters find."
    if len(chosen.plans) > _MOST:
        text = f"That is more than {_MOST:,} plans: narrow the filters."
        chosen = _Chosen([], 0)
    kept = ("act", "which", *(FILTERS if _text(sent, "which") == "all" else ()))
    fields = [(one, _text(sent, one)) for one in kept] + [("seen", _fingerprint(chosen.plans))]
    if _text(sent, "which") != "all":
        fields += [("plan", view.plan) for view in chosen.plans]
    return page(
        request,
        "confirm.html",
        status=409 if refused else 200,
        refused=refused,
        label=_ACTS[name].label,
        text=text,
        total=len(chosen.plans),
        some=chosen.plans[:_SHOWN],
        fields=fields,
        back=_back(sent),
    )


def _fingerprint(plans: Sequence[PlanView]) -> str:
    """Which plans they are, so that nobody acts on others than were looked at."""
    return hashlib.sha256("\n".join(sorted(view.plan for view in plans)).encode()).hexdigest()[:32]


def _back(sent: Form) -> str:
    return "/plans?" + urlencode({one: text for one in FILTERS if (text := _text(sent, one))})


async def _bulk_do(request: Request) -> Response:
    sent = await form(request)
    return await run_in_threadpool(_bulk_done, request, sent)


def _bulk_done(request: Request, sent: Form) -> Response:
    name = _text(sent, "act")
    if name not in LABELS or not visitor(request).acts:
        return _bulk_asked(request, sent)
    desk: Desk = request.app.state.desk
    try:
        with desk.executors(visitor(request).name) as executors:
            chosen = _chosen(executors, name, sent)
            typed = _text(sent, "count").replace(",", "")
            if typed != str(len(chosen.plans)) or len(chosen.plans) > _MOST:
                wrong = f"{typed or 'Nothing'} was typed, and it is {views.plural(len(chosen.plans), 'plan')} now."
                return _bulk_asked(request, sent, wrong)
            if _text(sent, "seen") != _fingerprint(chosen.plans):
                return _bulk_asked(request, sent, "As many, but not the same plans any more: look once more.")
            refusals = [
                refused for view in chosen.plans if (refused := _ask(request, executors, view.plan, name, sent))
            ]
    except BadFilter as error:
        return page(request, "error.html", status=400, title="Which plans?", text=str(error), advice=[])
    asked = len(chosen.plans) - len(refusals)
    title = f"{_ACTS[name].label}: asked of {views.plural(asked, 'plan')}"
    return page(request, "done.html", title=title, refusals=refusals, back=_back(sent))


# -- recurring plans ------------------------------------------------------------------------------


async def _recurring(request: Request) -> Response:
    return await run_in_threadpool(_recurring_asked, request)


def _recurring_asked(request: Request) -> Response:
    name, what = request.path_params["name"], request.path_params["act"]
    if what not in _RECURRING:
        return page(request, "error.html", status=404, title="Not found", text=f"there is no act {what!r}", advice=[])
    away = turned_away(request, f"recurring {what}", name)
    if away is not None:
        return away
    desk: Desk = request.app.state.desk
    with desk.executors(visitor(request).name) as executors:
        try:
            _RECURRING[what][1](executors.recurring_at(name), name)
        except NotPossible as error:
            audit(request, f"recurring {what}", name, f"refused: {error}")
            values = PAGES["recurring"].look(executors, {})
            return page(request, "recurring.html", status=409, live="/live/recurring?", refused=str(error), **values)
    audit(request, f"recurring {what}", name, "asked")
    return RedirectResponse(f"/recurring?{urlencode({'done': f'recurring-{what}'})}", 303)


ROUTES: list[BaseRoute] = [
    Route("/bulk", _bulk, methods=["POST"], name="bulk"),
    Route("/bulk/do", _bulk_do, methods=["POST"], name="bulk-do"),
    Route("/plans/{plan}/{act}", _plan, methods=["POST"], name="plan-act"),
    Route("/recurring/{name}/{act}", _recurring, methods=["POST"], name="recurring-act"),
]
