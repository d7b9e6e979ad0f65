"""The Lua scripts, read once from their files, called by their SHA-1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

__all__ = ["SCRIPTS", "Script"]


class Script:
    """One script. The header of its file documents keys, arguments and replies."""

    def __init__(self, name: str) -> None:
        self.name = name
        source = resources.files("chargehand.store").joinpath("lua", f"{name}.lua")
        self.text = source.read_text(encoding="utf-8")
        # EVALSHA's own name for a script; it protects nothing.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], *arguments: Any) -> tuple[Any, ...]:
        """The command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


ACQUIRE = Script("acquire")
RENEW = Script("renew")
RELEASE = Script("release")
DIED = Script("died")
COMMIT = Script("commit")
SUBMIT = Script("submit")
BEAT = Script("beat")
TAKE = Script("take")
FINISH = Script("finish")
GIVE_BACK = Script("give_back")
REPORT = Script("report")
WITHDRAW = Script("withdraw")
LOAD = Script("load")
SELFTEST = Script("selftest")

SCRIPTS = (
    ACQUIRE,
    RENEW,
    RELEASE,
    DIED,
    COMMIT,
    SUBMIT,
    BEAT,
    TAKE,
    FINISH,
    GIVE_BACK,
    REPORT,
    WITHDRAW,
    LOAD,
    SELFTEST,
)
