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

__all__ = ["MARK", "birth", "kill", "marked"]

#: The variable that marks a child and all that it starts.
MARK = "CHARGEHAND_INCARNATION"

_NAME = b"\0" + MARK.encode() + b"="
_ZOMBIE = {"Z", "X"}


def marked(incarnations: Collection[str]) -> dict[int, str]:
    """The living processes that carry one of these marks, by pid. Never this process itself."""
    found: dict[int, str] = {}
    me = str(os.getpid())
    for name in os.listdir("/proc"):  # noqa: PTH208 - a Path for each process costs more than reading it
        if not name.isdigit() or name == me:
            continue
        incarnation = _mark_of(name)
        if incarnation in incarnations:
            found[int(name)] = incarnation
    return found


def _mark_of(pid: str) -> str:
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
    at = data.find(_NAME)
    if at < 0:
        return ""
    return data[at + len(_NAME) :].partition(b"\0")[0].decode("ascii", "replace")


def kill(pid: int) -> None:
    """SIGKILL; nothing happens when it has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


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
