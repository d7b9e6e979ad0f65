"""Opening one connection: login, TLS, time-outs. Where the server is, others find out (`connection.Dialer`)."""

from __future__ import annotations

import os
import socket
import ssl
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.exceptions import RedisError
from redis.retry import Retry

from chargehand.config.secrets import SecretError, read_secret, usable
from chargehand.config.settings import RedisSettings

__all__ = ["FAILURES", "Address", "NotFound", "Opener", "reason_of"]

#: (host, port)
Address = tuple[str, int]

#: What opening a connection and its first requests may end with.
FAILURES = (RedisError, OSError, ValueError, SecretError)


class NotFound(Exception):
    """There is no server where one was looked for. The message is for a status line."""


class _TlsConnection(SSLConnection):
    """Believes `ca_file` alone: redis-py's own believes the system's authorities too, and reads them each time."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.ca_certs)
        if self.certfile is not None:
            context.load_cert_chain(self.certfile, self.keyfile)
        if reset := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # `ssl` would forget to close it
            raise OSError(reset, os.strerror(reset))
        return context.wrap_socket(sock, server_hostname=self.host)


class Opener:
    """Every method connects and logs in; each raises one of `FAILURES`. Secrets are read anew each time."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._tls = (settings.url or "").startswith("rediss")
        self._kind = _TlsConnection if self._tls else Connection

    def named(self, url: str) -> AbstractConnection:
        """The server that a URL of one server names."""
        where: dict[str, Any] = dict(parse_url(url))
        kind = where.pop("connection_class", self._kind)
        if self._settings.username:
            where.pop("username", None)
        options = {**self._login(), **{key: value for key, value in where.items() if value is not None}}
        return self._open(self._kind if self._tls else kind, options)

    def server(self, address: Address, db: int = 0) -> AbstractConnection:
        return self._open(self._kind, {**self._at(address), **self._login(), "db": db})

    def sentinel(self, address: Address) -> AbstractConnection:
        settings = self._settings
        login = {"username": settings.sentinel_username, "password": _read(settings.sentinel_password_file)}
        return self._open(self._kind, {**self._at(address), **login})

    def _at(self, address: Address) -> dict[str, Any]:
        return {"host": address[0], "port": address[1]}

    def _login(self) -> dict[str, Any]:
        return {"username": self._settings.username, "password": _read(self._settings.password_file)}

    def _open(self, kind: Any, options: dict[str, Any]) -> AbstractConnection:
        settings = self._settings
        options |= {
            "socket_timeout": float(settings.timeout),
            "socket_connect_timeout": float(settings.timeout),
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),  # what an unanswered request means is for the caller to decide
        }
        if self._tls:
            options |= {
                "ssl_ca_certs": settings.ca_file and usable(settings.ca_file, secret=False),
                "ssl_certfile": settings.cert_file and usable(settings.cert_file, secret=False),
                "ssl_keyfile": settings.key_file and usable(settings.key_file, secret=True),
            }
        if issubclass(kind, Connection):
            options["socket_keepalive"] = True
        connection: AbstractConnection = kind(**options)
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return connection


def _read(path: str | None) -> str | None:
    return None if path is None else read_secret(path)


def reason_of(error: Exception) -> str:
    """What a person needs of an error that a connection met."""
    if isinstance(error, redis.exceptions.AuthenticationError):
        return f"login refused ({error})"
    if isinstance(error, redis.exceptions.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, SecretError | NotFound):
        return str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLEOFError):  # whether its reason is read before depends on who is quicker
            return "TLS: the server closed the connection: it may want a certificate (cert_file)"
        if isinstance(cause, ssl.SSLError):  # an OSError whose number means something else
            return f"TLS: {getattr(cause, 'verify_message', '') or cause.reason or cause}"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno) if not isinstance(cause, socket.gaierror) else str(cause.args[-1])
        cause = cause.__cause__ or cause.__context__
    return str(error).rstrip(".") or type(error).__name__
