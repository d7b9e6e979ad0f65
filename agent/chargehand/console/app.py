"""The application: its routes and what stands before all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from chargehand.config.settings import Settings
from chargehand.console import api, errors, login, metrics, pages
from chargehand.console.access import Access
from chargehand.console.desk import Desk
from chargehand.console.guard import Guard
from chargehand.console.tokens import Keyring, session_secret

__all__ = ["create_app"]

_ACTING = 8  # requests that act at a time, beside those that read


def create_app(settings: Settings) -> Starlette:
    """Its `state`: `desk`, what requests ask with; `access`, the rules; `stopping`, set when streams are to end."""
    access = Access(
        settings.console, Keyring(settings.console.tokens_file), session_secret(Path(settings.agent.state_dir))
    )
    routes: list[BaseRoute] = [
        *pages.ROUTES,
        *login.ROUTES,
        *metrics.ROUTES,
        Mount("/api/v1", routes=api.ROUTES, name="api"),
        Mount("/static", StaticFiles(packages=[("chargehand.console", "static")]), name="static"),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access)],
        exception_handlers=dict(errors.HANDLERS),
    )
    app.state.desk = Desk(settings)
    app.state.access = access
    app.state.stopping = asyncio.Event()
    app.state.acting = CapacityLimiter(_ACTING)
    return app
