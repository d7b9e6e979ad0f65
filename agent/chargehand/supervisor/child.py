"""One child at run time: its process, its sockets, what it said. Does what the table of its life says."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from chargehand import link as links
from chargehand.link import Link, LinkError
from chargehand.linux.spawn import Process, spawn
from chargehand.linux.tree import MARK
from chargehand.notify import Receiver
from chargehand.supervisor.life import LIFE, RUNNING, Action, Event, State
from chargehand.supervisor.restart import HEALTHY_AFTER, Restarts
from chargehand.supervisor.server import ServerError
from chargehand.supervisor.status import ChildReport

__all__ = ["Child", "Spec", "incarnation", "notify_path", "own_argv"]

log = logging.getLogger("chargehand.agent")

_DUMP_TIME = 2.0  # seconds that a hung child gets to write its stacks
_SWEEP_TIME = 0.5  # seconds before what is left of a tree is killed again

#: The agent's own relations to systemd are not for its children.
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


def incarnation() -> str:
    """A name that no process had before."""
    return os.urandom(8).hex()


class Spec:
    """What a child is: `argv` is made at each start, so that it may depend on what is there then."""

    def __init__(
        self,
        name: str,
        kind: str,
        argv: Callable[[], list[str]],
        *,
        environment: Mapping[str, str] | None = None,
        watchdog: float = 0.0,
        probe: Callable[[], bool] | None = None,
        stop_time: float = 5.0,
    ) -> None:
        self.name = name
        self.kind = kind  # orchestrator, worker, redis
        self.argv = argv
        self.environment = environment or {}
        self.watchdog = watchdog  # seconds; 0: none
        self.probe = probe  # asked until it is true, for a program that cannot say READY
        self.stop_time = stop_time  # seconds from being told to end to being killed

    @property
    def own(self) -> bool:
        """Ours: it has a link and says what it is. Others get signals."""
        return self.probe is None


class Child:
    """Time is an argument everywhere; nothing here waits."""

    def __init__(self, spec: Spec, runtime_dir: Path, settings: dict[str, Any], draw: Callable[[], float]) -> None:
        self.spec = spec
        self._runtime_dir = runtime_dir
        self._settings = settings
        self._draw = draw
        self.state = State.IDLE
        self.since = 0.0  # of the state, monotonic
        self.due = 0.0  # of the next start
        self.incarnation = ""
        self.process: Process | None = None
        self.link: Link | None = None
        self.receiver: Receiver | None = None
        self.fields: dict[str, str] = {}
        self.restarts = Restarts()
        self.last_words = ""
        self._overdue_at: float | None = None
        self._pinged = 0.0
        self._probe_at = 0.0
        self._answers: deque[Callable[[dict[str, Any] | None], None]] = deque()
        self.born: Callable[[Child], None] = lambda _: None
        self.buried: Callable[[Child], None] = lambda _: None
        self.changed: Callable[[Child], None] = lambda _: None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def running(self) -> bool:
        return self.state in RUNNING

    # -- events -----------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> None:
        move = LIFE[self.state][event]
        if move is None:
            return
        if move.next is not self.state:
            self.state, self.since = move.next, now
            self._overdue_at = None
        if move.next is State.HUNG:
            self._overdue_at = now + _DUMP_TIME
        elif move.next is State.STOPPING:
            self._overdue_at = now + self.spec.stop_time
        elif move.next in {State.SWEEPING, State.CLOSING}:
            self._overdue_at = now + _SWEEP_TIME
        for action in move.actions:
            self._act(action, now)
        self.changed(self)

    def _act(self, action: Action, now: float) -> None:
        if action is Action.SPAWN:
            self._spawn(now)
        elif action is Action.ABORT:
            log.warning("child_hung child=%s pid=%d silent_for=%.1fs", self.name, self._pid, now - self._pinged)
            self.last_words = f"hung: silent for {now - self._pinged:.0f} s"
            self._signal(signal.SIGABRT)
        elif action is Action.ASK_TO_END:
            if self.link is not None:
                self._close_link()
            else:
                self._signal(signal.SIGTERM)
        elif action is Action.KILL:
            if self.process is not None:
                self.process.kill_tree(signal.SIGKILL)
        elif action is Action.BURY:
            self._let_go()
            self.buried(self)
        elif action is Action.RESTART:
            ready_for = self._ready_until - self._ready_at if self._ready_at else 0.0
            delay = self.restarts.delay(ready_for, self._draw())
            self.due = now + delay
            log.info("child_restart child=%s in=%.1fs in_a_row=%d", self.name, delay, self.restarts.in_a_row)

    _ready_at = 0.0
    _ready_until = 0.0

    @property
    def _pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def _signal(self, number: int) -> None:
        if self.process is not None:
            self.process.signal(number)

    # -- starting ---------------------------------------------------------------------------------

    def _spawn(self, now: float) -> None:
        self.incarnation = incarnation()
        self.fields = {}
        self._pinged = self._probe_at = now
        self._ready_at = self._ready_until = 0.0
        environment = {key: value for key, value in os.environ.items() if key not in _PRIVATE}
        environment[MARK] = self.incarnation
        inherited: list[int] = []
        theirs = None
        try:
            if self.spec.own:
                self.receiver = Receiver(str(notify_path(self._runtime_dir, self.name)))
                self.link, theirs = links.pair()
                inherited.append(theirs.fileno())
                environment |= {
                    "NOTIFY_SOCKET": self.receiver.path,
                    "CHARGEHAND_LINK_FD": str(theirs.fileno()),
                    "CHARGEHAND_CHILD": self.name,
                }
                if self.spec.watchdog:
                    environment["WATCHDOG_USEC"] = str(round(self.spec.watchdog * 1_000_000))
            environment |= self.spec.environment
            self.process = spawn(
                self.spec.argv(), env=environment, pass_fds=inherited, foreign=not self.spec.own, cwd="/"
            )
        # A missing program or interpreter, no process or descriptor left, an argument that is none: the agent and
        # its other children go on, and it is tried again by the restart policy.
        except (OSError, ServerError, ValueError, SubprocessError) as error:
            self.last_words = f"cannot start: {error}"
            log.error("child_unstartable child=%s reason=%s", self.name, error)
            self._let_go()
            self.handle(Event.UNSTARTABLE, now)
            return
        finally:
            if theirs is not None:
                theirs.close()
        log.info("child_started child=%s pid=%d incarnation=%s", self.name, self.process.pid, self.incarnation)
        self.born(self)
        if self.link is not None:
            self.link.send(
                {
                    "method": "io.chargehand.Child.Settings",
                    "oneway": True,
                    "parameters": {"settings": self._settings},
                }
            )

    def _let_go(self) -> None:
        self._close_link()
        if self.receiver is not None:
            self.receiver.close()
            self.receiver = None
        if self.process is not None:
            self.process.close()
            self.process = None

    def _close_link(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
        for answer in self._answers:
            answer(None)
        self._answers.clear()

    # -- what its descriptors say -----------------------------------------------------------------

    def exited(self, now: float) -> None:
        """Its pidfd is readable."""
        assert self.process is not None
        status = self.process.ended()
        if status is None:
            return
        self.notified(now)  # its last words may have arrived in the same moment
        if self._ready_at:
            self._ready_until = now
        words = self.fields.get("X_CHARGEHAND_ERROR", "")
        if not self.last_words.startswith("hung") or self.state is not State.HUNG:
            self.last_words = said(status) + (f' "{words}"' if words else "")
        level = logging.INFO if self.state is State.STOPPING else logging.WARNING
        log.log(level, "child_ended child=%s pid=%d how=%s", self.name, self.process.pid, self.last_words)
        self.handle(Event.EXITED, now)

    def notified(self, now: float) -> None:
        """Its notify socket is readable."""
        if self.receiver is None:
            return
        for message in self.receiver.receive():
            if message.pid != self._pid:
                log.warning("notify_from_stranger child=%s pid=%d", self.name, message.pid)
                continue
            self._pinged = now
            self.fields |= message.fields
            if message.fields.get("READY") == "1":
                self._ready(now)
            if message.fields.keys() - {"WATCHDOG"}:
                self.changed(self)

    def _ready(self, now: float) -> None:
        self._ready_at = now
        self.handle(Event.NOTIFIED_READY, now)

    def heard(self) -> None:
        """Its link is readable, or takes more: answers, in the order of the requests."""
        if self.link is None:
            return
        self.link.flush()
        try:
            messages, ended = self.link.receive()
        except LinkError as error:
            log.error("link_broken child=%s reason=%s", self.name, error)
            messages, ended = [], True
        for message in messages:
            if self._answers:
                self._answers.popleft()(message)
        if ended:
            self._close_link()

    def ask(self, method: str, parameters: dict[str, Any], answer: Callable[[dict[str, Any] | None], None]) -> None:
        """Send a request; `answer` gets the reply, or None when the child is gone before it came."""
        if self.link is None:
            answer(None)
            return
        self._answers.append(answer)
        self.link.send({"method": f"io.chargehand.Child.{method}", "parameters": parameters})
        if self.link.sending:
            self.changed(self)

    # -- time -------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Whatever time brings."""
        if self.state is State.IDLE and now >= self.due:
            self.handle(Event.DUE, now)
        if self.state in {State.STARTING, State.READY} and self.spec.watchdog and self.spec.own:
            # Starting counts too, but importing a site's modules may take its time.
            allowed = self.spec.watchdog if self.state is State.READY else max(self.spec.watchdog, 30.0)
            if now - self._pinged > allowed:
                self.handle(Event.SILENT, now)
        if self.state is State.STARTING and self.spec.probe is not None and now >= self._probe_at:
            self._probe_at = now + 0.05
            if self.spec.probe():
                self._ready(now)
        if self._overdue_at is not None and now >= self._overdue_at:
            self._overdue_at = now + _SWEEP_TIME
            self.handle(Event.OVERDUE, now)
        if self.state is State.READY and self.restarts.in_a_row and now - self._ready_at > HEALTHY_AFTER:
            self.restarts.healthy()
            self.changed(self)

    @property
    def sweeping(self) -> bool:
        return self.state in {State.SWEEPING, State.CLOSING}

    def swept(self, now: float) -> None:
        """Nothing that carries its mark lives; its process group is looked at here."""
        if self.process is None or self.process.tree_gone():
            self.handle(Event.SWEPT, now)

    def next_tick(self, now: float) -> float:
        """Seconds until time may bring something."""
        moments: list[float] = []
        if self.state is State.IDLE:
            moments.append(self.due)
        if self.state in {State.STARTING, State.READY} and self.spec.watchdog and self.spec.own:
            allowed = self.spec.watchdog if self.state is State.READY else max(self.spec.watchdog, 30.0)
            moments.append(self._pinged + allowed)
        if self.state is State.STARTING and self.spec.probe is not None:
            moments.append(self._probe_at)
        if self.sweeping:
            moments.append(now + 0.01)  # the kernel tells nobody that a process group is empty
        if self._overdue_at is not None:
            moments.append(self._overdue_at)
        if self.state is State.READY and self.restarts.in_a_row:
            moments.append(self._ready_at + HEALTHY_AFTER + 0.001)
        return max(0.0, min(moments, default=now + 3600.0) - now)

    # -- reporting --------------------------------------------------------------------------------

    def report(self) -> ChildReport:
        said_of = self.fields.get
        running = self.running
        busy = said_of("X_CHARGEHAND_LOAD", "").partition("/")[0] if running else ""
        return ChildReport(
            name=self.name,
            kind=self.spec.kind,
            ready=self.state is State.READY,
            role=said_of("X_CHARGEHAND_ROLE", "") if running else "",
            epoch=said_of("X_CHARGEHAND_EPOCH", ""),
            holder=said_of("X_CHARGEHAND_HOLDER", ""),
            redis=said_of("X_CHARGEHAND_REDIS", ""),
            queued=said_of("X_CHARGEHAND_QUEUED", ""),
            busy=int(busy) if busy.isdigit() else 0,
            degraded=said_of("X_CHARGEHAND_DEGRADED", ""),
            crashes=self.restarts.in_a_row,
            last_words=self.last_words,
        )


def said(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"exit {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def notify_path(runtime_dir: Path, name: str) -> Path:
    """Where the child of that name sends to."""
    return runtime_dir / f"{name}.notify"


def own_argv(*arguments: str) -> list[str]:
    """The command for one of our own programs, on the interpreter that runs us."""
    isolated = ["-I"] if sys.flags.isolated else ["-P"]  # never import from where we happen to stand
    return [sys.executable, *isolated, "-m", "chargehand", *arguments]
