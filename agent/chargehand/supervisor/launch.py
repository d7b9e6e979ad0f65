"""Starting one child: its environment, its sockets, its control group, its limits. No decisions."""

from __future__ import annotations

import os
import resource
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from chargehand import link as links
from chargehand.config.secrets import CREDENTIALS
from chargehand.decoding import decode
from chargehand.greeting import greeting
from chargehand.link import Link
from chargehand.linux.cgroup import Delegation, Group
from chargehand.linux.parent import become_subreaper
from chargehand.linux.spawn import Process, spawn
from chargehand.linux.tree import MARK
from chargehand.notify import Receiver
from chargehand.supervisor.events import Events
from chargehand.supervisor.memory import Memory, Notice
from chargehand.supervisor.output import Outlet, Output
from chargehand.supervisor.server import Server
from chargehand.supervisor.spec import Spec

__all__ = ["Launched", "Launcher", "notify_path"]

#: The agent's own relations to systemd are not for its children. Its credentials are for ours alone.
_PRIVATE = {
    "FDSTORE",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "MAINPID",
    "MANAGERPID",
    "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
}


def notify_path(runtime_dir: Path, name: str, incarnation: str) -> Path:
    """Where a child sends to. Two of a name may run side by side, so the incarnation is part of it."""
    return runtime_dir / f"{name}.{incarnation[:8]}.notify"


class Launched:
    """What belongs to one incarnation of a child; all of it goes when it is buried."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.link: Link | None = None
        self.receiver: Receiver | None = None
        self.output: Output | None = None
        self.group: Group | None = None

    def close_link(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def close(self) -> None:
        self.close_link()
        for part in (self.receiver, self.output, self.process):
            if part is not None:
                part.close()
        if self.group is not None:
            self.group.remove()
        self.receiver = self.output = self.process = self.group = None


class Launcher:
    def __init__(
        self,
        *,
        node: str,
        runtime_dir: Path,
        memory: Memory,
        outlet: Outlet,
        delegation: Delegation | None,
        server: Server | None,
        events: Events,
    ) -> None:
        self._node = node
        self._runtime_dir = runtime_dir
        self._memory = memory
        self._outlet = outlet
        self._delegation = delegation
        self._server = server
        self._events = events

    def launch(self, spec: Spec, incarnation: str, lines: deque[str]) -> Launched:
        """Start it; `lines` keeps what it prints last, over all its incarnations.

        Raises `OSError`, `ServerError`, `ValueError`: why it cannot be started.
        """
        launched = Launched()
        theirs: list[int] = []
        hidden = _PRIVATE if spec.own else _PRIVATE | {CREDENTIALS}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {MARK: incarnation, "CHARGEHAND_CHILD": spec.name}
        lock = -1
        try:
            if spec.own:
                launched.link, end = links.pair()
                theirs.append(end.detach())
                environment["CHARGEHAND_LINK_FD"] = str(theirs[0])
                environment["CHARGEHAND_OUTPUT"] = "journal" if self._outlet.journal else "agent"
            if spec.notifies:
                launched.receiver = Receiver(str(notify_path(self._runtime_dir, spec.name, incarnation)))
                if spec.user:  # it may not be the owner; the sender's pid is looked at
                    Path(launched.receiver.path).chmod(0o666)
                environment["NOTIFY_SOCKET"] = launched.receiver.path
                if spec.watchdog:
                    environment["WATCHDOG_USEC"] = str(round(spec.watchdog * 1_000_000))
            environment |= dict(spec.env)
            patterns = tuple(one for one in (spec.ready_pattern, spec.role_active, spec.role_passive) if one)
            launched.output = Output(
                spec.name, self._outlet, lines, read=spec.last_words or spec.patterns, patterns=patterns
            )
            lock = self._memory.expect(spec.name, Notice(incarnation, spec.kind, self._node), reported=spec.member)
            if lock >= 0:
                theirs.append(lock)
            launched.group = self._group(spec, incarnation)
            launched.process = spawn(
                self._argv(spec),
                env=environment,
                stdin=_NOTHING,
                stdout=launched.output.theirs,
                stderr=launched.output.theirs,
                pass_fds=theirs,
                foreign=not spec.own,
                gated=None if spec.own else spec.directory,
                user=spec.user,
                group=spec.group,
                stack=dict(spec.limits).get("stack", 0),
            )
        except BaseException:
            launched.close()
            if lock >= 0:
                os.close(lock)
                theirs.remove(lock)
            self._memory.never_born(incarnation)
            raise
        finally:
            for fd in theirs:
                if fd != lock:
                    os.close(fd)
        self._memory.born(incarnation, launched.process.pid, lock)
        launched.output.started()
        self._place(spec, launched)
        return launched

    def _argv(self, spec: Spec) -> tuple[str, ...]:
        if spec.kind == "redis":
            assert self._server is not None
            return tuple(self._server.prepare())
        return spec.argv

    def _group(self, spec: Spec, incarnation: str) -> Group | None:
        if self._delegation is None:
            return None
        try:
            return self._delegation.make(f"{spec.name}.{incarnation}")
        except OSError as error:
            self._events.say("cgroup_failed", child=spec.name, reason=error)
            become_subreaper()  # what it leaves outside its process group comes to us instead
            return None

    def _place(self, spec: Spec, launched: Launched) -> None:
        """Before it may run: its group and its limits. Ours wait for their settings, others for their gate."""
        process, group = launched.process, launched.group
        assert process is not None
        if group is not None and not self._allowed(spec, "control group", lambda: group.add(process.pid)):
            group.remove()
            launched.group = None
            become_subreaper()
        elif group is not None and spec.memory_max:
            group.limit_memory(spec.memory_max)
        for name, value in spec.limits:
            if name == "stack":
                continue  # set before it became what it is
            kind = getattr(resource, _LIMITS[name])
            self._allowed(spec, name, partial(resource.prlimit, process.pid, kind, (value, value)))
        if spec.nice:
            self._allowed(spec, "nice", lambda: os.setpriority(os.PRIO_PROCESS, process.pid, spec.nice))
        if launched.link is not None:
            launched.link.send(greeting(decode(spec.settings)))
        process.open_gate()

    def _allowed(self, spec: Spec, what: str, act: Callable[[], object]) -> bool:
        """Do it; what the kernel does not allow us is told, and the child runs without it."""
        try:
            act()
        except ProcessLookupError:
            pass  # it has ended already, which its pidfd tells
        except (OSError, ValueError) as error:
            self._events.say("child_limits", child=spec.name, what=what, reason=error)
            return False
        return True


_LIMITS = {
    "nofile": "RLIMIT_NOFILE",
    "nproc": "RLIMIT_NPROC",
    "core": "RLIMIT_CORE",
    "memlock": "RLIMIT_MEMLOCK",
    "file_size": "RLIMIT_FSIZE",
    "address_space": "RLIMIT_AS",
}

_NOTHING = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
