"""A console as a real process, and requests to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from chargehand.console.tokens import new_token
from support.programs import StartProgram
from support.server import free_port

__all__ = ["Console", "tokens"]


def tokens(file: Path) -> dict[str, str]:
    """A tokens file with one token of each right; right -> token."""
    made = {"reader": new_token("reader", acts=False), "actor": new_token("actor", acts=True)}
    file.write_text("".join(f"{token.line}\n" for _, token in made.values()))
    file.chmod(0o600)
    return {token.name: text for text, token in made.values()}


class Console:
    """It listens on loopback and on a unix socket, and knows a token that reads and one that acts."""

    def __init__(self, place: Path, start: StartProgram, *, extra: str = "", url: str = "") -> None:
        self.place = place
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket = place / "c.sock"
        self.tokens_file = place / "tokens"
        self.tokens = tokens(self.tokens_file)
        mine = f"""
[console]
listen = ["127.0.0.1:{self.port}", "unix:{self.socket}"]
tokens_file = "{self.tokens_file}"
"""
        (place / "node-c.state").mkdir(exist_ok=True)
        self.program = start("console", node="node-c", extra=mine + extra, url=url).ready()

    def auth(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[name]}"}

    @contextmanager
    def http(self, name: str = "", *, unix: bool = False) -> Iterator[httpx.Client]:
        """Requests, with a token ("reader", "actor") or without; `unix`: over the socket."""
        transport = httpx.HTTPTransport(uds=str(self.socket)) if unix else None
        headers = self.auth(name) if name else {}
        with httpx.Client(base_url=self.url, transport=transport, headers=headers, timeout=60, trust_env=False) as made:
            yield made

    @property
    def log(self) -> str:
        return self.program.log.read_text()
