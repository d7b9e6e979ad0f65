"""Connections to Redis: one `Line` each, on redis-py's connection, with everything batched by its caller.

A `Line` is not a client with a pool and retries. Its users decide what an unanswered request means, so
every failure of the connection, and every answer that means "not now", is one exception: `Unavailable`.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    parse_url,
)
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
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from chargehand.config.settings import RedisSettings
from chargehand.store.scripts import SCRIPTS

__all__ = ["Command", "Dialer", "Full", "Line", "Refused", "Unavailable"]

Command = tuple[Any, ...]

#: Answers of a server that is there but cannot serve: a fail-over, a start, a broken cluster. Not our mistake.
_NOT_NOW = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError, AskError, MovedError)
_NOT_NOW_WORDS = re.compile(r"(?:^|[\s-])(TRYAGAIN|CLUSTERDOWN|READONLY|LOADING|MASTERDOWN|BUSY|UNBLOCKED)\b")


class Unavailable(Exception):
    """Redis cannot be reached or cannot serve now. The message is for a status line."""


class Full(Exception):
    """Redis has no memory left for new data."""


class Refused(Exception):
    """Redis understood the request and said no: wrong password, missing right, unknown command."""


class Dialer:
    """Knows where Redis is and how to log in; makes lines."""

    def __init__(self, settings: RedisSettings) -> None:
        if settings.url is None:
            raise ValueError("redis.url is not set")
        self._settings = settings
        self._url = settings.url
        parts = urlsplit(self._url)
        self._sentinels: list[tuple[str, int]] = []
        if parts.scheme == "redis+sentinel":
            hosts = parts.netloc.rpartition("@")[2].split(",")
            for host in hosts:
                name, _, port = host.partition(":")
                self._sentinels.append((name, int(port or 26379)))
            path = [unquote(piece) for piece in parts.path.split("/") if piece]
            self._master = path[0] if path else "mymaster"
            self._db = int(path[1]) if len(path) > 1 else 0
            self.name = f"{self._master} by sentinel {hosts[0]}"
        elif parts.scheme == "unix":
            self.name = unquote(parts.path)
        else:
            self.name = f"{parts.hostname}:{parts.port or 6379}"

    def line(self) -> Line:
        """Connect. Raises `Unavailable`."""
        try:
            connection = self._connection()
            connection.connect()
            line = Line(connection, float(self._settings.timeout), self.name)
        except (RedisError, OSError, ValueError) as error:
            raise Unavailable(f"{self.name}: {_reason(error)}") from error
        line.batch([("SCRIPT", "LOAD", script.text) for script in SCRIPTS])
        return line

    def _connection(self) -> AbstractConnection:
        settings = self._settings
        options: dict[str, Any] = {
            "socket_timeout": float(settings.timeout),
            "socket_connect_timeout": float(settings.timeout),
            "username": settings.username,
            "password": _secret(settings.password_file),
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),  # what an unanswered request means is for the caller to decide
        }
        kind: Any = Connection
        if self._sentinels:
            sentinel = Sentinel(
                self._sentinels,
                sentinel_kwargs={
                    "username": settings.sentinel_username,
                    "password": _secret(settings.sentinel_password_file),
                    "socket_timeout": float(settings.timeout),
                    "socket_connect_timeout": float(settings.timeout),
                },
            )
            host, port = sentinel.discover_master(self._master)
            options |= {"host": host, "port": port, "db": self._db}
        else:
            where: dict[str, Any] = dict(parse_url(self._url))
            kind = where.pop("connection_class", Connection)
            where.pop("username", None) if settings.username else None
            options |= {key: value for key, value in where.items() if value is not None}
        if self._url.startswith("rediss:"):
            kind = SSLConnection
            options |= {
                "ssl_ca_certs": settings.ca_file,
                "ssl_certfile": settings.cert_file,
                "ssl_keyfile": settings.key_file,
            }
        if issubclass(kind, Connection):
            options["socket_keepalive"] = True
        connection: AbstractConnection = kind(**options)
        return connection


class Line:
    """One connection. Not for two threads at once."""

    def __init__(self, connection: AbstractConnection, timeout: float, name: str) -> None:
        self._connection = connection
        self._timeout = timeout
        self._name = name

    def fileno(self) -> int:
        """The socket, to wait on. After `fileno` says readable, and only then, `read` does not wait."""
        sock: socket.socket | None = self._connection._get_socket()
        if sock is None:
            raise Unavailable(f"{self._name}: connection closed")
        return sock.fileno()

    def send(self, *commands: Command) -> None:
        """Send without waiting. Each command must be read with `read`, in this order."""
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
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

    def close(self) -> None:
        self._connection.disconnect()

    def _translate(self, error: Exception) -> Exception:
        text = str(error)
        if isinstance(error, OutOfMemoryError) or "OOM " in text:
            return Full(f"{self._name}: out of memory (maxmemory reached)")
        if isinstance(error, ResponseError):
            # redis-py knows some answers by class, others by their first word, and those in a script by neither.
            not_now = isinstance(error, _NOT_NOW) or _NOT_NOW_WORDS.search(text)
            return (Unavailable if not_now else Refused)(f"{self._name}: {text}")
        return Unavailable(f"{self._name}: {_reason(error)}")


def boottime() -> float:
    """Seconds on a clock that goes on while the machine sleeps: what leases and outages are measured on."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _secret(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise _NoSecret(f"cannot read {path}: {os.strerror(error.errno or 0)}") from error


class _NoSecret(RedisError):
    """The message says it all."""


def _reason(error: Exception) -> str:
    """What a person needs of an error that a connection met."""
    if isinstance(error, redis.exceptions.AuthenticationError):
        return f"login refused ({error})"
    if isinstance(error, MasterNotFoundError):
        return "no sentinel knows a master"
    if isinstance(error, redis.exceptions.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, _NoSecret):
        return str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):  # an OSError whose number means something else
            return f"TLS: {getattr(cause, 'verify_message', '') or cause.reason or cause}"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno) if not isinstance(cause, socket.gaierror) else str(cause.args[-1])
        cause = cause.__cause__ or cause.__context__
    return str(error).rstrip(".") or type(error).__name__
