"""Starting a process in a group of its own, and holding it by its pidfd.

To be called on the process's main thread: the kernel sends the death signal when the *thread* that started a
child ends. No `preexec_fn`: what a child must do before its program runs is done by a chain of execs.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from chargehand.linux.tree import MARK

__all__ = ["Process", "spawn", "which"]


def which(program: str, path: str | None = None) -> str | None:
    """Where a program is, on `path` (default: PATH). As shutil's, whose import costs the agent 0.7 MiB."""
    places = [""] if "/" in program else (path or os.environ.get("PATH", os.defpath)).split(os.pathsep)
    for place in places:
        found = os.path.join(place, program)  # noqa: PTH118 - "" means: as it stands
        if Path(found).is_file() and os.access(found, os.X_OK):
            return found
    return None


_SETPRIV = which("setpriv")


class Process:
    """A started process. Its pid is also its process group."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.pidfd = os.pidfd_open(popen.pid)
        self.stdout: IO[bytes] | None = popen.stdout
        self.stderr: IO[bytes] | None = popen.stderr

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self.pidfd

    def signal(self, number: int) -> None:
        """Signal the process itself; nothing happens when it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill_tree(self, number: int) -> None:
        """Signal all of its process group; nothing happens when there is none any more."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def tree_gone(self) -> bool:
        """True when no process of its group is left (one that ended and was not reaped yet counts as left)."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def ended(self) -> int | None:
        """Reap it if it has ended: the exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    def wait(self) -> int:
        """Wait for its end."""
        return self._popen.wait()

    def close(self) -> None:
        """Let go of the descriptors."""
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
    foreign: bool = False,
) -> Process:
    """Start `argv`. Raises `OSError` naming the program when it cannot be started.

    `foreign`: a program that does not know us, so setpriv (util-linux) has the kernel end it with us; our own
    programs ask for that themselves. It carries our mark, so that what it leaves behind is found (`linux.tree`).
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("spawn on the main thread only: see the module's docstring")
    command = list(argv)
    environment = dict(env)
    if foreign:
        if MARK in os.environ:
            environment.setdefault(MARK, os.environ[MARK])
        command[0] = _find(command[0], env.get("PATH"))
        if _SETPRIV is not None:
            command = [_SETPRIV, "--pdeathsig", "KILL", "--", *command]
    popen = subprocess.Popen(
        command,
        bufsize=0,
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=tuple(pass_fds),
        cwd=cwd,
        start_new_session=True,
    )
    return Process(popen)


def _find(program: str, path: str | None) -> str:
    """Look the program up before it hides behind setpriv, so that a missing one is an error here."""
    found = which(program, path)
    if found is None:
        number = errno.EACCES if Path(program).exists() else errno.ENOENT
        raise OSError(number, os.strerror(number), program)
    return found
