"""What the agent remembers over its own death: who its children were, and which death notices nobody took yet.

In the state directory, with a lock that one agent at a time holds.
"""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from chargehand.linux.tree import birth

__all__ = ["Memory", "Notice", "Remembered", "StateDirTaken"]

log = logging.getLogger("chargehand.agent")


class StateDirTaken(Exception):
    """Another agent uses this state directory. The message names it."""


class Notice(Struct, frozen=True):
    incarnation: str
    role: str
    node: str


class Remembered(Struct, frozen=True):
    """A child as it was started."""

    notice: Notice
    pid: int
    birth: str  # to tell it from a later process of the same pid
    reported: bool = True  # False: nobody needs to hear of its death (the embedded server)

    def lives(self) -> bool:
        return bool(self.birth) and birth(self.pid) == self.birth


class _Contents(Struct):
    children: dict[str, Remembered] = {}
    notices: list[Notice] = []


class Memory:
    def __init__(self, state_dir: str) -> None:
        directory = Path(state_dir)
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._path = directory / "children.json"
        self._lock = os.open(directory / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(self._lock, 32).decode().strip() or "unknown"
            raise StateDirTaken(
                f"another agent (PID {other}) uses the state directory {state_dir}: stop it, "
                "or give this one its own agent.state_dir"
            ) from None
        with suppress(OSError):  # a full disk: only the PID in the message above is lost
            os.ftruncate(self._lock, 0)
            os.write(self._lock, f"{os.getpid()}\n".encode())
        self._contents = self._read()
        #: Children of the agent before us that are not surely gone, by name.
        self.previous = self._contents.children
        self._contents.children = {}

    def _read(self) -> _Contents:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Contents)
        except FileNotFoundError:
            return _Contents()
        except (msgspec.MsgspecError, OSError) as error:
            log.warning("memory_unreadable path=%s reason=%s", self._path, error)
            return _Contents()  # what the dead left unreadable, silence tells the executor in 8 s

    @property
    def notices(self) -> list[Notice]:
        return self._contents.notices

    def born(self, child: str, notice: Notice, pid: int, *, reported: bool) -> None:
        self._contents.children[child] = Remembered(notice, pid, birth(pid), reported)
        self.save()

    def died(self, child: str) -> None:
        """Turn a child into a death notice."""
        self._bury(self._contents.children.pop(child, None))

    def buried(self, child: str) -> None:
        """A child of the agent before us is surely gone."""
        self._bury(self.previous.pop(child, None))

    def _bury(self, remembered: Remembered | None) -> None:
        if remembered is not None:
            if remembered.reported:
                self._contents.notices.append(remembered.notice)
            self.save()

    def delivered(self, notice: Notice) -> None:
        if notice in self._contents.notices:
            self._contents.notices.remove(notice)
            self.save()

    def save(self) -> None:
        """Replace the file. Raises nothing: a full disk costs the notices of the next crash, not this agent.

        Why it could not be written stands in `trouble` until it can.
        """
        fresh = self._path.with_suffix(".new")
        # A child is not started before its predecessor is gone, so no name is in both.
        contents = _Contents(self.previous | self._contents.children, self._contents.notices)
        try:
            fresh.write_bytes(msgspec.json.encode(contents))
            fresh.replace(self._path)
        except OSError as error:
            trouble = f"cannot write {self._path}: {os.strerror(error.errno or 0)}"
            if trouble != self.trouble:
                log.error("memory_unwritable path=%s reason=%s", self._path, os.strerror(error.errno or 0))
            self.trouble = trouble
        else:
            self.trouble = ""

    trouble = ""
