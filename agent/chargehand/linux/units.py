"""What systemd knows of a unit, asked of its own command. Anybody may ask."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["show_unit"]

_BOOTED = Path("/run/systemd/system")  # sd_booted(3)
_PATIENCE = 5.0  # seconds
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
    program = shutil.which("systemctl")
    if program is None or not _BOOTED.is_dir():
        return None
    command = [program, "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return found if done.returncode == 0 and found else None
