"""The console as a process: what it listens on, and its life as a child of the agent."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from chargehand.child import Child, Ending
from chargehand.config.console import Place, place_of
from chargehand.config.settings import ConsoleSettings
from chargehand.console.app import create_app

__all__ = ["CannotListen", "listen", "run"]

_THREADS = 16  # requests that wait for Redis at a time; others stand in line
_CONNECTIONS = 500  # at a time; further ones get 503
_BACKLOG = 128
_GRACE = 1  # seconds that a response gets at the end
_MODE = 0o660  # of a unix socket: the agent's user and group

_PEER = struct.Struct("3i")  # pid, uid, gid


class CannotListen(Exception):
    """An address is taken, or not ours. The message says which, and what to do."""


class _Protocol(H11Protocol):
    """Tells the application whose process is at the other end of a unix socket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            self.client = ("unix", _PEER.unpack(credentials)[1])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the child's: it hears them as it hears the agent."""
        yield


def listen(console: ConsoleSettings) -> list[socket.socket]:
    """Sockets that listen. Raises `CannotListen`."""
    made: list[socket.socket] = []
    for text in console.listen:
        place = place_of(text)
        try:
            made.append(_listen(place))
        except OSError as error:
            for one in made:
                one.close()
            raise CannotListen(f"console.listen: {place}: {os.strerror(error.errno or 0)}") from error
    return made


def _listen(place: Place) -> socket.socket:
    if place.address is None:
        return _listen_unix(place.path)
    family = socket.AF_INET6 if place.address.version == 6 else socket.AF_INET
    # Named, or asyncio leaves Nagle's algorithm on: it waits 40 ms for an acknowledgement between headers and body.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if place.address.version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((str(place.address), place.port))
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _listen_unix(path: str) -> socket.socket:
    """In place of what a console before us has left there; never of one that still answers."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _answers(path):
            raise OSError(errno.EADDRINUSE, "")
        if Path(path).is_socket():
            Path(path).unlink()
        mask = os.umask(0o777 & ~_MODE)
        try:
            made.bind(path)
        finally:
            os.umask(mask)
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def run(child: Child) -> int:
    """Serve until the agent ends us. Raises `CannotListen`."""
    app = create_app(child.settings)
    return asyncio.run(_run(child, app))


async def _run(child: Child, app: Starlette) -> int:
    anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
    sockets = listen(child.settings.console)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # who asks is `access`'s to find out
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
    )
    server = _Server(config)
    ended = asyncio.Event()
    hearing = asyncio.get_running_loop()
    for descriptor in child.watched:
        hearing.add_reader(descriptor, _hear, child, ended)
    serving = asyncio.create_task(server.serve(sockets))
    telling = asyncio.create_task(_tell(child, server, ended))
    leaving = asyncio.create_task(ended.wait())
    await asyncio.wait({serving, telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
    app.state.stopping.set()  # streams end at once
    server.should_exit = True
    child.ending()
    await serving
    await telling
    leaving.cancel()
    app.state.desk.close()
    _unlink(child.settings.console)
    return 0


def _hear(child: Child, ended: asyncio.Event) -> None:
    try:
        for request in child.requests():
            request.fail("NotMine", f"a console does nothing about {request.method}")
    except Ending:
        ended.set()


async def _tell(child: Child, server: _Server, ended: asyncio.Event) -> None:
    """READY once it listens, then a ping while this loop turns."""
    await server.listening.wait()
    places = ", ".join(str(place_of(one)) for one in child.settings.console.listen)
    child.tell(ready=True, status=f"listening on {places}")
    while not ended.is_set() and not server.should_exit:
        child.ping()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), max(0.05, child.ping_in()))


def _unlink(console: ConsoleSettings) -> None:
    for text in console.listen:
        place = place_of(text)
        if place.address is None:
            Path(place.path).unlink(missing_ok=True)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0
