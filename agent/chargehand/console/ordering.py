"""The form with which a plan of one action is submitted: which action, its inputs as JSON, its labels."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from chargehand.actions import Action, ActionError
from chargehand.client import SubmitRefused
from chargehand.console.access import audit, form
from chargehand.console.acting import turned_away
from chargehand.console.desk import Desk
from chargehand.console.rendering import page, visitor
from chargehand.console.submitting import Submission, submit
from chargehand.decoding import converter, decode
from chargehand.requests import NotPossible

__all__ = ["ROUTES"]

_FIELDS = ("action", "inputs", "labels", "executor", "key")


class _Offer(NamedTuple):
    """An action, as one who wants to submit it needs to know it."""

    name: str
    about: str  # the first line of its docstring
    takes: str  # its parameters


def _offer(name: str, action: Action[..., Any]) -> _Offer:
    about = (inspect.getdoc(action.function) or "").partition("\n")[0]
    try:
        parameters = [
            f"{one}: {inspect.formatannotation(parameter.kind)}" + ("" if parameter.required else " (optional)")
            for one, parameter in action.parameters.items()
        ]
    except ActionError as error:  # its author must mend it; the others can be submitted all the same
        return _Offer(name, str(error), "")
    return _Offer(name, about, ", ".join(parameters) or "nothing")


def _asked(request: Request) -> Response:
    away = turned_away(request, "submit", "")
    given = {name: request.query_params.get(name, "") for name in _FIELDS}
    return away or _form(request, given)


def _form(request: Request, given: dict[str, str], refused: str = "") -> Response:
    desk: Desk = request.app.state.desk
    registry = desk.actions.known()
    # A phase of an action has a name of its own, `ACTION:revert`; nobody submits it.
    offers = [_offer(name, action) for name, action in sorted(registry.actions.items()) if ":" not in name]
    with desk.executors() as executors:
        names = executors.names
    return page(
        request,
        "submit.html",
        status=409 if refused else 200,
        refused=refused,
        given=given,
        offers=offers,
        problems=registry.problems,
        names=names,
    )


async def _submit(request: Request) -> Response:
    sent = await form(request)
    given = {name: sent.get(name, [""])[0].strip() for name in _FIELDS}
    return await run_in_threadpool(_submitted, request, given)


def _submitted(request: Request, given: dict[str, str]) -> Response:
    away = turned_away(request, "submit", given["action"])
    if away is not None:
        return away
    desk: Desk = request.app.state.desk
    try:
        asked = converter(Submission)(
            {
                "action": given["action"],
                "inputs": decode(given["inputs"] or "{}"),
                "labels": [one.strip() for one in given["labels"].split(",") if one.strip()],
                "executor": given["executor"] or None,
                "key": given["key"] or None,
            }
        )
        with desk.executors(visitor(request).name) as executors:
            plan = submit(executors, asked, desk.actions.known())
    except msgspec.DecodeError as error:  # a ValidationError is one too
        wrong = f"The inputs are a JSON object of the action's parameters: {error}"
    except (ActionError, NotPossible, SubmitRefused) as error:
        wrong = str(error)
    else:
        audit(request, "submit", plan, f"action {asked.action}")
        return RedirectResponse(f"/plans/{quote(plan, safe='')}", 303)
    audit(request, "submit", given["action"], f"refused: {wrong}")
    return _form(request, given, wrong)


ROUTES: list[BaseRoute] = [
    Route("/submit", _asked, methods=["GET"], name="submit"),
    Route("/submit", _submit, methods=["POST"]),
]
