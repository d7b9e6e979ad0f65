"""Control groups (v2) below the one that systemd delegated to us: a child's whole tree, whatever it does to hide.

Without a delegated group `find` answers None, and what a child promises reaches as far as its process group
and its mark (`tree`).
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["Delegation", "Group"]

_MOUNTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))  # the second: beside controllers of v1
_LEAF = "agent"  # ours: a group with controllers for its children may hold no process itself
_CLEAR_TIME = 5.0  # seconds: what hangs in the kernel longer than this may hang for ever
_OURS = ".child"  # ends the name of every child's group


class Group:
    """One child's. Made empty; whatever is put into it takes its descendants along."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(exist_ok=True)
        self._events = os.open(path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)

    def __str__(self) -> str:
        return str(self._path)

    def fileno(self) -> int:
        """Has EPOLLPRI when it may have become empty; `empty` takes that back."""
        return self._events

    def add(self, pid: int) -> None:
        """Raises `OSError`. Takes the kernel some milliseconds."""
        _write(self._path / "cgroup.procs", str(pid))

    def kill(self) -> None:
        """SIGKILL to all that is in it, in one step that no fork outruns (Linux 5.14)."""
        _write(self._path / "cgroup.kill", "1")

    def empty(self) -> bool:
        return b"populated 0" in os.pread(self._events, 256, 0)

    def limit_memory(self, ceiling: int) -> bool:
        """Hold it near `ceiling` bytes, and end it at a quarter above. False without the controller."""
        try:
            _write(self._path / "memory.high", str(ceiling))
            _write(self._path / "memory.max", str(ceiling + ceiling // 4))
        except OSError:
            return False
        return True

    def memory(self) -> int | None:
        """Bytes in use by all that is in it; None without the controller."""
        try:
            return int((self._path / "memory.current").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        """Let it go; one that is not empty stays."""
        if self._events >= 0:
            os.close(self._events)
            self._events = -1
            for path in sorted((one for one in self._path.rglob("*") if one.is_dir()), reverse=True):
                with suppress(OSError):
                    path.rmdir()  # groups that the child made below its own
            with suppress(OSError):
                self._path.rmdir()


class Delegation:
    """Our own group, when it is ours to divide."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._poll = select.epoll()

    @classmethod
    def find(cls) -> Delegation | None:
        """The group of this process, if systemd delegated it and nobody else is in it."""
        try:
            lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        for line in lines:
            if not line.startswith("0::/"):
                continue
            below = line[len("0::/") :]
            for mount in _MOUNTS:
                path = mount / below
                if below and (path / "cgroup.kill").exists() and _ours(path):
                    return cls(path)
        return None

    def fileno(self) -> int:
        """Readable when a group may have become empty."""
        return self._poll.fileno()

    def settle(self) -> None:
        """Move this process into a leaf and hand the memory controller on, where there is one. Raises `OSError`."""
        leaf = self._path / _LEAF
        leaf.mkdir(exist_ok=True)
        _write(leaf / "cgroup.procs", str(os.getpid()))
        with suppress(OSError):  # not delegated, or not there: ceilings are kept without it
            _write(self._path / "cgroup.subtree_control", "+memory")

    def make(self, name: str) -> Group:
        """A group for one child. Raises `OSError`."""
        group = Group(self._path / (name + _OURS))
        self._poll.register(group.fileno(), select.EPOLLPRI)
        return group

    def changed(self) -> None:
        """Take note of what made `fileno` readable; each group is asked by itself."""
        for fd, _ in self._poll.poll(0):
            with suppress(OSError):
                os.pread(fd, 256, 0)

    def clear(self) -> list[str]:
        """End what is left of an agent before us, and wait for it. The groups in which something outlived that."""
        left = [Group(path) for path in self._path.glob("*" + _OURS)]
        for group in left:
            with suppress(OSError):
                group.kill()
        stubborn = []
        until = time.monotonic() + _CLEAR_TIME
        for group in left:
            poll = select.poll()
            poll.register(group.fileno(), select.POLLPRI)
            while not group.empty() and time.monotonic() < until:
                poll.poll(100)
            if not group.empty():
                stubborn.append(str(group))
            group.remove()
        return stubborn

    def close(self) -> None:
        self._poll.close()


def _ours(path: Path) -> bool:
    try:
        owner = path.stat().st_uid
        alone = (path / "cgroup.procs").read_text(encoding="ascii").split() == [str(os.getpid())]
    except OSError:
        return False
    if not alone or owner != os.geteuid() or not os.access(path / "cgroup.procs", os.W_OK):
        return False
    # Root owns every group: only where systemd says so is one of them ours to divide.
    return owner != 0 or any(_attribute(path, f"{space}.delegate") == b"1" for space in ("user", "trusted"))


def _attribute(path: Path, name: str) -> bytes:
    try:
        return os.getxattr(path, name)
    except OSError:
        return b""


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)
