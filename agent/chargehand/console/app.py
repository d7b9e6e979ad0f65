"""The application: its routes and what stands before all of them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from chargehand.config.settings import Settings
from chargehand.console import api, metrics, pages
from chargehand.console.desk import Desk

__all__ = ["create_app"]


def create_app(settings: Settings) -> Starlette:
    """`app.state.desk` is what requests ask with."""
    desk = Desk(settings)
    routes: list[BaseRoute] = [
        *pages.ROUTES,
        *metrics.ROUTES,
        Mount("/api/v1", routes=api.ROUTES, name="api"),
        Mount("/static", StaticFiles(packages=[("chargehand.console", "static")]), name="static"),
    ]
    app = Starlette(routes=routes)
    app.state.desk = desk
    return app
