"""Logging in: a token, once, for a browser. What it gets is a signed cookie that scripts cannot read."""

from __future__ import annotations

import logging
import time

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from chargehand.console.access import COOKIE, Access, Came, Via, audit, form
from chargehand.console.guard import later
from chargehand.console.rendering import page

__all__ = ["ROUTES"]

log = logging.getLogger("chargehand.console")


def _form(request: Request) -> Response:
    return page(request, "login.html", next=_within(request.query_params.get("next", "/")))


async def _login(request: Request) -> Response:
    access: Access = request.app.state.access
    came: Came = request.state.came
    if access.failures.too_many(came.source, time.time()):
        return later(request)
    fields = await form(request)
    given, then = fields.get("token", [""])[0].strip(), _within(fields.get("next", ["/"])[0])
    token = access.keyring.find(given)
    if token is None:
        access.failures.failed(came.source, time.time())
        log.warning("a login with a token that is none, from %s", came.source)
        return page(request, "login.html", status=401, next=then, refused="That is none of the tokens.")
    audit(request, "login", token.name, "ok")
    response = RedirectResponse(then, 303)
    response.set_cookie(
        COOKIE,
        access.session(token, time.time()),
        max_age=round(access.session_seconds),
        httponly=True,
        samesite="strict",
        secure=_encrypted(request, access),
    )
    return response


def _logout(request: Request) -> Response:
    response = RedirectResponse("/", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    who = request.state.who
    if who is not None and who.via is Via.SESSION:
        audit(request, "logout", who.name, "ok")
    return response


def _within(target: str) -> str:
    """A path of this console; anything else is its first page."""
    inside = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if inside else "/"


def _encrypted(request: Request, access: Access) -> bool:
    """Whether the browser's side of the way here is."""
    came: Came = request.state.came
    return access.from_proxy(came) and request.headers.get("x-forwarded-proto", "") == "https"


ROUTES: list[BaseRoute] = [
    Route("/login", _form, methods=["GET"], name="login"),
    Route("/login", _login, methods=["POST"]),
    Route("/logout", _logout, methods=["POST"], name="logout"),
]
