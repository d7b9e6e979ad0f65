"""Where the agent's sockets may stand."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SocketPathTooLong", "checked"]

_LONGEST = 107  # bytes of a unix socket's path, by the kernel's own limit


class SocketPathTooLong(ValueError):
    """No socket can be made there. The message says which key to change."""


def checked(path: Path) -> Path:
    """The path itself. Raises `SocketPathTooLong`."""
    length = len(str(path).encode())
    if length > _LONGEST:
        raise SocketPathTooLong(
            f"agent.runtime_dir: {str(path.parent)!r} is too long: {path.name} in it has a path of {length} bytes; "
            f"a socket's may have {_LONGEST}; choose a shorter directory"
        )
    return path
