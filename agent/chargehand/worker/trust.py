"""Whether a privileged worker may believe its files: whoever can write one of them can do what the worker can.

Looked at before anything is imported: the configuration, every file below `actions.path`, the packages of the
modules, and the programs of privileged actions. Each, and every directory above it, must belong to root and be
writable by nobody else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from chargehand.config.settings import Settings

__all__ = ["distrusted"]

_ROOT = 0
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def distrusted(settings: Settings, files: Iterable[Path]) -> list[str]:
    """A line for each file or directory that somebody else could change. `files`: of the configuration."""
    found: dict[str, None] = {}
    for path in [*files, *_action_files(settings)]:
        for one in (path, *path.parents):
            fault = _fault(one, above=one is not path)
            if fault:
                found[f"{one}: {fault}"] = None
    return list(found)


def _action_files(settings: Settings) -> Iterator[Path]:
    for directory in settings.actions.path:
        for where, directories, names in os.walk(directory):
            yield from (Path(where, name) for name in (*directories, *names))
        if Path(directory).exists():
            yield Path(directory)
    for module in settings.actions.modules:
        top = module.partition(".")[0]
        ways = [Path(directory, name) for directory in settings.actions.path for name in (top, f"{top}.py")]
        if not any(way.exists() for way in ways):
            spec = find_spec(top)  # finds a top-level package without running it
            if spec is not None and spec.origin is not None and os.path.isabs(spec.origin):  # noqa: PTH117 - may be "built-in"
                yield Path(spec.origin)
    for action in settings.action:
        if action.privileged:
            yield Path(action.argv[0])


def _fault(path: Path, *, above: bool) -> str:
    """Why it cannot be believed; empty: it can, or it is not there.

    `above`: a directory on the way, where a sticky bit keeps others from putting something else in its place.
    """
    try:
        # What a link points to is what is read; whoever could change the link is found by its directory.
        found = path.stat()
    except OSError:
        return ""
    if found.st_uid != _ROOT:
        return f"belongs to uid {found.st_uid}, expected root (chown root)"
    if found.st_mode & _OTHERS_MAY_WRITE and not (above and found.st_mode & stat.S_ISVTX):
        return f"is writable by others (mode {stat.S_IMODE(found.st_mode):04o}), expected root alone (chmod go-w)"
    return ""
