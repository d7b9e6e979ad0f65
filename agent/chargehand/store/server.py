"""What can be learned of the server and of the way to it, for `chargehand doctor`. Nothing else needs these rights."""

from __future__ import annotations

import errno
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from redis.exceptions import AuthenticationError, MovedError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from chargehand.config.secrets import Exposed, SecretError
from chargehand.config.settings import RedisSettings
from chargehand.config.urls import SENTINEL_PORT, hosts_of
from chargehand.store.connection import Line, Refused, Unavailable
from chargehand.store.opening import FAILURES, NotFound, Opener, reason_of

__all__ = ["Fault", "Host", "SentinelSays", "Server", "examine_server", "fault_of", "hosts", "sentinels"]

#: Where a connection failed. `exposed`, `secret`: a file of ours; `acl`: our user's rights; `denied`: a socket's mode.
Fault = Literal[
    "acl",
    "closed",
    "database",
    "denied",
    "exposed",
    "loading",
    "login",
    "moved",
    "name",
    "not-found",
    "other",
    "refused",
    "replica",
    "secret",
    "silent",
    "tls",
]

_ROUNDS = 21  # an odd number has a median among them
_WANTED = ("appendfsync", "save", "min-replicas-to-write", "maxclients")


class Server(Struct):
    """One that answered."""

    info: dict[str, str]  # of INFO
    config: dict[str, str]  # of CONFIG GET, as far as it may be asked
    refused: list[str]  # commands that our user may not use
    round_trips_ms: list[float]
    skew_ms: int  # this machine's clock is ahead of its TIME by so much
    cluster: dict[str, str] = {}  # of CLUSTER INFO, where it is one


class Host(Struct):
    """One of several that a URL names."""

    address: str
    trouble: str  # empty: it answers


class SentinelSays(Struct):
    address: str
    trouble: str = ""  # why it says nothing
    master: str = ""  # the address that it tells
    sentinels: int = 0  # that it knows, itself included
    replicas: int = 0
    quorum: int = 0
    majority: str = ""  # why there would be no failover


def examine_server(line: Line) -> Server:
    """Raises `Unavailable`."""
    trips: list[float] = []
    skews: list[tuple[float, float]] = []
    for _ in range(_ROUNDS):
        began = time.monotonic()
        seconds, micros = line.call("TIME")
        took = (time.monotonic() - began) * 1000
        trips.append(round(took, 3))
        skews.append((took, time.time() * 1000 - took / 2 - int(seconds) * 1000 - int(micros) / 1000))
    refused: list[str] = []
    info = _lines(_asked(line, refused, "INFO"))
    config: dict[str, str] = {}
    for name in _WANTED:  # one at a time: several need Redis 7
        if "CONFIG GET" not in refused:
            found = _asked(line, refused, "CONFIG GET", name) or []
            config |= {found[at].decode(): found[at + 1].decode() for at in range(0, len(found), 2)}
    cluster = _lines(_asked(line, [], "CLUSTER INFO")) if info.get("cluster_enabled") == "1" else {}
    return Server(info, config, refused, trips, round(min(skews)[1]), cluster)


def _asked(line: Line, refused: list[str], command: str, *words: str) -> Any:
    try:
        return line.call(*command.split(), *words)
    except Refused:
        refused.append(command)
        return None


def _lines(text: bytes | None) -> dict[str, str]:
    pairs = (one.partition(":") for one in (text or b"").decode(errors="replace").splitlines() if ":" in one)
    return {name: value for name, _, value in pairs}


# -- the way there --------------------------------------------------------------------------------

