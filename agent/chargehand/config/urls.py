"""What a Redis URL may say. Pure. No message repeats what could be a password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["SCHEMES", "SENTINEL_PORT", "UrlFault", "hosts_of", "url_faults"]

#: `rediss` is `redis` with TLS; what follows the plus sign is asked where the server is.
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
SENTINEL_PORT = 26379

_LOOKS = {
    "redis": "redis://HOST:PORT/DB",
    "rediss": "rediss://HOST:PORT/DB",
    "unix": "unix:///PATH/OF/SOCKET",
    "redis+sentinel": "redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB",
    "rediss+sentinel": "rediss+sentinel://HOST:PORT,HOST:PORT/MASTER/DB",
    "redis+cluster": "redis+cluster://HOST:PORT,HOST:PORT",
    "rediss+cluster": "rediss+cluster://HOST:PORT,HOST:PORT",
}
_HOST = re.compile(r"[A-Za-z0-9._-]+")


class UrlFault(NamedTuple):
    found: str
    expected: str
    advice: str = ""


def hosts_of(url: str, port: int) -> list[tuple[str, int]]:
    """The hosts of a URL that lists some; `port` where none is given."""
    pieces = [one.partition(":") for one in urlsplit(url).netloc.split(",")]
    return [(host, int(number or port)) for host, _, number in pieces]


def url_faults(url: str, *, username: bool, called: str) -> Iterator[UrlFault]:
    """Why this URL is refused. `username`: there is a user name beside it, in the key that is `called` so."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        expected = "one of " + ", ".join(f"{one}://" for one in SCHEMES)
        plain = re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) and separator
        yield UrlFault(f'scheme "{scheme}"' if plain else "no scheme", expected)
        return
    login, at, _ = rest.rpartition("@")
    name, colon, password = login.partition(":")
    hidden = "a URL is shown in logs and status lines"
    if (at and colon) or "@" in password:
        yield UrlFault("a password in the URL", "password_file = PATH", hidden)
        return
    if at and ("+" in scheme or username):
        found = "a user name in the URL" + (f" and in {called}" if username else "")
        yield UrlFault(found, f"it in {called} alone")
        return
    if at and ("/" in name or "?" in name or "#" in name):
        yield UrlFault('an "@" where none belongs', _LOOKS[scheme])
        return
    try:
        parts = urlsplit(url)
        port = parts.port if scheme in {"redis", "rediss"} else None
    except ValueError:
        yield UrlFault("a host or port that cannot be read", _LOOKS[scheme], "the port is a number up to 65535")
        return
    if parts.fragment:
        yield UrlFault('a "#" in the URL', _LOOKS[scheme])
    for option, _ in parse_qsl(parts.query, keep_blank_values=True):
        if option == "password":
            yield UrlFault("a password in the URL", "password_file = PATH", hidden)
        elif option != "db" or "+" in scheme:
            yield UrlFault(f'"?{option}=" in the URL', "no options in it", "what can be set has a key of its own")
    yield from _place(scheme, parts.netloc.rpartition("@")[2], parts.path, parts.hostname, port)


def _place(scheme: str, address: str, path: str, host: str | None, port: int | None) -> Iterator[UrlFault]:
    looks = _LOOKS[scheme]
    pieces = [unquote(piece) for piece in path.split("/") if piece]
    if scheme == "unix":
        if address or not pieces:
            yield UrlFault(f'"{address}" where the path begins' if address else "no path", looks, "three slashes")
        return
    if "+" in scheme:
        what = "sentinel" if scheme.endswith("sentinel") else "node"
        for one in address.split(","):
            name, _, number = one.partition(":")
            if not _HOST.fullmatch(name) or not ((number.isascii() and number.isdecimal()) or one == name):
                found = f'"{one}" as a {what}' if one else f"no {what}"
                yield UrlFault(found, "HOST:PORT of each, with commas", "an IPv6 address needs a name here")
        if what == "node" and pieces:
            yield UrlFault(f'"{path}" after the nodes', looks, "a cluster has one database")
            return
        pieces = pieces[1:]
    elif not host:
        yield UrlFault("no host", looks)
    elif port == 0:
        yield UrlFault("port 0", looks)
    if len(pieces) > 1 or (pieces and not (pieces[0].isascii() and pieces[0].isdecimal())):
        yield UrlFault(f'"{path}" after the host', looks, "a database is a number")
