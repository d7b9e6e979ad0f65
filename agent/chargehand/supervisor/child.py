"""One child at run time: what it said, when time brings what. Does what the table of its life says."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from typing import Any

from chargehand.link import LinkError
from chargehand.linux import tree
from chargehand.linux.spawn import said
from chargehand.notify import clean
from chargehand.supervisor.events import Events
from chargehand.supervisor.launch import Launched, Launcher
from chargehand.supervisor.life import LIFE, RUNNING, SWEEPING, Action, Event, State
from chargehand.supervisor.output import KEPT_LINES
from chargehand.supervisor.restart import HEALTHY_AFTER, Restarts
from chargehand.supervisor.roster import Present
from chargehand.supervisor.server import ServerError
from chargehand.supervisor.spec import Spec
from chargehand.supervisor.status import ChildReport

__all__ = ["Child"]

_SWEEP_TIME = 0.5  # seconds before what is left of a tree is killed again
_HAND_OVER = 1.0  # seconds that an orchestrator gets to hand the lease over
_PROBE_EVERY = 0.05
_LOOK_EVERY = 10.0  # seconds between two looks at a child's memory; on a grid, so that looks coincide

#: What these say by the convention of shells, one of which stands before each program's start.
_SHELL_SAYS = {126: " (the program cannot be executed)", 127: " (the program or its interpreter is not there)"}

_Answer = Callable[[dict[str, Any] | None], None]


def incarnation() -> str:
    """A name that no process had before."""
    return os.urandom(8).hex()


class Child:
    """Time is an argument everywhere; nothing here waits."""

    def __init__(
        self,
        key: int,
        spec: Spec,
        launcher: Launcher,
        events: Events,
        draw: Callable[[], float],
        probe: Callable[[], bool] | None = None,
    ) -> None:
        """`probe`: asked until it is true, for a program that cannot say READY."""
        self.key = key
        self.spec = spec
        self._launcher = launcher
        self._events = events
        self._draw = draw
        self._probe = probe
        self.state = State.IDLE
        self.since = 0.0  # of the state, monotonic
        self.due = 0.0  # of the next start
        self.may_start = True  # what it comes after is there
        self.stale = False  # to be replaced
        self.over_memory = 0  # bytes that it held when it was over its ceiling
        self.drained = False
        self.drain_limit: float | None = None  # seconds; None: as long as it takes
        self.incarnation = ""
        self.launched = Launched()
        self.fields: dict[str, str] = {}
        self.restarts = Restarts()
        self.last_words = ""
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)  # that it printed last, where no journal keeps them
        self._hung = ""
        self._overdue_at: float | None = None
        self._late_at = 0.0
        self._drained_at: float | None = None
        self._pinged = 0.0
        self._probe_at = 0.0
        self._look_at = 0.0
        self._ready_at = 0.0
        self._ready_until = 0.0
        self._answers: deque[_Answer] = deque()
        self.buried: Callable[[Child], None] = lambda _: None
        self.changed: Callable[[Child], None] = lambda _: None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def running(self) -> bool:
        return self.state in RUNNING

    @property
    def sweeping(self) -> bool:
        return self.state in SWEEPING

    @property
    def pid(self) -> int:
        return self.launched.process.pid if self.launched.process is not None else 0

    @property
    def present(self) -> Present:
        return Present(self.key, self.spec, self.state, self.stale, self.drained)

    # -- events -----------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> None:
        move = LIFE[self.state][event]
        if move is None:
            return
        if move.next is not self.state:
            self.state, self.since = move.next, now
            self._overdue_at = None
        if Action.ABORT in move.actions:
            self._overdue_at = now + self.spec.dump_time
        elif move.next is State.STOPPING:
            self._overdue_at = now + self.spec.stop_timeout
        elif move.next in SWEEPING:
            self._overdue_at = now + _SWEEP_TIME
        for action in move.actions:
            self._act(action, event, now)
        self.changed(self)

    def _act(self, action: Action, event: Event, now: float) -> None:
        process = self.launched.process
        if action is Action.SPAWN:
            self._spawn(now)
        elif action is Action.ABORT:
            self._abort(event, now)
        elif action is Action.ASK_TO_DRAIN:
            self._drain(now)
        elif action is Action.ASK_TO_END:
            if self.spec.own:
                self._close_link()
            elif process is not None:
                process.signal(self.spec.stop_signal)
                process.signal(signal.SIGCONT)  # one that was stopped could not obey
        elif action is Action.KILL:
            self._kill()
        elif action is Action.BURY:
            if self.launched.output is not None and self.launched.output.dropped:
                self._events.say("output_dropped", child=self.name, bytes=self.launched.output.dropped)
            self._let_go()
            self.buried(self)
        elif action is Action.RESTART:
            ready_for = self._ready_until - self._ready_at if self._ready_at else 0.0
            delay = self.restarts.delay(ready_for, self._draw(), now)
            self.due = now + delay
            self._events.say("child_restart", child=self.name, after=f"{delay:.1f}s", in_a_row=self.restarts.in_a_row)

    def _abort(self, event: Event, now: float) -> None:
        if event is Event.LATE:
            waited = now - (self._pinged if self.spec.own else self.since_start)
            self._hung = f"not READY in {round(waited, 1):g} s"
            self._events.say("child_late", child=self.name, pid=self.pid, after=f"{waited:.1f}s")
        else:
            self._hung = f"hung: silent for {now - self._pinged:.0f} s"
            self._events.say("child_hung", child=self.name, pid=self.pid, silent_for=f"{now - self._pinged:.1f}s")
        self.last_words = self._hung
        if self.launched.process is not None:
            self.launched.process.signal(signal.SIGABRT)

    def _kill(self) -> None:
        if self.launched.group is not None:
            try:
                self.launched.group.kill()
            except OSError as error:
                self._events.say("cgroup_failed", child=self.name, reason=error)
        if self.launched.process is not None:
            self.launched.process.kill_tree(signal.SIGKILL)

    def _drain(self, now: float) -> None:
        self.drained = False
        limit = _HAND_OVER if self.spec.kind == "orchestrator" else self.drain_limit
        self._drained_at = None if limit is None else now + limit
        self._events.say("child_draining", child=self.name, pid=self.pid)
        method = "StepDown" if self.spec.kind == "orchestrator" else "Drain"
        self.ask(method, {"for_good": True}, self._has_drained)

    def _has_drained(self, _: dict[str, Any] | None) -> None:
        self.drained = True

    def limit_drain(self, now: float, seconds: float) -> None:
        """It drains already, and gets no longer than this from now on."""
        if self.state is State.DRAINING:
            until = now + seconds
            self._drained_at = until if self._drained_at is None else min(self._drained_at, until)

    # -- starting ---------------------------------------------------------------------------------

    since_start = 0.0

    def _spawn(self, now: float) -> None:
        self.incarnation = incarnation()
        self.fields = {}
        self._hung = ""
        self.since_start = self._pinged = self._probe_at = now
        self._late_at = now + self.spec.start_timeout
        self._ready_at = self._ready_until = 0.0
        try:
            self.launched = self._launcher.launch(self.spec, self.incarnation, self.lines)
        # A missing program or interpreter, no process or descriptor left, an argument that is none: the agent and
        # its other children go on, and it is tried again by the restart policy.
        except (OSError, ServerError, ValueError) as error:
            self.last_words = f"cannot start: {_reason(error)}"
            self._events.say("child_unstartable", child=self.name, reason=_reason(error))
            self.handle(Event.UNSTARTABLE, now)
            return
        self._events.say("child_started", child=self.name, pid=self.pid, incarnation=self.incarnation)
        if self.spec.ready == "running":
            self._ready(now)

    def _let_go(self) -> None:
        self._close_link()
        self.launched.close()

    def _close_link(self) -> None:
        self.launched.close_link()
        answers, self._answers = self._answers, deque()
        for answer in answers:
            answer(None)

    # -- what its descriptors say -----------------------------------------------------------------

    def exited(self, now: float) -> None:
        """Its pidfd is readable."""
        assert self.launched.process is not None
        status = self.launched.process.ended()
        if status is None:
            return
        self.notified(now)  # its last words may have arrived in the same moment
        if self._ready_at:
            self._ready_until = now
        words = self.fields.get("X_CHARGEHAND_ERROR", "")
        if self.launched.output is not None:
            self.launched.output.drain()
            if not words and self.spec.last_words:
                words = clean(self.launched.output.last_line(), 150)
        how = said(status)
        if not self.spec.own and not words:
            how += _SHELL_SAYS.get(status, "")
        self.last_words = self._hung or how + (f' "{words}"' if words else "")
        event = "child_stopped" if self.state is State.STOPPING else "child_ended"
        self._events.say(event, child=self.name, pid=self.pid, how=self.last_words)
        self.handle(Event.EXITED, now)

    def notified(self, now: float) -> None:
        """Its notify socket is readable."""
        if self.launched.receiver is None:
            return
        for message in self.launched.receiver.receive():
            if message.pid != self.pid:
                self._events.say("notify_from_stranger", child=self.name, pid=message.pid)
                continue
            self._pinged = now
            if self.spec.own:  # it may wait for Redis as long as it likes; only silence is late
                self._late_at = now + self.spec.start_timeout
            self._take_role(message.fields)
            self.fields |= message.fields
            if message.fields.get("READY") == "1":
                self._ready(now)
            if message.fields.get("WATCHDOG") == "trigger":
                self.handle(Event.SILENT, now)
            extension = message.fields.get("EXTEND_TIMEOUT_USEC", "")
            if extension.isdigit():
                self._late_at = max(self._late_at, now + int(extension) / 1e6)
            if message.fields.keys() - {"WATCHDOG"}:
                self.changed(self)
        self._look_at_memory(now)

    def _take_role(self, fields: dict[str, str]) -> None:
        role = fields.get("X_CHARGEHAND_ROLE", self.fields.get("X_CHARGEHAND_ROLE", ""))
        epoch = fields.get("X_CHARGEHAND_EPOCH", self.fields.get("X_CHARGEHAND_EPOCH", ""))
        before = self.fields.get("X_CHARGEHAND_ROLE"), self.fields.get("X_CHARGEHAND_EPOCH", "")
        if role and (role, epoch) != before:
            self._events.say("child_role", child=self.name, role=role, **({"epoch": epoch} if epoch else {}))

    def printed(self, now: float) -> None:
        """Its output is readable."""
        if self.launched.output is None:
            return
        meanings = [
            meaning
            for meaning, pattern in (
                ("ready", self.spec.ready_pattern),
                ("active", self.spec.role_active),
                ("passive", self.spec.role_passive),
            )
            if pattern
        ]
        before = self.launched.output.fileno()
        for place, _ in self.launched.output.receive():
            if meanings[place] == "ready":
                self._ready(now)
            else:
                self._take_role({"X_CHARGEHAND_ROLE": meanings[place]})
                self.fields["X_CHARGEHAND_ROLE"] = meanings[place]
                self.changed(self)
        if self.launched.output.fileno() != before:
            self.changed(self)  # it closed its output

    def _ready(self, now: float) -> None:
        if self.state is State.STARTING:
            self._ready_at = now
            self._events.say("child_ready", child=self.name, after=f"{now - self.since_start:.2f}s")
            self.handle(Event.NOTIFIED_READY, now)

    def heard(self) -> None:
        """Its link is readable, or takes more: answers, in the order of the requests."""
        link = self.launched.link
        if link is None:
            return
        link.flush()
        try:
            messages, ended = link.receive()
        except LinkError as error:
            self._events.say("link_broken", child=self.name, reason=error)
            messages, ended = [], True
        for message in messages:
            if self._answers:
                self._answers.popleft()(message)
        if ended:
            self._close_link()
            self.changed(self)

    def ask(self, method: str, parameters: dict[str, Any], answer: _Answer) -> None:
        """Send a request; `answer` gets the reply, or None when the child is gone before it came."""
        link = self.launched.link
        if link is None:
            answer(None)
            return
        self._answers.append(answer)
        link.send({"method": f"io.chargehand.Child.{method}", "parameters": parameters})
        if link.sending:
            self.changed(self)

    # -- time -------------------------------------------------------------------------------------

    @property
    def _watched(self) -> bool:
        return self.state in {State.READY, State.DRAINING} and self.spec.notifies and self.spec.watchdog > 0

    @property
    def _probed(self) -> bool:
        return self.state is State.STARTING and self._probe is not None

    def paused(self, now: float, seconds: float) -> None:
        """Nobody could hear it for so long: silence begins anew, and what is timed has that much longer."""
        self._pinged = now
        self._late_at += seconds
        if self._overdue_at is not None:
            self._overdue_at += seconds
        if self._drained_at is not None:
            self._drained_at += seconds

    def tick(self, now: float) -> None:
        """Whatever time brings."""
        if self.state is State.IDLE and self.may_start and now >= self.due:
            self.handle(Event.DUE, now)
        if self.state is State.STARTING and now >= self._late_at:
            self.handle(Event.LATE, now)
        if self._watched and now - self._pinged > self.spec.watchdog:
            self.handle(Event.SILENT, now)
        if self._probed and now >= self._probe_at:
            self._probe_at = now + _PROBE_EVERY
            assert self._probe is not None
            if self._probe():
                self._ready(now)
        if self._drained_at is not None and now >= self._drained_at:
            self.drained, self._drained_at = True, None
        if self._overdue_at is not None and now >= self._overdue_at:
            self._overdue_at = now + _SWEEP_TIME
            self.handle(Event.OVERDUE, now)
        if self.state is State.READY and self.restarts.in_a_row and now - self._ready_at > HEALTHY_AFTER:
            self.restarts.healthy()
            self.changed(self)
        if not self.spec.notifies:
            self._look_at_memory(now)

    def _look_at_memory(self, now: float) -> None:
        """Of one that pings when it pings, else on a grid: no wake-up is made for it."""
        if not self.spec.memory_max or self.state is not State.READY or now < self._look_at:
            return
        self._look_at = (now // _LOOK_EVERY + 1) * _LOOK_EVERY
        group = self.launched.group
        held = (group.memory() if group is not None else None) or tree.resident(self.pid)
        if held > self.spec.memory_max and not self.stale:
            self._events.say("child_over_memory", child=self.name, pid=self.pid, bytes=held, most=self.spec.memory_max)
            self.stale, self.over_memory = True, held
            self.changed(self)

    def swept(self, now: float) -> None:
        """Nothing that carries its mark lives; its process group and control group are looked at here."""
        process, group = self.launched.process, self.launched.group
        if (process is None or process.tree_gone()) and (group is None or group.empty()):
            self.handle(Event.SWEPT, now)

    def next_tick(self, now: float) -> float:
        """Seconds until time may bring something."""
        moments: list[float] = []
        if self.state is State.IDLE and self.may_start:
            moments.append(self.due)
        if self.state is State.STARTING:
            moments.append(self._late_at)
        if self._watched:
            moments.append(self._pinged + self.spec.watchdog + 0.001)
        if self._probed:
            moments.append(self._probe_at)
        if self._drained_at is not None:
            moments.append(self._drained_at)
        if self.sweeping and self.launched.group is None:
            moments.append(now + 0.01)  # the kernel tells nobody that a process group is empty
        if self._overdue_at is not None:
            moments.append(self._overdue_at)
        if self.state is State.READY and self.restarts.in_a_row:
            moments.append(self._ready_at + HEALTHY_AFTER + 0.001)
        if self.spec.memory_max and self.state is State.READY and not self.spec.notifies:
            moments.append(self._look_at)
        return max(0.0, min(moments, default=now + 3600.0) - now)

    # -- reporting --------------------------------------------------------------------------------

    def report(self, wall: Callable[[float], float]) -> ChildReport:
        """`wall`: the time of day of a monotonic one."""
        said_of = self.fields.get
        running = self.running
        busy = said_of("X_CHARGEHAND_LOAD", "").partition("/")[0] if running else ""
        return ChildReport(
            name=self.name,
            kind=self.spec.kind,
            ready=self.state is State.READY and not (running and said_of("X_CHARGEHAND_BARRED", "")),
            barred=said_of("X_CHARGEHAND_BARRED", "") if running else "",
            draining=self.state is State.DRAINING,
            has_role=self.spec.has_role,
            role=said_of("X_CHARGEHAND_ROLE", "") if running else "",
            epoch=said_of("X_CHARGEHAND_EPOCH", ""),
            holder=said_of("X_CHARGEHAND_HOLDER", ""),
            redis=said_of("X_CHARGEHAND_REDIS", ""),
            queued=said_of("X_CHARGEHAND_QUEUED", ""),
            share=said_of("X_CHARGEHAND_SHARE", ""),
            behind=said_of("X_CHARGEHAND_BEHIND", ""),
            busy=int(busy) if busy.isdigit() else 0,
            degraded=said_of("X_CHARGEHAND_DEGRADED", ""),
            crashes=self.restarts.in_a_row,
            crashed_since=wall(self.restarts.first_at) if self.restarts.in_a_row else 0.0,
            last_words=self.last_words,
        )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
