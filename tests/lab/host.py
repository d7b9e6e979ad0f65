"""The machine that carries the nodes: what it must offer, its commands, its mounts and its control groups."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "LAB",
    "CommandFailed",
    "Done",
    "attempt",
    "call",
    "cgroup_root",
    "mounts_below",
    "overlay",
    "unmount",
    "until",
    "why_not",
]

#: Of several labs that stand beside each other on one machine, this one's name: a few letters and digits.
LAB = os.environ.get("CHARGEHAND_LAB") or "0"

_PROGRAMS = {  # and the Debian package that has it
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "journalctl": "systemd",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
}


class CommandFailed(Exception):
    """A command's exit code was not 0; the message has its words."""


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    printed: str
    complained: str  # on stderr


def attempt(*argv: str | Path, timeout: float = 120.0, **options: object) -> Done:
    """Run a command, however it ends."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        **options,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def call(*argv: str | Path, check: bool = True, timeout: float = 120.0, **options: object) -> str:
    """Run a command and return what it printed. Raises `CommandFailed`, unless `check` is False."""
    done = attempt(*argv, timeout=timeout, **options)
    if check and done.code != 0:
        words = " ".join(str(word) for word in argv)
        raise CommandFailed(f"exit {done.code} of `{words}`\n{done.printed[-2000:]}{done.complained[-4000:]}")
    return done.printed


def until(what: str, condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Ask until `condition` holds; for what gives no event. Raises `AssertionError` when it never does."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not {what} in {timeout:g} s"
        time.sleep(0.05)


def why_not() -> str | None:
    """Why no lab can stand on this machine, in one sentence; None when it can."""
    if re.fullmatch("[a-z0-9]{1,6}", LAB) is None:
        return f"CHARGEHAND_LAB={LAB!r} names no lab: one to six lower-case letters and digits are expected"
    if os.geteuid() != 0:
        return "the lab boots nodes with systemd: run it as root"
    missing = {package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        return f"the lab boots nodes with systemd: install {' '.join(sorted(missing))}"
    if cgroup_root() is None:
        return "the lab boots nodes with systemd: a writable cgroup2 mount is needed and there is none"
    try:
        call("unshare", "--mount", "mount", "-t", "tmpfs", "lab", "/mnt")
    except CommandFailed:
        return "the lab boots nodes with systemd: this process may not mount (a container without CAP_SYS_ADMIN?)"
    return None


def cgroup_root() -> Path | None:
    """Where control groups of version 2 are: alone, or beside those of version 1."""
    for _, place, kind in _mounts():
        if kind == "cgroup2" and os.access(place, os.W_OK):
            return place
    return None


def _mounts() -> Iterator[tuple[str, Path, str]]:
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        source, place, kind = line.split(" ")[:3]
        yield source, Path(place), kind


def mounts_below(path: Path) -> list[Path]:
    """Innermost first."""
    return [place for _, place, _ in _mounts() if place == path or path in place.parents][::-1]


def unmount(path: Path) -> None:
    """Whatever is mounted at or below `path`; what is in use goes when its last user does."""
    for place in mounts_below(path):
        try:
            call("umount", place)
        except CommandFailed:
            call("umount", "--lazy", place)


@contextmanager
def overlay(place: Path, lower: list[Path], upper: Path, work: Path) -> Iterator[Path]:
    """`lower` (topmost first) as one tree at `place`; what changes goes to `upper`."""
    mount_overlay(place, lower, upper, work)
    try:
        yield place
    finally:
        unmount(place)


def mount_overlay(place: Path, lower: list[Path], upper: Path, work: Path) -> None:
    for directory in (place, upper, work):
        directory.mkdir(parents=True, exist_ok=True)
    layers = ":".join(str(path) for path in lower)
    call("mount", "-t", "overlay", "chargehand-lab", "-o", f"lowerdir={layers},upperdir={upper},workdir={work}", place)
