"""What the agent remembers over its own death: who its children were, and which death notices nobody took yet.

In the state directory, with a lock that one agent at a time holds. Each child has a file there that says who it
is, with a lock that the child inherits: as long as anything of the child lives and keeps its descriptors, the
lock is held, and a later agent knows it without asking anybody.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from chargehand.decoding import decode
from chargehand.linux.tree import birth, holders
from chargehand.supervisor.events import Events

__all__ = ["Memory", "Notice", "Remembered", "StateDirTaken"]


class StateDirTaken(Exception):
    """Another agent uses this state directory. The message names it."""


class Notice(Struct, frozen=True):
    incarnation: str
    role: str
    node: str


class Remembered(Struct, frozen=True):
    """A child as it was started."""

    name: str
    notice: Notice
    reported: bool = True  # False: nobody needs to hear of its death (a program, the embedded server)
    pid: int = 0  # 0: it was about to be started
    birth: str = ""  # to tell it from a later process of the same pid


class Memory:
    def __init__(self, state_dir: str, events: Events) -> None:
        """Raises `StateDirTaken`, `OSError`."""
        self._events = events
        directory = Path(state_dir)
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        directory = directory.resolve()  # as the kernel names the files in it
        self._children = directory / "children"
        self._notices_path = directory / "notices.json"
        self._drain_path = directory / "drained.json"
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
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        self._children.mkdir(mode=0o750, exist_ok=True)
        self.trouble = ""
        self._living: dict[str, Remembered] = {}
        self.notices: list[Notice] = self._read_notices()
        #: Children of the agent before us that are not surely gone, by incarnation.
        self.previous: dict[str, Remembered] = self._read_children()

    # -- children ---------------------------------------------------------------------------------

    def expect(self, name: str, notice: Notice, *, reported: bool) -> int:
        """Note a child that is about to start. The descriptor with its lock, to be inherited; -1 without one."""
        remembered = Remembered(name, notice, reported)
        self._living[notice.incarnation] = remembered
        try:
            lock = os.open(self._path(notice.incarnation), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            self._failed(error)
            return -1
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(lock, remembered)
        except OSError as error:
            self._failed(error)
        return lock

    def born(self, incarnation: str, pid: int, lock: int) -> None:
        """It runs as `pid`. `lock` is closed here: from now on the child alone holds it."""
        self._living[incarnation] = msgspec.structs.replace(self._living[incarnation], pid=pid, birth=birth(pid))
        if lock < 0:
            return
        try:
            _write(lock, self._living[incarnation])
        except OSError as error:
            self._failed(error)
        else:
            self._saved()
        finally:
            os.close(lock)

    def never_born(self, incarnation: str) -> None:
        """It could not be started after all."""
        self._living.pop(incarnation, None)
        with suppress(OSError):
            self._path(incarnation).unlink()

    def died(self, incarnation: str) -> None:
        """A child of ours is gone with its tree: it becomes a death notice."""
        self._bury(self._living.pop(incarnation, None))

    def buried(self, incarnation: str) -> None:
        """A child of the agent before us is surely gone."""
        self._bury(self.previous.pop(incarnation, None))

    def survivors(self, incarnation: str) -> set[int]:
        """What still lives of a child of the agent before us, marks apart. Looks at all processes' descriptors."""
        found = set()
        remembered = self.previous[incarnation]
        if remembered.pid and remembered.birth and birth(remembered.pid) == remembered.birth:
            found.add(remembered.pid)
        if self._held(incarnation):
            found |= holders(self._path(incarnation))
        return found

    def _held(self, incarnation: str) -> bool:
        try:
            lock = os.open(self._path(incarnation), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    def _bury(self, remembered: Remembered | None) -> None:
        if remembered is None:
            return
        if remembered.reported:
            self.notices.append(remembered.notice)
            self.save()
        with suppress(OSError):
            self._path(remembered.notice.incarnation).unlink()

    def _path(self, incarnation: str) -> Path:
        return self._children / incarnation

    def _read_children(self) -> dict[str, Remembered]:
        found = {}
        for path in sorted(self._children.iterdir()):
            try:
                remembered = decode(path.read_bytes(), Remembered)
            except (msgspec.MsgspecError, OSError) as error:
                # Its lock still says whether it lives; what is lost is whom to tell, and 8 s of silence tell that.
                self._events.say("memory_unreadable", path=path, reason=error)
                remembered = Remembered("", Notice(path.name, "unknown", ""), reported=False)
            found[path.name] = remembered
        return found

    # -- notices ----------------------------------------------------------------------------------

    def _read_notices(self) -> list[Notice]:
        try:
            return decode(self._notices_path.read_bytes(), list[Notice])
        except FileNotFoundError:
            return []
        except (msgspec.MsgspecError, OSError) as error:
            self._events.say("memory_unreadable", path=self._notices_path, reason=error)
            return []

    def delivered(self, notice: Notice) -> None:
        if notice in self.notices:
            self.notices.remove(notice)
            self.save()

    def save(self) -> None:
        """Replace the file of notices. Raises nothing: a full disk costs the notices of a crash, not this agent.

        Why it could not be written stands in `trouble` until it can.
        """
        try:
            _replace(self._notices_path, msgspec.json.encode(self.notices))
        except OSError as error:
            self._failed(error)
        else:
            self._saved()

    def retry(self) -> None:
        """After trouble: write again what could not be written. A child that runs without its lock stays without."""
        for incarnation, remembered in self._living.items():
            path = self._path(incarnation)
            with suppress(OSError):  # told by `save` below, on the same disk
                if not path.exists() or not path.stat().st_size:
                    path.write_bytes(msgspec.json.encode(remembered))
        self.save()

    # -- being drained ----------------------------------------------------------------------------

    def read_drain(self) -> bytes:
        """What `keep_drain` kept; empty when there is nothing. Raises `OSError`."""
        try:
            return self._drain_path.read_bytes()
        except FileNotFoundError:
            return b""

    def keep_drain(self, contents: bytes) -> None:
        """Over reboots. Raises `OSError`: who asked for it must know that it would be forgotten."""
        _replace(self._drain_path, contents)

    def forget_drain(self) -> None:
        """Raises `OSError`."""
        self._drain_path.unlink(missing_ok=True)

    # -- trouble ----------------------------------------------------------------------------------

    def _failed(self, error: OSError) -> None:
        trouble = f"cannot write {self._children.parent}: {os.strerror(error.errno or 0)}"
        if trouble != self.trouble:
            self._events.say("memory_unwritable", path=self._children.parent, reason=os.strerror(error.errno or 0))
        self.trouble = trouble

    def _saved(self) -> None:
        self.trouble = ""


def _write(descriptor: int, value: Struct) -> None:
    data = msgspec.json.encode(value)
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.replace(path)
