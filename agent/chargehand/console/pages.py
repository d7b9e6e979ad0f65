"""The pages that people look at, rendered here; `acting` does what their forms ask for, `live` keeps them fresh."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from chargehand.console import acting, live, looking, ordering
from chargehand.console.desk import Desk
from chargehand.console.looking import PAGES, Missing
from chargehand.console.rendering import page

__all__ = ["ROUTES"]


def _shown(name: str, request: Request) -> Response:
    """A page of `PAGES`, as it is now."""
    desk: Desk = request.app.state.desk
    address = {**request.query_params, **request.path_params}
    one = PAGES[name]
    try:
        with desk.executors() as executors:
            values = one.look(executors, address)
    except Missing as missing:
        return _missing(request, missing)
    if name == "plans":
        values |= {"acts": acting.LABELS}
    return page(
        request,
        one.template,
        live=f"/live/{name}?{urlencode(address)}",
        said=acting.SAID.get(request.query_params.get("done", ""), ""),
        **values,
    )


def _missing(request: Request, missing: Missing) -> Response:
    return page(request, "error.html", status=404, title="Not found", text=str(missing), advice=[])


def _plans(request: Request) -> Response:
    """The list; or the one plan that is named."""
    named = request.query_params.get("q", "").strip()
    if looking.is_id(named):
        desk: Desk = request.app.state.desk
        with desk.executors() as executors:
            if executors.read(named, steps=False) is not None:
                return RedirectResponse(f"/plans/{named}", 303)
    return _shown("plans", request)


def _doctor(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    return page(request, "doctor.html", **looking.doctor(desk.settings))


def _route(path: str, name: str) -> Route:
    shown: Callable[[Request], Response] = partial(_shown, name)
    return Route(path, shown, name=name)


ROUTES: list[BaseRoute] = [
    _route("/", "overview"),
    Route("/plans", _plans, name="plans"),
    _route("/plans/{plan}", "plan"),
    _route("/plans/{plan}/steps/{step}", "step"),
    _route("/recurring", "recurring"),
    _route("/failures", "failures"),
    _route("/queues", "queues"),
    _route("/queues/{name}", "queue"),
    _route("/executors", "executors"),
    Route("/doctor", _doctor, name="doctor"),
    *acting.ROUTES,
    *ordering.ROUTES,
    *live.ROUTES,
]
