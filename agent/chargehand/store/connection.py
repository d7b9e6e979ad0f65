"""Connections to Redis: one `Line` each, on redis-py's connection, with everything batched by its caller.

A `Line` is not a client with a pool and retries. Its users decide what an unanswered request means, so
every failure of the connection, and every answer that means "not now", is one exception: `Unavailable`.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from chargehand.config.settings import RedisSettings
from chargehand.store.finding import finder
from chargehand.store.opening import FAILURES, NotFound, reason_of
from chargehand.store.scripts import SCRIPTS

__all__ = ["Command", "Dialer", "Full", "Line", "Refused", "Unavailable", "Unconfirmed"]

Command = tuple[Any, ...]

#: Answers of a server that is there but cannot serve: a fail-over, a start, a broken cluster. Not our mistake.
_NOT_NOW = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError, AskError, MovedError)
_NOT_NOW_WORDS = re.compile(
    r"(?:^|[\s-])(?=(TRYAGAIN|CLUSTERDOWN|READONLY|LOADING|MASTERDOWN|BUSY|UNBLOCKED|NOREPLICAS|MISCONF)\b"
    r"|WAIT cannot be used with replica)"
)
_IN_A_SCRIPT = " script: "  # from here on an error says which, and where in it; before 7.0 it says so first


class Unavailable(Exception):
    """Redis cannot be reached or cannot serve now. The message is for a status line."""


class Unconfirmed(Unavailable):
    """Too few replicas have what was written. It stands in Redis now, and may be gone after a failover."""


class Full(Exception):
    """Redis has no memory left for new data."""


class Refused(Exception):
    """Redis understood the request and said no: wrong password, missing right, unknown command."""


class Dialer:
    """Knows where Redis is and how to log in; makes lines. For many threads."""

    def __init__(self, settings: RedisSettings, executor: str | None = None) -> None:
        """`executor`: whose data is looked for. Needed for a cluster; with it, what sentinels tell is tried."""
        if settings.url is None:
            raise ValueError("redis.url is not set")
        self._settings = settings
        self._finder = finder(settings, executor)
        self.name = self._finder.name

    def follow(self) -> None:
        """For a process that stays: lines end as soon as sentinels tell of another master."""
        self._finder.follow()

    def line(self) -> Line:
        """Connect. Raises `Unavailable`."""
        try:
            connection = self._finder.connect()
        except (*FAILURES, NotFound) as error:
            raise Unavailable(f"{self.name}: {reason_of(error)}") from error
        line = Line(
            connection,
            float(self._settings.timeout),
            self.name,
            min_replicas=self._settings.min_replicas,
            doubt=self._finder.doubt,
        )
        line.batch([("SCRIPT", "LOAD", script.text) for script in SCRIPTS])
        return line


class Line:
    """One connection. Not for two threads at once."""

    def __init__(
        self,
        connection: AbstractConnection,
        timeout: float,
        name: str,
        *,
        min_replicas: int = 0,
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        """`timeout`: seconds, of one request. `doubt` is called when this may be the wrong server."""
        self._connection = connection
        self._timeout = timeout
        self._name = name
        self._min_replicas = min_replicas
        self._doubt = doubt

    def fileno(self) -> int:
        """The socket, to wait on. After `fileno` says readable, and only then, `read` does not wait."""
        sock: socket.socket | None = self._connection._get_socket()
        if sock is None:
            raise Unavailable(f"{self._name}: connection closed")
        return sock.fileno()

    def send(self, *commands: Command) -> None:
        """Send without waiting. Each command must be read with `read`, in this order."""
        try:
            # As one piece: redis-py's own packing looks at each argument once more, and sends in many small ones.
            packed = b"".join([hiredis.pack_command(command) for command in commands])
            self._connection.send_packed_command([packed], check_health=False)
        except (RedisError, OSError) as error:
            self.close()
            raise self._translate(error) from error

    def ready(self, timeout: float = 0) -> bool:
        """True when an answer can be read (buffered ones count), waiting at most `timeout` seconds for it."""
        try:
            return self._connection.can_read(timeout)
        except (RedisError, OSError) as error:
            self.close()
            raise self._translate(error) from error

    def read(self, wait: float = 0) -> Any:
        """Read one answer, at most `wait` seconds beyond the request time-out.

        Raises `Unavailable` (the line is closed: nothing more can be read from it), `Full`, `Refused`.
        """
        try:
            return self._connection.read_response(timeout=self._timeout + wait)
        except ResponseError as error:
            raise self._translate(error) from error
        except (RedisError, OSError) as error:
            self.close()
            raise self._translate(error) from error

    def call(self, *command: Any) -> Any:
        self.send(command)
        return self.read()

    def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Send all in one go, read all answers. The first error is raised after the rest was read."""
        if not commands:
            return []
        self.send(*commands)
        answers: list[Any] = []
        failed: Exception | None = None
        for _ in commands:
            try:
                answers.append(self.read())
            except (Full, Refused) as error:
                failed = failed or error
        if failed:
            raise failed
        return answers

    @property
    def confirmation(self) -> tuple[Command, ...]:
        """To be sent after writes, in the same flight: then `missing` tells what became of them.

        The answer comes in half the time-out, so that a shortfall is not taken for a silent server. It speaks of
        what was written on this line, and of nothing where nothing was.
        """
        return (("WAIT", self._min_replicas, max(1, round(self._timeout * 500))),) if self._min_replicas else ()

    def missing(self) -> str:
        """Read the answer to `confirmation`: empty when enough replicas have it, else `0 of 1 replicas`."""
        return self._shortfall(self.read()) if self._min_replicas else ""

    def confirmed(self, *commands: Command) -> list[Any]:
        """`batch`, and enough replicas have what was written. Raises `Unconfirmed` otherwise."""
        answers = self.batch([*commands, *self.confirmation])
        if self._min_replicas and (missing := self._shortfall(answers.pop())):
            raise self.unconfirmed(missing)
        return answers

    def unconfirmed(self, missing: str) -> Unconfirmed:
        """What to raise for it."""
        return Unconfirmed(f"{self._name}: {missing}")

    def _shortfall(self, found: int) -> str:
        if found >= self._min_replicas:
            return ""
        self._doubt()
        return f"{found} of {self._min_replicas} replicas"

    def close(self) -> None:
        self._connection.disconnect()

    def _translate(self, error: Exception) -> Exception:
        text = str(error)
        if isinstance(error, OutOfMemoryError) or "OOM " in text:
            return Full(f"{self._name}: out of memory (maxmemory reached)")
        if isinstance(error, ResponseError):
            # redis-py knows some answers by class, others by their first word, and those in a script by neither.
            found = _NOT_NOW_WORDS.search(text)
            if found:
                text = text[found.end() :].partition(". Please")[0]
            if isinstance(error, MovedError):
                text = f"its slot is at {error.host}:{error.port}, and a URL of redis+cluster:// finds it there"
            not_now = found or isinstance(error, _NOT_NOW)
            return (Unavailable if not_now else Refused)(f"{self._name}: {text.partition(_IN_A_SCRIPT)[0]}")
        return Unavailable(f"{self._name}: {reason_of(error)}")


def boottime() -> float:
    """Seconds on a clock that goes on while the machine sleeps: what leases and outages are measured on."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
