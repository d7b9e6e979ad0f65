"""The processes below a child, also those that left its process group.

Every process carries the environment that it was started with, so the incarnation of the child that it comes
from marks it: across `setsid`, and after its parent has died. A program that clears its environment, or that
this user may not look at, loses the mark; those need a control group.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

__all__ = ["COMMAND_MARK", "MARK", "birth", "holders", "kill", "marked", "orphans", "resident"]

#: The variable that marks a child and all that it starts.
MARK = "CHARGEHAND_INCARNATION"

#: The variable that marks one run of a worker's command and all that it starts.
COMMAND_MARK = "CHARGEHAND_COMMAND"

_ZOMBIE = {"Z", "X"}


def marked(marks: Collection[str], variable: str = MARK) -> dict[int, str]:
    """The living processes that carry one of these marks, by pid. Never this process itself."""
    found: dict[int, str] = {}
    me = str(os.getpid())
    for name in os.listdir("/proc"):  # noqa: PTH208 - a Path for each process costs more than reading it
        if not name.isdigit() or name == me:
            continue
        mark = _mark_of(name, variable)
        if mark in marks:
            found[int(name)] = mark
    return found


def orphans(known: Collection[int]) -> dict[int, str | None] | None:
    """Processes that became our own children because their parent died, by pid, with their mark ("": none).

    Complete for what a dead child of a subreaper left: its descendants come to us, or stand below one that did.
    A mark of None: it is just ending, and what it leaves will come to us in a moment. `known`: the children that
    we started. The whole answer is None where the kernel does not list children.
    """
    try:
        pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    except OSError:
        return None
    found: dict[int, str | None] = {}
    for name in pids:
        if int(name) not in known:
            mark = _mark_of(name)
            found[int(name)] = None if not mark and _exiting(name) else mark
    return found


_PF_EXITING = 0x4


def _exiting(pid: str) -> bool:
    """True between the moment a process gives up its memory and the one in which it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in _ZOMBIE and bool(int(fields[6]) & _PF_EXITING)


def _mark_of(pid: str, variable: str = MARK) -> str:
    try:
        descriptor = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""  # it has ended, or is not ours to look at
    data = b"\0"
    try:
        while part := os.read(descriptor, 1 << 16):
            data += part
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    name = b"\0" + variable.encode() + b"="
    at = data.find(name)
    if at < 0:
        return ""
    return data[at + len(name) :].partition(b"\0")[0].decode("ascii", "replace")


def holders(path: Path) -> set[int]:
    """Processes that have this file open, as far as this user may see. Never this process itself."""
    found = set()
    me = str(os.getpid())
    wanted = str(path)
    for name in os.listdir("/proc"):  # noqa: PTH208 - as above
        if not name.isdigit() or name == me:
            continue
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{name}/fd"):  # noqa: PTH208
                with suppress(OSError):
                    if os.readlink(f"/proc/{name}/fd/{fd}") == wanted:  # noqa: PTH115
                        found.add(int(name))
                        break
    return found


def kill(pid: int) -> None:
    """SIGKILL; nothing happens when it has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 when there is none."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def birth(pid: int) -> str:
    """What tells a living process from a later one of the same pid: this boot, and the clock tick it was started in.

    Empty when there is none, or only a zombie. Not a time of day: that jumps.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the program's name stands in parentheses and may hold anything
    return "" if fields[0] in _ZOMBIE else f"{boot}:{fields[19]}"
