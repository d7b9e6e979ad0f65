"""Pages that stay fresh: a stream of server-sent events for each page that somebody looks at.

    event: parts     data: {"live_nodes": "<tr>...", ...}     those parts that have changed, whole
    event: lost      data: "Redis cannot be reached: ..."     what is shown is what was known last
    event: gone      data: "there is no plan ..."             nothing more comes

What several people look at is asked for once. A plan's page hears of its news at once; anything else is looked at
again at its page's own pace, and less often when that takes long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from chargehand.console.desk import Desk
from chargehand.console.looking import PAGES, Missing
from chargehand.console.rendering import parts
from chargehand.requests import NotPossible
from chargehand.store.connection import Unavailable
from chargehand.store.watching import Follower

__all__ = ["ROUTES"]

_MOST = 200  # streams at once
_ALIVE = 15.0  # seconds: something is sent so often, so that proxies keep the stream and a lost one is noticed
_HEAR = 0.3  # seconds between two questions for a plan's news
_SHARE = 4  # a page that took a second to be made is made again after four at the earliest, whatever is heard
_KEPT = 200  # looks that are remembered for others


class _Looks:
    """What pages showed last, for all who look at the same."""

    def __init__(self) -> None:
        self.streams = 0
        self._kept: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, dict[str, Any]]] = {}

    def look(self, desk: Desk, name: str, address: dict[str, str], *, fresh: bool) -> dict[str, Any]:
        """Raises what the page's look does."""
        key = (name, tuple(sorted(address.items())))
        kept = self._kept.get(key)
        if kept is not None and not fresh and time.monotonic() - kept[0] < PAGES[name].every / 2:
            return kept[1]
        with desk.executors() as executors:
            values = PAGES[name].look(executors, address)
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[key] = (time.monotonic(), values)
        return values


def _looks(request: Request) -> _Looks:
    state = request.app.state
    if not hasattr(state, "looks"):
        state.looks = _Looks()
    found: _Looks = state.looks
    return found


async def _live(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in PAGES:
        return PlainTextResponse(f"there is no page {name!r}", 404)
    if _looks(request).streams >= _MOST:
        return PlainTextResponse(f"{_MOST} pages are looked at already: this one is not kept fresh", 503)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(request, name), media_type="text/event-stream", headers=headers)


async def _events(request: Request, name: str) -> AsyncIterator[str]:
    looks = _looks(request)
    looks.streams += 1
    try:
        async for event in _changes(request, name, looks):
            yield event
    finally:
        looks.streams -= 1


async def _changes(request: Request, name: str, looks: _Looks) -> AsyncIterator[str]:
    desk: Desk = request.app.state.desk
    address = dict(request.query_params)
    follower: Follower | None = None
    shown: dict[str, int] = {}
    told, heard = 0.0, False

    def look() -> dict[str, str]:
        return parts(request, PAGES[name].template, looks.look(desk, name, address, fresh=heard))

    while not request.app.state.stopping.is_set():
        began = time.monotonic()
        try:
            if "plan" in address and follower is None:
                follower = await run_in_threadpool(_follow, desk, address["plan"])
            fresh = await run_in_threadpool(look)
        except Missing as missing:
            yield _event("gone", str(missing))
            return
        except Unavailable as error:
            yield _event("lost", str(error))
            shown.clear()
            await _stopping(request, PAGES[name].every)
            continue
        changed = {part: text for part, text in fresh.items() if shown.get(part) != hash(text)}
        shown = {part: hash(text) for part, text in fresh.items()}
        now = time.monotonic()
        if changed:
            yield _event("parts", changed)
            told = now
        elif now - told > _ALIVE:
            yield ": still here\n\n"
            told = now
        if not await _stopping(request, _SHARE * (now - began)):
            heard = await _heard(request, follower, PAGES[name].every)


async def _heard(request: Request, follower: Follower | None, seconds: float) -> bool:
    """Wait so long; less when there is news of the plan: True then."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if await _stopping(request, left if follower is None else min(left, _HEAR)):
            return False
        if follower is not None and await run_in_threadpool(_news, request.app.state.desk, follower):
            return True
    return False


async def _stopping(request: Request, seconds: float) -> bool:
    """Wait so long; True at once when the console stops: streams end then, and browsers come again."""
    try:
        await asyncio.wait_for(request.app.state.stopping.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _follow(desk: Desk, plan: str) -> Follower:
    with desk.executors() as executors:
        try:
            follower = executors.at(plan).follower(plan, past=0)
        except NotPossible as error:
            raise Missing(str(error)) from error
    _news(desk, follower)
    return follower


def _news(desk: Desk, follower: Follower) -> bool:
    """True when something has happened. What cannot be asked now is asked by the look that follows."""
    try:
        with desk.executors() as executors:
            return bool(executors.at(follower.plan).news(follower))
    except (Unavailable, NotPossible):
        return False


def _event(kind: str, data: object) -> str:
    """JSON has no line breaks, so it is one line of an event."""
    return f"event: {kind}\ndata: {msgspec.json.encode(data).decode()}\n\n"


ROUTES: list[BaseRoute] = [Route("/live/{name}", _live, name="live")]
