"""Who asks, and what they may: decided here for every request, before anything else hears of it.

Reading and acting are separate rights. Who may do which follows from how a request came:

- with a token (`Authorization: Bearer`, or once at /login for a browser): as the tokens file says
- from a proxy that the configuration names, with the header in which it says who asks: `actors` act, others read
- over a unix socket: whoever may open it acts, under their own name
- over loopback without a token: whoever is on this machine reads
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import pwd
from collections.abc import Mapping, Sequence
from enum import Enum
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import parse_qs

from starlette.requests import Request

from chargehand.client import Client
from chargehand.config.console import Proxy, proxy_of
from chargehand.config.settings import ConsoleSettings
from chargehand.console.desk import Desk
from chargehand.console.tokens import Keyring, Token

__all__ = ["COOKIE", "Access", "Came", "Right", "Via", "Who", "audit", "by", "form", "right_of"]

COOKIE = "chargehand_session"

log = logging.getLogger("chargehand.audit")


class Right(Enum):
    """What a request needs."""

    OPEN = "open"  # nothing: the way to log in, and what the pages look like
    READ = "read"
    ACT = "act"


#: What needs no right, by the beginning of its path. All else reads with GET and HEAD, and acts with any other method.
_OPEN = ("/login", "/logout", "/static/")


def right_of(method: str, path: str) -> Right:
    if any(path == one or (one.endswith("/") and path.startswith(one)) for one in _OPEN):
        return Right.OPEN
    return Right.READ if method in {"GET", "HEAD"} else Right.ACT


class Via(Enum):
    """How somebody is known."""

    TOKEN = "token"  # noqa: S105 - a word
    SESSION = "session"  # a browser that gave a token
    PROXY = "proxy"
    SOCKET = "socket"  # the unix socket: the kernel says whose process it is
    LOOPBACK = "loopback"


class Who(NamedTuple):
    """Somebody who is known, and what they may."""

    name: str
    acts: bool
    via: Via
    source: str  # from where, for the journal

    def may(self, right: Right) -> bool:
        return self.acts or right is not Right.ACT


class Came(NamedTuple):
    """How a request came, as the kernel and its headers tell."""

    host: str  # the other side's address; "unix": over a unix socket
    uid: int = -1  # of a process at a unix socket
    bearer: str | None = None
    session: str = ""  # what its cookie holds
    headers: Mapping[str, str] = {}  # by small letters

    @property
    def unix(self) -> bool:
        return self.host == "unix"

    @property
    def loopback(self) -> bool:
        return not self.unix and ip_address(self.host).is_loopback

    @property
    def source(self) -> str:
        return f"unix:{user_of(self.uid)}" if self.unix else self.host


class Access:
    """The rules of one configuration. For any thread."""

    def __init__(self, console: ConsoleSettings, keyring: Keyring, secret: bytes) -> None:
        """`secret`: what sessions are signed with; who knows it can log in as anybody."""
        self.keyring = keyring
        self.session_seconds = float(console.session)
        self.failures = Failures()
        self._secret = secret
        self._proxies = [proxy_of(one) for one in console.proxies]
        self._header = (console.user_header or "").lower()
        self._actors = set(console.actors)

    def who(self, came: Came, now: float) -> Who | None:
        """Who asks; None: nobody that is known. `now`: Unix time."""
        if came.bearer is not None:
            token = self.keyring.find(came.bearer)
            return None if token is None else Who(token.name, token.acts, Via.TOKEN, came.source)
        if came.session and (token := self._of_session(came.session, now)) is not None:
            return Who(token.name, token.acts, Via.SESSION, came.source)
        if self.from_proxy(came):
            name = came.headers.get(self._header, "").strip()
            told = came.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
            source = f"{came.source} for {told}" if told else came.source
            return Who(name, name in self._actors, Via.PROXY, source) if name else None
        if came.unix:
            return Who(user_of(came.uid), True, Via.SOCKET, came.source)
        if came.loopback:
            return Who("local", False, Via.LOOPBACK, came.source)
        return None

    def from_proxy(self, came: Came) -> bool:
        return any(_is(proxy, came) for proxy in self._proxies)

    # -- browsers ---------------------------------------------------------------------------------

    def session(self, token: Token, now: float) -> str:
        """What the cookie of a browser that gave a token holds: good until the token goes or the time is over."""
        until = f"{now + self.session_seconds:.0f}"
        return f"{until}.{self._signed('session', until, token.name, token.line)}.{token.name}"

    def _of_session(self, text: str, now: float) -> Token | None:
        until, _, rest = text.partition(".")
        signature, _, name = rest.partition(".")
        token = self.keyring.named(name)
        if token is None or not until.isdecimal() or int(until) < now:
            return None
        expected = self._signed("session", until, name, token.line)
        return token if hmac.compare_digest(signature.encode(), expected.encode()) else None

    def csrf(self, came: Came, who: Who | None) -> str:
        """What stands in the forms of somebody's pages, and nobody else can know."""
        return self._signed("csrf", came.session, "" if who is None else f"{who.via.value} {who.name}")

    def _signed(self, *parts: str) -> str:
        return hmac.new(self._secret, "\0".join(parts).encode(), hashlib.sha256).hexdigest()


