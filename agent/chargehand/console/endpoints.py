"""One thing that REST can be asked for, as a value: routes and the OpenAPI document are both made from it.

A handler gets a `Call` and returns what is answered; it blocks, so it runs in a thread. What a request says (its
query, its body) is decoded into the types that the endpoint names: what does not fit is refused before it is called.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import anyio.to_thread
import msgspec
from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chargehand.console.access import audit
from chargehand.console.desk import Desk
from chargehand.console.errors import problem
from chargehand.decoding import converter, decode
from chargehand.executors import Executors

__all__ = ["BadRequest", "Call", "Endpoint", "Gone", "Nothing", "Unfit", "routes"]


class BadRequest(Exception):
    """What was sent does not fit. The message says what was found and expected."""


class Unfit(Exception):
    """It is well-formed, and cannot be: no such action, an input that it does not take."""


class Gone(Exception):
    """There is no such thing. The message says what was looked for."""


class Nothing(Struct):
    """No query, no body."""


class Call(NamedTuple):
    """One request, decoded."""

    request: Request
    executors: Executors
    path: dict[str, Any]
    query: Any
    body: Any

    @property
    def desk(self) -> Desk:
        found: Desk = self.request.app.state.desk
        return found


class Endpoint(NamedTuple):
    """`answer`: of a `Call`. Of one that `streams` it is awaited, gives the response itself, and has no executors."""

    method: str
    path: str
    summary: str
    answer: Callable[[Any], Any]
    gives: Any
    query: type[Struct] = Nothing
    body: type[Struct] = Nothing
    status: int = 200
    target: str = ""  # of an act: the part of the path that says what it is about, for the audit line
    streams: bool = False
    about: str = ""  # more than the summary

    @property
    def name(self) -> str:
        """Of the operation, for programs that are made from the document."""
        function = self.answer
        return getattr(function, "__name__", "").strip("_")


def routes(endpoints: Sequence[Endpoint]) -> list[Route]:
    """One route a path, so that a method that is not there is told with those that are."""
    by_path: dict[str, dict[str, Endpoint]] = defaultdict(dict)
    for one in endpoints:
        by_path[one.path][one.method] = one
    return [Route(path, _dispatch(methods), methods=list(methods)) for path, methods in by_path.items()]


def _dispatch(methods: dict[str, Endpoint]) -> Callable[[Request], Any]:
    async def dispatch(request: Request) -> Response:
        endpoint = methods["GET" if request.method == "HEAD" else request.method]
        try:
            query = _query(request, endpoint.query)
            body = _body(await request.body(), endpoint.body)
        except BadRequest as error:
            return problem(400, str(error))
        if endpoint.streams:
            found: Response = await endpoint.answer(Call(request, None, request.path_params, query, body))  # type: ignore[arg-type]
            return found
        work = partial(_answered, endpoint, request, query, body)
        if endpoint.method == "GET":
            return await run_in_threadpool(work)
        # In threads of their own: a submission waits for a Redis that is away, and who looks must not wait with it.
        return await anyio.to_thread.run_sync(work, limiter=request.app.state.acting)

    return dispatch


def _answered(endpoint: Endpoint, request: Request, query: Any, body: Any) -> Response:
    desk: Desk = request.app.state.desk
    acts = endpoint.method != "GET"
    target = str(request.path_params.get(endpoint.target, ""))
    try:
        with desk.executors(request.state.who.name) as executors:
            answer = endpoint.answer(Call(request, executors, request.path_params, query, body))
    except BadRequest as error:
        response = problem(400, str(error))
    except Unfit as error:
        response = problem(422, str(error), title="It cannot be")
    except Gone as error:
        response = problem(404, str(error))
    except Exception as error:
        if acts:
            audit(request, endpoint.name, target, f"refused: {error}")
        raise
    else:
        if acts:
            audit(request, endpoint.name, target or _told(answer), "asked")
        return Response(msgspec.json.encode(answer), endpoint.status, media_type="application/json")
    if acts:
        audit(request, endpoint.name, target, f"refused: {response.status_code}")
    return response


def _told(answer: Any) -> str:
    """What an act without a target in its path was about."""
    return str(getattr(answer, "plan", ""))


def _query(request: Request, kind: type[Struct]) -> Any:
    """The query as a struct: texts become what its fields are, lists are given by repeating the name."""
    given: dict[str, Any] = {}
    kinds = get_type_hints(kind)
    for name, value in request.query_params.multi_items():
        if get_origin(kinds.get(name)) is list:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise BadRequest(f"the query has {name!r} twice; expected once")
        else:
            given[name] = value
    try:
        for name in given.keys() & kinds.keys():
            if datetime in get_args(kinds[name]):  # which is written as one, and not as a number
                given[name] = converter(datetime)(given[name])
        made = converter(kind, strict=False)(given)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the query: {error}") from error
    for name in given.keys() & kinds.keys():
        if getattr(made, name) is None:  # the text "null"
            raise BadRequest(f"the query: {name}={given[name]} says nothing: leave it out")
    return made


def _body(data: bytes, kind: type[Struct]) -> Any:
    if kind is Nothing:
        return Nothing()  # whatever came with it says nothing
    try:
        return decode(data or b"{}", kind)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"the body: {error}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
