"""What stands before every route: it finds out who asks, turns away who may not, and bounds what is sent to us."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chargehand.console import access as rules
from chargehand.console.access import COOKIE, Access, Came, Right, Via, Who, audit, right_of
from chargehand.console.errors import HEADERS, is_for_programs, path_of, told

__all__ = ["LARGEST", "Guard", "came_of", "later"]

LARGEST = 4 << 20  # bytes of a request's body: a definition of 1,000 inputs, or a page's form of 10,000 plans

_FORMS = "application/x-www-form-urlencoded"

log = logging.getLogger("chargehand.console")


class Guard:
    """ASGI. Sets `who`, `csrf` and `came` in the request's state."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        secured = _with_headers(scope, send)
        request = Request(scope, receive)
        came = came_of(request)
        who = self._access.who(came, time.time())
        request.state.came, request.state.who = came, who
        request.state.csrf = self._access.csrf(came, who)
        right = right_of(request.method, path_of(request))
        refusal = self._unknown(request, came, who, right)
        if refusal is None and request.method not in {"GET", "HEAD"}:
            found = await _body(receive)
            if found is None:
                detail = f"the body is larger than {LARGEST >> 20} MiB, the most that is taken"
                refusal = told(request, 413, detail)
            else:
                refusal = self._misled(request, who, found)
                receive = _again(found, receive)
        if refusal is not None:
            if right is Right.ACT and who is not None:
                audit(request, request.method, path_of(request), f"refused: {refusal.status_code}")
            await refusal(scope, receive, secured)
            return
        await self._app(scope, receive, secured)

    def _unknown(self, request: Request, came: Came, who: Who | None, right: Right) -> Response | None:
        """Why this one may not do that; None: they may."""
        host = request.headers.get("host", "")
        if came.loopback and came.bearer is None and not rules.is_local_name(host):
            # A page from elsewhere whose name points to this machine would read what it shows.
            detail = f"the request is for {host!r}, and comes over loopback; expected localhost, 127.0.0.1 or [::1]"
            return told(request, 421, detail, advice=["open http://localhost:PORT, or use a token"])
        if right is Right.OPEN:
            return None
        if who is None:
            return self._nobody(request, came)
        if who.may(right):
            return None
        detail = f"{who.name!r} may read, and {request.method} {path_of(request)} acts"
        if who.via is Via.LOOPBACK and is_for_programs(request):  # they can say more of who they are
            headers = {"WWW-Authenticate": "Bearer"}
            return told(
                request, 401, detail, title="You may only read here", advice=_HOW_TO_ACT[who.via], headers=headers
            )
        return told(request, 403, detail, title="You may only read here", advice=_HOW_TO_ACT[who.via])

    def _nobody(self, request: Request, came: Came) -> Response:
        if came.bearer is not None:
            if self._access.failures.failed(came.source, time.time()):
                return later(request)
            log.warning("a token that is none of the tokens file, from %s", came.source)
            detail = "the token is none of the tokens file"
            return told(request, 401, detail, advice=_NEW_TOKEN, headers={"WWW-Authenticate": "Bearer"})
        if self._access.from_proxy(came):
            detail = "the proxy did not say who asks: its header user_header is missing"
            return told(request, 401, detail, advice=["have the proxy authenticate people and set the header"])
        path = path_of(request)
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            query = request.scope["query_string"].decode("latin-1")
            asked = path + (f"?{query}" if query else "")
            return RedirectResponse(f"/login?next={quote(asked, safe='')}", 303)
        detail = "who asks is not known here"
        advice = ["Authorization: Bearer TOKEN", *_NEW_TOKEN]
        return told(request, 401, detail, advice=advice, headers={"WWW-Authenticate": "Bearer"})

    def _misled(self, request: Request, who: Who | None, body: bytes) -> Response | None:
        """Why this was perhaps not meant: a browser sends what it knows somebody by to whatever a page points it at."""
        if who is not None and who.via is Via.TOKEN:  # which no browser adds by itself
            return None
        if rules.from_elsewhere(request.headers):
            return told(request, 403, "this came from a page of another site", advice=["use this console's own pages"])
        path, kind = path_of(request), request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if who is None or path in {"/login", "/logout"}:
            return None
        if is_for_programs(request):
            # A form of another site cannot be JSON, nor a method other than POST.
            if request.method == "POST" and kind != "application/json" and who.via in {Via.SESSION, Via.PROXY}:
                return told(request, 415, "a POST is JSON here", advice=["Content-Type: application/json"])
            return None
        given = parse_qs(body.decode(errors="replace")).get("csrf", [""])[0] if kind == _FORMS else ""
        if not hmac.compare_digest(given.encode(), str(request.state.csrf).encode()):
            detail = "the form is not of a page that was made for you: it is old, or you have logged in since"
            return told(request, 403, detail, advice=["go back, load the page again, and repeat it"])
        return None


def later(request: Request) -> Response:
    """Too many were wrong."""
    detail = "too many tokens that are none came from there"
    return told(request, 429, detail, advice=["try again in a minute"], headers={"Retry-After": "60"})


_NEW_TOKEN = ["chargehand console token NAME --rights read|act makes one, on the console's node"]
_HOW_TO_ACT = {
    Via.TOKEN: _NEW_TOKEN,
    Via.SESSION: ["sign in with a token that may act", *_NEW_TOKEN],
    Via.PROXY: ["have the name added to console.actors"],
    Via.LOOPBACK: ["sign in with a token that may act", *_NEW_TOKEN, "or use a unix socket of the console"],
    Via.SOCKET: [],
}


def came_of(request: Request) -> Came:
    """How a request came. Over a unix socket the server puts "unix" and the other side's uid in place of an address."""
    host, port = request.scope.get("client") or ("unix", -1)
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    return Came(
        host,
        port if host == "unix" else -1,
        text.strip() if kind.lower() == "bearer" else None,
        request.cookies.get(COOKIE, ""),
        request.headers,
    )


async def _body(receive: Receive) -> bytes | None:
    """All that is sent; None: more than is taken."""
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(parts)
        parts += message.get("body", b"")
        if len(parts) > LARGEST:
            return None
        if not message.get("more_body", False):
            return bytes(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever else comes."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receive_again


def _with_headers(scope: Scope, send: Send) -> Send:
    kept = scope["path"].startswith("/static/")

    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            _add(headers, HEADERS)
            if not kept and "cache-control" not in headers:
                headers["Cache-Control"] = "no-store"
        await send(message)

    return send_with_headers


def _add(headers: MutableHeaders, more: Mapping[str, str]) -> None:
    for name, value in more.items():
        headers[name] = value
