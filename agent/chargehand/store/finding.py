"""Finding the server that has an executor's data: at its URL, by sentinels, or in a cluster.

A list of hosts is asked one after the other, the one that answered last first, and for a bounded time: a host that
fails goes to the end of the list, and the next try begins with another.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from redis.connection import AbstractConnection
from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError, ResponseError

from chargehand.config.settings import RedisSettings
from chargehand.config.urls import SENTINEL_PORT, hosts_of
from chargehand.store.keys import Keys
from chargehand.store.opening import FAILURES, Address, NotFound, Opener, reason_of

__all__ = ["Finder", "finder"]

log = logging.getLogger("chargehand.store")

_QUIET = 10.0  # seconds without a word from a sentinel, after which it is asked whether it is there
_AGAIN = 1.0  # seconds until all of them are tried again


class Finder:
    """Connects to the one server of a URL."""

    def __init__(self, settings: RedisSettings, opener: Opener) -> None:
        assert settings.url is not None
        self._url = settings.url
        self._opener = opener
        parts = urlsplit(self._url)
        self.name = unquote(parts.path) if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"

    def connect(self) -> AbstractConnection:
        """Raises one of `FAILURES`, or `NotFound`."""
        return self._opener.named(self._url)

    def doubt(self) -> None:
        """What was found last may not be what is looked for."""

    def follow(self) -> None:
        """From now on, end connections to a server that is it no more, as soon as that can be known."""


class _Several(Finder):
    """Asks the hosts of a URL, in turn."""

    def __init__(self, settings: RedisSettings, opener: Opener, probe: Callable[[AbstractConnection], None], port: int):
        self._opener = opener
        self._probe = probe
        self._patience = float(settings.timeout)
        self._given = self._hosts = tuple(hosts_of(settings.url or "", port))  # never changed: threads share them

    def _turns(self) -> Iterator[Address]:
        """Each host once, while there is time."""
        until = time.monotonic() + self._patience
        for host in self._hosts:
            yield host
            if time.monotonic() > until:
                return

    def _first(self, host: Address) -> None:
        self._hosts = (host, *(one for one in self._hosts if one != host))

    def _last(self, host: Address) -> None:
        """It failed; one that others named is forgotten."""
        self._hosts = (*(one for one in self._hosts if one != host), *(one for one in self._given if one == host))

    def doubt(self) -> None:
        self._last(self._hosts[0])


class _BySentinel(_Several):
    """Connects to the master that a sentinel tells, if it is one."""

    def __init__(self, settings: RedisSettings, opener: Opener, probe: Callable[[AbstractConnection], None]) -> None:
        super().__init__(settings, opener, probe, SENTINEL_PORT)
        path = [unquote(piece) for piece in urlsplit(settings.url or "").path.split("/") if piece]
        self._master = path[0] if path else "mymaster"
        self._db = int(path[1]) if len(path) > 1 else 0
        self.name = f"{self._master} by sentinel {_text(self._hosts[0])}"
        self._made = WeakKeyDictionary[AbstractConnection, Address]()
        self._making = threading.Lock()

    def connect(self) -> AbstractConnection:
        silent = NotFound("no sentinel answers")
        told: dict[Address, NotFound] = {}
        ignorant = False
        for sentinel in self._turns():
            try:
                master = self._ask(sentinel)
            except FAILURES as error:
                silent = NotFound(f"sentinel {_text(sentinel)}: {reason_of(error)}")
                self._last(sentinel)
                continue
            if master is None:
                ignorant = True
            elif master not in told:
                try:
                    connection = self._opener.server(master, self._db)
                    _probed(connection, self._probe)
                except FAILURES as error:
                    told[master] = NotFound(f"master {_text(master)}: {reason_of(error)}")
                else:
                    self._first(sentinel)
                    with self._making:
                        self._made[connection] = master
                    return connection
            self._last(sentinel)
        if told:
            raise told.popitem()[1]
        raise NotFound(f"no sentinel knows a master called {self._master}") if ignorant else silent

    def follow(self) -> None:
        """An old master that lives serves on for 8 s and more until a sentinel makes it a replica: all that is lost."""
        threading.Thread(target=self._follow, name="sentinel", daemon=True).start()

    def _follow(self) -> None:
        while True:
            for sentinel in self._hosts:
                try:
                    self._listen(sentinel)
                except FAILURES as error:
                    log.debug("sentinel %s is not listened to: %s", _text(sentinel), reason_of(error))
            time.sleep(_AGAIN)

    def _listen(self, sentinel: Address) -> NoReturn:
        """Until its connection ends."""
        connection = self._opener.sentinel(sentinel)
        try:
            connection.send_command("SUBSCRIBE", "+switch-master")
            connection.read_response()
            while True:
                if not connection.can_read(_QUIET):
                    connection.send_command("PING")
                kind, *_, text = connection.read_response()
                words: list[str] = text.decode().split() if kind == b"message" else []
                if words[:1] == [self._master]:
                    log.warning("another master: %s:%s, told by sentinel %s", *words[3:5], _text(sentinel))
                    self._first(sentinel)
                    self._leave_all_but((words[3], int(words[4])))
        finally:
            connection.disconnect()

    def _leave_all_but(self, master: Address) -> None:
        """Whoever reads or writes on the others meets their end, and finds the new one."""
        with self._making:
            left = [connection for connection, made_to in self._made.items() if made_to != master]
        for connection in left:
            sock: socket.socket | None = connection._get_socket()
            if sock is not None:
                with contextlib.suppress(OSError):  # its user has closed it
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _ask(self, sentinel: Address) -> Address | None:
        connection = self._opener.sentinel(sentinel)
        try:
            connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)
            found = connection.read_response()
        finally:
            connection.disconnect()
        return (found[0].decode(), int(found[1])) if found else None


class _InCluster(_Several):
    """Connects to the node of a cluster that has the executor's slot: any node knows which."""

    def __init__(self, settings: RedisSettings, opener: Opener, probe: Callable[[AbstractConnection], None]) -> None:
        super().__init__(settings, opener, probe, 6379)
        self.name = f"cluster {_text(self._hosts[0])}"

    def connect(self) -> AbstractConnection:
        failed = NotFound("no node has the slot")
        asked = set[Address]()
        for host in self._turns():
            node = host
            while node not in asked:
                asked.add(node)
                try:
                    connection = self._opener.server(node)
                    _probed(connection, self._probe)
                except MovedError as moved:
                    node = (moved.host or node[0], moved.port)
                except FAILURES as error:
                    failed = NotFound(f"node {_text(node)}: {reason_of(error)}")
                    break
                else:
                    self._first(node)
                    return connection
            self._last(host)
        raise failed


def finder(settings: RedisSettings, executor: str | None) -> Finder:
    """How to find the server of these settings. Raises `ValueError`: a cluster, and no executor to look for."""
    scheme = (settings.url or "").partition("://")[0]
    opener = Opener(settings)
    if scheme.endswith("+cluster") and executor is None:
        raise ValueError("which node of a cluster it is depends on the executor: name it")

    def probe(connection: AbstractConnection) -> None:
        """A write that changes nothing: a replica refuses it, a node without the slot says who has it."""
        if executor is not None:
            connection.send_command("DEL", f"{Keys(executor).prefix}probe")
            try:
                connection.read_response()
            except (MovedError, ReadOnlyError, ClusterDownError):
                raise
            except ResponseError:
                pass  # it is the one; what it cannot do now, it says to those who ask for that

    if scheme.endswith("+sentinel"):
        return _BySentinel(settings, opener, probe)
    if scheme.endswith("+cluster"):
        return _InCluster(settings, opener, probe)
    return Finder(settings, opener)


def _probed(connection: AbstractConnection, probe: Callable[[AbstractConnection], None]) -> None:
    try:
        probe(connection)
    except BaseException:
        connection.disconnect()
        raise


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
