"""The tokens file: who may read and who may act, and no token itself.

A line a token: `NAME RIGHTS sha256$SALT$DIGEST`, RIGHTS `read` or `act`. The digest is of the salt and the token; a
token has 256 random bits, so it needs no slow one. Empty lines and those that begin with `#` count for nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
from pathlib import Path
from typing import NamedTuple

from chargehand.config.secrets import SecretError, read_secret, usable

__all__ = ["Keyring", "Token", "new_token", "parse_tokens", "session_secret"]

_LINE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,62})\s+(?P<rights>read|act)\s+sha256\$(\w+)\$([0-9a-f]{64})")

log = logging.getLogger("chargehand.console")


class Token(NamedTuple):
    """One line of the file."""

    name: str
    acts: bool
    salt: str
    digest: str

    @property
    def line(self) -> str:
        return f"{self.name} {'act' if self.acts else 'read'} sha256${self.salt}${self.digest}"


def new_token(name: str, *, acts: bool) -> tuple[str, Token]:
    """A token, and what of it is kept."""
    text, salt = secrets.token_urlsafe(32), secrets.token_hex(8)
    return text, Token(name, acts, salt, _digest(salt, text))


def parse_tokens(text: str) -> tuple[list[Token], list[str]]:
    """The tokens of a file, and what is wrong with it, a line each."""
    tokens: dict[str, Token] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:  # the line is not repeated: it may be a token
            problems.append(f"line {number} is not NAME read|act sha256$SALT$DIGEST (chargehand console token)")
        elif found["name"] in tokens:
            problems.append(f"line {number}: {found['name']!r} is there already: the first counts")
        else:
            tokens[found["name"]] = Token(found["name"], found["rights"] == "act", found[3], found[4])
    return list(tokens.values()), problems


class Keyring:
    """The tokens of a file, which is read again when it changes. For any thread: it is replaced as a whole."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._seen: object = None
        self._tokens: list[Token] = []

    def find(self, text: str) -> Token | None:
        """The token that this text is; None: it is none."""
        found = None
        for one in self._read():  # all of them, so that the time tells nothing of which
            if hmac.compare_digest(_digest(one.salt, text), one.digest):
                found = one
        return found

    def named(self, name: str) -> Token | None:
        return next((one for one in self._read() if one.name == name), None)

    def _read(self) -> list[Token]:
        if self._path is None:
            return []
        try:
            status = Path(usable(self._path, secret=True)).stat()
            seen: object = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._tokens, problems = parse_tokens(read_secret(self._path))
                for problem in problems:
                    log.warning("%s: %s", self._path, problem)
        except SecretError as error:
            seen = str(error)
            if seen != self._seen:
                log.error("no token counts: %s", error)
            self._tokens = []
        self._seen = seen
        return self._tokens


def session_secret(directory: Path) -> bytes:
    """What sessions are signed with, kept over restarts; a new one where it cannot be kept."""
    path = directory / "console.secret"
    made = secrets.token_bytes(32)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(made)
    except FileExistsError:
        pass
    except OSError as error:
        log.warning("browsers must log in again after a restart: %s: %s", path, os.strerror(error.errno or 0))
        return made
    try:
        kept = path.read_bytes()
    except OSError as error:
        log.warning("browsers must log in again after a restart: %s: %s", path, os.strerror(error.errno or 0))
        return made
    if len(kept) == 32:
        return kept
    path.unlink(missing_ok=True)  # half of one: the disk was full
    return session_secret(directory)


def _digest(salt: str, text: str) -> str:
    return hashlib.sha256(f"{salt}{text}".encode()).hexdigest()
