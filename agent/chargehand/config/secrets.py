"""Files beside the configuration that may hold a secret: where they are, and that nobody else can read them.

A path may begin with `$CREDENTIALS_DIRECTORY/`, as systemd calls the place of what `LoadCredential=` brings. It is
looked up when the file is needed, so one configuration serves the unit and the command line.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

__all__ = ["CREDENTIALS", "Exposed", "SecretError", "credentials_of", "is_credential", "read_secret", "usable"]

CREDENTIALS = "CREDENTIALS_DIRECTORY"

_CREDENTIAL = re.compile(r"\$(?:CREDENTIALS_DIRECTORY|\{CREDENTIALS_DIRECTORY\})(?=/)")


class SecretError(Exception):
    """The file cannot be used. The message names it and says why."""


class Exposed(SecretError):
    """Others can read it: it may be no secret any more."""


def credentials_of(instance: str) -> str:
    """Where systemd keeps what it loaded for the unit of this instance ("": the first), for who may look there."""
    return f"/run/credentials/chargehand{f'@{instance}' if instance else ''}.service"


def is_credential(path: str) -> bool:
    return _CREDENTIAL.match(path) is not None


def usable(path: str, *, secret: bool) -> str:
    """Where the file is that this process can read. Raises `SecretError`; `secret`: `Exposed` where others can too."""
    place = _located(path)
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SecretError(f"cannot read {place}: {os.strerror(error.errno or 0)}") from error
    try:
        mode = os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)
    if secret and mode & (stat.S_IROTH | stat.S_IWOTH):
        raise Exposed(f"{place} is open to others (mode {stat.S_IMODE(mode):04o}): chmod o= {place}")
    return place


def read_secret(path: str) -> str:
    """The text of a file, without the white space around it. Raises `SecretError`."""
    place = usable(path, secret=True)
    try:
        return Path(place).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretError(f"cannot read {place}: {os.strerror(error.errno or 0)}") from error
    except UnicodeDecodeError as error:
        raise SecretError(f"{place} is not text") from error


def _located(path: str) -> str:
    if not is_credential(path):
        return path
    directory = os.environ.get(CREDENTIALS)
    if not directory:
        name = path.partition("/")[2]
        raise SecretError(f"{path} is not there: the unit has no LoadCredential={name}:FILE")
    return _CREDENTIAL.sub(lambda _: directory, path, count=1)
