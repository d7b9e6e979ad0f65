"""Starting a process in a session of its own, and holding it by its pidfd.

To be called on the process's main thread: the kernel sends the death signal when the *thread* that started a
child ends. No code runs between fork and exec: what must happen before a program runs is done by a chain of
execs. Everything that is not named stays closed to the child.
"""

from __future__ import annotations

import errno
import os
import signal
from _thread import get_native_id
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from chargehand.linux.tree import MARK

__all__ = ["Process", "said", "spawn", "which"]

#: Waits until the other end says go, so that nothing runs before the process is where it belongs; then goes to
#: the directory `$0` and becomes the program. Without the go (our end closed) there is no program.
_GATE = 'read -r go && cd -- "$0" && exec "$@" </dev/null'


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

    def __init__(self, pid: int, gate: int = -1) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._gate = gate
        self._status: int | None = None

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self.pidfd

    def open_gate(self) -> None:
        """Let a gated program run."""
        if self._gate >= 0:
            with suppress(OSError):  # it was killed already
                os.write(self._gate, b"\n")
            self._close_gate()

    def signal(self, number: int) -> None:
        """Signal the process itself; nothing happens when it has ended."""
        with suppress(ProcessLookupError, PermissionError):
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
        return self._reap(os.WEXITED | os.WNOHANG)

    def wait(self) -> int:
        """Wait for its end."""
        status = self._reap(os.WEXITED)
        assert status is not None
        return status

    def _reap(self, flags: int) -> int | None:
        if self._status is None:
            try:
                found = os.waitid(os.P_PIDFD, self.pidfd, flags)
            except ChildProcessError:
                self._status = 0  # somebody else took its status
            else:
                if found is not None:
                    self._status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return self._status

    def close(self) -> None:
        """Let go of the descriptors."""
        self._close_gate()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _close_gate(self) -> None:
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    foreign: bool = False,
    gated: str | None = None,
    user: str = "",
    group: str = "",
    stack: int = 0,
) -> Process:
    """Start `argv`. Raises `OSError` naming the program when it cannot be started.

    `foreign`: a program that does not know us, so setpriv (util-linux) has the kernel end it with us; our own
    programs ask for that themselves. It carries our mark, so that what it leaves behind is found (`linux.tree`).
    `gated`: the directory in which a program starts once `open_gate` is called. `user`, `group`: who it runs as.
    `stack`: bytes. Other limits can be set on the running process; this one would be lost, for the kernel puts it
    back at the end of an exec that was under way.
    """
    if get_native_id() != os.getpid():
        raise RuntimeError("spawn on the main thread only: see the module's docstring")
    command = list(argv)
    environment = dict(env)
    if gated is not None and not Path(gated).is_dir():
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), gated)
    if foreign:
        if MARK in os.environ:
            environment.setdefault(MARK, os.environ[MARK])
        command[0] = _find(command[0], env.get("PATH"))
    files = [(os.POSIX_SPAWN_DUP2, fd, at) for at, fd in enumerate((stdin, stdout, stderr)) if fd is not None]
    files += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in pass_fds]  # a descriptor onto itself: stays open
    ours = theirs = -1
    if gated is not None:
        command = ["/bin/sh", "-c", _GATE, gated, *command]
        theirs, ours = os.pipe()
        files.append((os.POSIX_SPAWN_DUP2, theirs, 0))
    if stack:
        command = [_find("prlimit", env.get("PATH")), f"--stack={stack}:{stack}", *command]
    command = [*_privileges(user, group, foreign=foreign), *command]
    program = command[0] if "/" in command[0] else _find(command[0], env.get("PATH"))
    try:
        pid = os.posix_spawn(
            program,
            command,
            environment,
            file_actions=files,
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them; a program expects the usual
        )
    except OSError as error:
        if ours >= 0:
            os.close(ours)
        raise OSError(error.errno, os.strerror(error.errno or 0), program) from error
    finally:
        if theirs >= 0:
            os.close(theirs)
    return Process(pid, ours)


def _privileges(user: str, group: str, *, foreign: bool) -> list[str]:
    """The command before the command: who it is, and that it ends with us."""
    words = ["--pdeathsig", "KILL"] if foreign else []
    if user or group:
        import grp  # noqa: PLC0415 - only for children of another user
        import pwd  # noqa: PLC0415

        try:
            uid = pwd.getpwnam(user).pw_uid if user else os.geteuid()
            gid = grp.getgrnam(group).gr_gid if group else pwd.getpwuid(uid).pw_gid
        except KeyError as error:  # it was there when the configuration was read
            raise OSError(errno.ENOENT, "no such user or group", f"{user or '-'}:{group or '-'}") from error
        if (uid, gid) != (os.geteuid(), os.getegid()):  # what we are already takes no right
            words += ["--reuid", str(uid), "--regid", str(gid), "--init-groups"]
    if not words:
        return []
    if _SETPRIV is None:
        if user or group:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), "setpriv (util-linux)")
        return []
    return [_SETPRIV, *words, "--"]


def _find(program: str, path: str | None) -> str:
    """Look the program up before it hides behind another, so that a missing one is an error here."""
    found = which(program, path)
    if found is None:
        number = errno.EACCES if Path(program).exists() else errno.ENOENT
        raise OSError(number, os.strerror(number), program)
    return found


def said(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"exit {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
