"""Where the console listens and whom it believes; what of it cannot be safe is refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, TypeAlias

from chargehand.config.children import given_faults, memory_faults
from chargehand.config.problems import Problem, absolute, problem
from chargehand.config.quantities import format_duration
from chargehand.config.secrets import is_credential
from chargehand.config.settings import ConsoleSettings

__all__ = ["Place", "Proxy", "console_faults", "place_of", "proxy_of"]

Address: TypeAlias = IPv4Address | IPv6Address

_PATH = re.compile(r"unix:(/[^\0]+)")
_PORT = re.compile(r"(?:(?P<four>[A-Za-z0-9.]+)|\[(?P<six>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{1,5})")
_USER = re.compile(r"unix:([A-Za-z_][A-Za-z0-9._-]{0,31})")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
_LONGEST = 107  # bytes of a unix socket's path, by the kernel's own limit


class Place(NamedTuple):
    """One that is listened on: an address and its port, or the path of a unix socket."""

    address: Address | None
    port: int
    path: str

    @property
    def local(self) -> bool:
        """Only processes of this machine reach it."""
        return self.address is None or self.address.is_loopback

    def __str__(self) -> str:
        if self.address is None:
            return f"unix:{self.path}"
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


class Proxy(NamedTuple):
    """One that is believed when it says who asks: by its address, or by its user on this machine."""

    network: IPv4Network | IPv6Network | None
    user: str


def place_of(text: str) -> Place:
    """Of one line of `listen`. Raises `ValueError`: it is none."""
    if path := _PATH.fullmatch(text):
        return Place(None, 0, path[1])
    found = _PORT.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65_535:
        raise ValueError(text)
    host = found["six"] or found["four"]
    return Place(ip_address("127.0.0.1" if host == "localhost" else host), int(found["port"]), "")


def proxy_of(text: str) -> Proxy:
    """Of one entry of `proxies`. Raises `ValueError`: it is none."""
    if user := _USER.fullmatch(text):
        return Proxy(None, user[1])
    return Proxy(ip_network(text), "")


def console_faults(console: ConsoleSettings) -> Iterator[Problem]:
    yield from _listen(console)
    yield from _proxies(console)
    if console.tokens_file is not None and not is_credential(console.tokens_file):
        yield from absolute("console", "tokens_file", value=console.tokens_file)
    if not 60 <= console.session <= 30 * 86_400:
        found = format_duration(console.session)
        yield problem("console", "session", found=found, expected="from 1m to 30d", advice="then one logs in again")
    yield from memory_faults("console", value=console.memory_max)
    yield from given_faults("console", env=console.env)


def _listen(console: ConsoleSettings) -> Iterator[Problem]:
    if not console.listen:
        yield problem("console", "listen", found="none", expected='at least one, like "127.0.0.1:8460"')
    for text in console.listen:
        try:
            place = place_of(text)
        except ValueError:
            expected = 'an address and port, "127.0.0.1:8460" or "[::1]:8460", or "unix:/run/chargehand/console.sock"'
            yield problem("console", "listen", found=f'"{text}"', expected=expected)
            continue
        if len(place.path.encode()) > _LONGEST:
            found = f"a path of {len(place.path.encode())} bytes"
            yield problem("console", "listen", found=found, expected=f"at most {_LONGEST}: a shorter directory")
        if not place.local and console.tokens_file is None and not console.proxies:
            yield problem(
                "console",
                "listen",
                found=f'"{text}", which other machines reach, and nothing that tells who asks',
                expected="tokens_file, or proxies with user_header",
                advice="chargehand console token NAME --rights act makes a token and its file",
            )
    for text in sorted({one for one in console.listen if console.listen.count(one) > 1}):
        yield problem("console", "listen", found=f'"{text}" twice', expected="each once")


def _proxies(console: ConsoleSettings) -> Iterator[Problem]:
    unix = any(text.startswith("unix:") for text in console.listen)
    for text in console.proxies:
        expected = 'an address, a network ("10.0.0.0/24"), or "unix:USER" for a proxy on this node'
        try:
            proxy = proxy_of(text)
        except ValueError:
            yield problem("console", "proxies", found=f'"{text}"', expected=expected)
            continue
        if proxy.network is not None and _holds_loopback(proxy.network):
            yield problem(
                "console",
                "proxies",
                found=f'"{text}", from where every user of this node can come',
                expected='"unix:USER", with a unix: socket in listen that the proxy connects to',
                advice="anybody who can pose as the proxy can pose as any user",
            )
        if proxy.network is None and not unix:
            expected = 'a unix: socket in listen, like "unix:/run/chargehand/console.sock"'
            yield problem("console", "proxies", found=f'"{text}", and no unix socket', expected=expected)
    if console.proxies and console.user_header is None:
        expected = 'user_header, like "X-Remote-User": where it says who asks'
        yield problem("console", "proxies", found="set, with no user_header", expected=expected)
    # What would have no effect is refused: whoever wrote it counts on it.
    for key in ("user_header", "actors"):
        if getattr(console, key) and not console.proxies:
            yield problem("console", key, found="set, with no proxies", expected="it with proxies only")
    if console.user_header is not None and not _HEADER.fullmatch(console.user_header):
        found = f'"{console.user_header}"'
        yield problem("console", "user_header", found=found, expected='the name of a header, like "X-Remote-User"')


def _holds_loopback(network: IPv4Network | IPv6Network) -> bool:
    loopback = ip_network("127.0.0.0/8" if network.version == 4 else "::1/128")
    return network.overlaps(loopback)
