"""Templates into responses: pages as a whole, and the parts of a page that change while it is looked at.

A part is a block of the page's template whose name begins with `live_`; it stands in an element of that id.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from starlette.requests import Request
from starlette.responses import HTMLResponse

from chargehand import __version__
from chargehand.console import views
from chargehand.console.access import Via

__all__ = ["Visitor", "page", "parts", "visitor"]


class Visitor(NamedTuple):
    """Who looks at a page, and what the page may offer."""

    name: str
    acts: bool  # there are buttons
    csrf: str  # stands in every form
    signed_in: bool  # with a token, in this browser


def visitor(request: Request) -> Visitor:
    """As the access rules have left it in the request's state; without them: nobody, who reads."""
    who = getattr(request.state, "who", None)
    return Visitor(
        getattr(who, "name", ""),
        bool(getattr(who, "acts", False)),
        getattr(request.state, "csrf", ""),
        getattr(who, "via", None) is Via.SESSION,
    )


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page. `template`: its file in templates/."""
    text = _environment().get_template(template).render(_around(request, {"status": status, **values}))
    return HTMLResponse(text, status)


def parts(request: Request, template: str, values: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a page by their id, rendered anew."""
    found = _environment().get_template(template)
    context = found.new_context(_around(request, values))
    return {name: "".join(block(context)) for name, block in found.blocks.items() if name.startswith("live_")}


def _around(request: Request, values: Mapping[str, Any]) -> dict[str, Any]:
    """What every page knows."""
    desk = getattr(request.app.state, "desk", None)
    settings = desk.settings if desk is not None else None
    return {
        "path": request.url.path,
        "visitor": visitor(request),
        "node": settings.node.name if settings is not None else "",
        "several": bool(settings is not None and settings.executors),
        "now_ms": int(time.time() * 1000),
        "live": "",
        "said": "",
        "refused": "",
        **values,
    }


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("chargehand.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "age": views.age,
        "clock": _clock,
        "count": views.count,
        "iso": views.iso,
        "once": views.plural,
        "path": lambda text: quote(str(text), safe=""),
        "pretty": views.pretty,
        "query": lambda pairs: urlencode({key: value for key, value in pairs.items() if value}),
        "rate": views.rate,
        "sentence": lambda text: text[:1].upper() + text[1:],
        "took": views.took,
        "tone": views.tone,
    }
    made.globals |= {"version": __version__, "zone": _zone, "phrase": lambda status: HTTPStatus(status).phrase}
    made.globals["ui"] = made.get_template("ui.html").module
    return made


@pass_context
def _clock(context: Context, ms: int) -> str:
    return views.clock(ms, context.get("now_ms") or int(time.time() * 1000))


def _zone() -> str:
    return datetime.now().astimezone().tzname() or "local time"
