"""What systemd knows of a unit and of this boot, asked of its own commands. Anybody may ask."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["going_down", "show_unit"]

_BOOTED = Path("/run/systemd/system")  # sd_booted(3)
_PATIENCE = 5.0  # seconds
_LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "UnitFileState",
    "Type",
    "NotifyAccess",
    "WatchdogUSec",
    "Restart",
    "TimeoutStopUSec",
    "NRestarts",
    "Delegate",
)


def show_unit(name: str) -> dict[str, str] | None:
    """Its properties as `systemctl show` writes them; None where no systemd runs, or it gives no answer."""
    done = _asked("systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", name)
    if done is None or done.returncode != 0:
        return None
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line) or None


def going_down() -> bool:
    """This boot ends: a reboot or a shutdown was asked for. False where no systemd runs, or it gives no answer."""
    done = _asked("systemctl", "is-system-running")
    if done is not None and done.stdout.strip() == "stopping":
        return True
    # Before systemd hears of it, logind lets those who asked for that come to an end (systemd-inhibit --mode=delay).
    done = _asked("busctl", "--auto-start=no", "get-property", *_LOGIND, "PreparingForShutdown")
    return done is not None and done.stdout.strip() == "b true"


def _asked(program: str, *words: str) -> subprocess.CompletedProcess[str] | None:
    path = shutil.which(program)
    if path is None or not _BOOTED.is_dir():
        return None
    try:
        return subprocess.run(
            [path, *words], capture_output=True, text=True, timeout=_PATIENCE, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
