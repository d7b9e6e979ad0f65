"""What this process may do beyond its user's own rights."""

from __future__ import annotations

from pathlib import Path

__all__ = ["may_change_user"]

# Of <linux/capability.h>. To become another user, to take that user's groups, and to end what runs as it.
_CAP_KILL = 5
_CAP_SETGID = 6
_CAP_SETUID = 7
_NEEDED = 1 << _CAP_KILL | 1 << _CAP_SETGID | 1 << _CAP_SETUID


def may_change_user() -> bool:
    """True when this process may run children as other users and signal them.

    Root without these capabilities (a unit with an empty `CapabilityBoundingSet=`) may not.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:  # no /proc: nothing is known, so nothing is promised
        return False
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16) & _NEEDED == _NEEDED
    return False
