"""What a refusal and a failure look like: a page for people, an RFC 9457 problem for programs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from chargehand.client import SubmitRefused
from chargehand.console.rendering import page
from chargehand.requests import NotPossible
from chargehand.store.connection import Full, Refused, Unavailable, Unconfirmed

__all__ = ["HANDLERS", "HEADERS", "PROBLEM", "Problem", "is_for_programs", "path_of", "problem", "told"]

log = logging.getLogger("chargehand.console")

PROBLEM = "application/problem+json"

#: On every response. No script and no style but our own files; no frame around us; nothing that others may read.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: a browser then says "Origin: null" of our own forms too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Problem(Struct, omit_defaults=True):
    """An error as RFC 9457 has it: what was found and expected, and what to do about it."""

    status: int
    title: str
    detail: str
    type: str = "about:blank"
    advice: list[str] = []  # what to do now, one line each


def problem(
    status: int, detail: str, *, advice: Sequence[str] = (), title: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    found = Problem(status, title or HTTPStatus(status).phrase, detail, advice=list(advice))
    # `type` is what the standard has when there is nothing to say, and is said all the same: readers look for it.
    body = msgspec.json.encode({"type": found.type, **msgspec.to_builtins(found)})
    return Response(body, status, headers=headers, media_type=PROBLEM)


def path_of(request: Request) -> str:
    """What is asked for. Not `request.url.path`: that is made with the Host header, which may hold anything."""
    path: str = request.scope["path"]
    return path


def is_for_programs(request: Request) -> bool:
    return path_of(request).startswith(("/api/", "/metrics"))


def told(
    request: Request,
    status: int,
    detail: str,
    *,
    advice: Sequence[str] = (),
    title: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The same for whoever asks: a page where pages are, a problem for programs."""
    if is_for_programs(request):
        return problem(status, detail, advice=advice, title=title, headers=headers)
    title = title or HTTPStatus(status).phrase
    response = page(request, "error.html", status=status, title=title, text=detail, advice=list(advice))
    response.headers.update(headers or {})
    return response


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:  # of the router
        detail = f"there is nothing at {path_of(request)}"
        if error.status_code == 405:
            detail = f"{request.method} is not for {path_of(request)}"
    return told(request, error.status_code, detail, headers=error.headers)


def _away(request: Request, error: Exception) -> Response:
    title, advice = "Redis cannot be reached", ["chargehand doctor"]
    if isinstance(error, Unconfirmed):
        title, advice = "It is not acknowledged", ["ask for it again, under the same key"]
    return told(request, 503, str(error), title=title, advice=advice, headers={"Retry-After": "5"})


def _full(request: Request, error: Exception) -> Response:
    return told(request, 507, str(error), title="Redis is full", advice=["give Redis more memory, or keep less"])


def _refused(request: Request, error: Exception) -> Response:
    return told(request, 502, str(error), title="Redis refused", advice=["chargehand doctor"])


def _conflict(request: Request, error: Exception) -> Response:
    return told(request, 409, str(error), title="It is not possible now")


def _broken(request: Request, error: Exception) -> Response:
    """The traceback goes to the log; who asks learns that it is there."""
    log.error("%s %s: %s: %s", request.method, ascii(path_of(request)), type(error).__name__, error)
    response = told(
        request,
        500,
        "this is a defect of the console: its log has more",
        title="It went wrong here",
        advice=["chargehand logs console", "please report it"],
    )
    response.headers.update(HEADERS)  # it is made outside of what adds them
    return response


#: For Starlette. `Unconfirmed` is an `Unavailable`.
HANDLERS = {
    HTTPException: _http,
    Unavailable: _away,
    Full: _full,
    Refused: _refused,
    NotPossible: _conflict,
    SubmitRefused: _conflict,
    Exception: _broken,
}