def _is(proxy: Proxy, came: Came) -> bool:
    if proxy.network is None:
        return came.unix and user_of(came.uid) == proxy.user
    return not came.unix and ip_address(came.host) in proxy.network


def user_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


# -- what a browser is led to send ----------------------------------------------------------------


def from_elsewhere(headers: Mapping[str, str]) -> bool:
    """True when another site's page had a browser send this. Programs say nothing of the kind."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host", "")


def is_local_name(host: str) -> bool:
    """True when a Host header names this machine to itself: a page that had its own name point here does not."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() in {"localhost", ""}:
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


# -- for the pages and the API --------------------------------------------------------------------


async def form(request: Request) -> dict[str, list[str]]:
    """The fields of a form that was posted."""
    return parse_qs((await request.body()).decode(errors="replace"), keep_blank_values=True)


def audit(request: Request, what: str, target: str, outcome: str) -> None:
    """A line in the journal: who did what, from where, to what, and what came of it."""
    who: Who | None = getattr(request.state, "who", None)
    known = f"{who.name!r} ({who.via.value}, {who.source})" if who is not None else "nobody known"
    log.info("%s by %s: %s%s", what, known, f"{one_line(target)}: " if target else "", one_line(outcome))


def by(request: Request, client: Client) -> Client:
    """The client, speaking for who asks."""
    who: Who | None = getattr(request.state, "who", None)
    desk: Desk = request.app.state.desk
    client.speak_for(desk.spoken(who.name if who is not None else ""))
    return client


def one_line(text: str) -> str:
    """One line, whatever the text holds: what a client sends makes no entries of its own."""
    return "".join(one if one.isprintable() else " " for one in text)[:300]


class Failures:
    """How often somebody was wrong lately. A token has 256 bits: what this keeps small is the noise, not the chance."""

    def __init__(self, most: int = 10, seconds: float = 60.0) -> None:
        self._most = most
        self._seconds = seconds
        self._times: dict[str, Sequence[float]] = {}

    def failed(self, source: str, now: float) -> bool:
        """Note one. True: too many by now, and this one is not worth a line."""
        times = [*self._recent(source, now), now][-self._most - 1 :]
        self._times.pop(source, None)
        self._times[source] = times
        if len(self._times) > 1_000:  # sources; the one that was silent for longest goes
            del self._times[next(iter(self._times))]
        return len(times) > self._most

    def too_many(self, source: str, now: float) -> bool:
        return len(self._recent(source, now)) >= self._most

    def _recent(self, source: str, now: float) -> list[float]:
        return [one for one in self._times.get(source, ()) if now - one < self._seconds]