_ERRNOS: dict[int, Fault] = {
    errno.ECONNREFUSED: "refused",
    errno.ENOENT: "refused",  # a socket that is not there
    errno.EACCES: "denied",
    errno.ETIMEDOUT: "silent",
    errno.EHOSTUNREACH: "silent",
    errno.ENETUNREACH: "silent",
    errno.ECONNRESET: "closed",
    errno.EPIPE: "closed",
}
_WORDS: tuple[tuple[str, Fault], ...] = (
    (r"NOAUTH|Authentication required|WRONGPASS|invalid username-password|Client sent AUTH", "login"),
    (r"NOPERM|no permissions|has no permissions", "acl"),
    (r"DB index|Invalid Database|SELECT is not allowed", "database"),
    (r"READONLY|read only replica", "replica"),
    (r"its slot is at|MOVED", "moved"),
    (r"[Ll]oading the dataset|LOADING", "loading"),
    (r"closed by server|Protocol error|Connection reset", "closed"),
    (r"no answer in time", "silent"),
)


def fault_of(error: BaseException) -> Fault:
    """Which part of the way to Redis failed, by what a `Dialer` or a `Line` raised."""
    for one in _chain(error):
        if isinstance(one, Exposed):
            return "exposed"
        if isinstance(one, SecretError):
            return "secret"
        if isinstance(one, ssl.SSLError):
            return "tls"
        if isinstance(one, AuthenticationError):
            return "login"
        if isinstance(one, MovedError):
            return "moved"
        if isinstance(one, ReadOnlyError):
            return "replica"
        if isinstance(one, socket.gaierror):
            return "name"
        if isinstance(one, NotFound):
            return "not-found"
        if isinstance(one, RedisTimeout | TimeoutError):
            return "silent"
        if isinstance(one, OSError) and one.errno in _ERRNOS:
            return _ERRNOS[one.errno]
    text = " ".join(str(one) for one in _chain(error))
    return next((fault for words, fault in _WORDS if re.search(words, text)), "other")


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def hosts(settings: RedisSettings) -> list[Host]:
    """Of a cluster: each node that the URL names, and whether it answers. None of other URLs."""
    if "+cluster://" not in (settings.url or ""):
        return []
    opener = Opener(settings)
    found = []
    for address in hosts_of(settings.url or "", 6379):
        name = f"{address[0]}:{address[1]}"
        try:
            Line(opener.server(address), float(settings.timeout), name).close()
        except FAILURES as error:
            found.append(Host(name, reason_of(error)))
        else:
            found.append(Host(name, ""))
    return found


def sentinels(settings: RedisSettings) -> list[SentinelSays]:
    """Each sentinel that the URL names, and what it says of the master. None of other URLs."""
    url = settings.url or ""
    if "+sentinel://" not in url:
        return []
    opener = Opener(settings)
    master = unquote(next(piece for piece in urlsplit(url).path.split("/") if piece))
    found = []
    for address in hosts_of(url, SENTINEL_PORT):
        name = f"{address[0]}:{address[1]}"
        try:
            line = Line(opener.sentinel(address), float(settings.timeout), name)
        except FAILURES as error:
            found.append(SentinelSays(name, trouble=reason_of(error)))
            continue
        try:
            found.append(_asked_sentinel(line, name, master))
        except (Refused, Unavailable, RedisError) as error:
            found.append(SentinelSays(name, trouble=str(error).removeprefix(f"{name}: ")))
        finally:
            line.close()
    return found


def _asked_sentinel(line: Line, name: str, master: str) -> SentinelSays:
    told = line.call("SENTINEL", "MASTER", master)
    facts = {told[at].decode(): told[at + 1].decode() for at in range(0, len(told), 2)}
    majority = ""
    try:
        line.call("SENTINEL", "CKQUORUM", master)
    except (Refused, Unavailable) as error:
        majority = str(error).removeprefix(f"{name}: ")
    return SentinelSays(
        name,
        master=f"{facts.get('ip', '')}:{facts.get('port', '')}",
        sentinels=int(facts.get("num-other-sentinels", "0")) + 1,
        replicas=int(facts.get("num-slaves", "0")),
        quorum=int(facts.get("quorum", "0")),
        majority=majority,
    )
