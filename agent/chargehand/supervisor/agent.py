"""The agent's loop: one thread, one selector; what happens next stands in the children's tables."""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import socket
import time
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

from chargehand.config.plain import to_builtins
from chargehand.config.settings import Settings
from chargehand.linux import tree
from chargehand.linux.parent import become_subreaper
from chargehand.notify import Notifier
from chargehand.supervisor.child import Child, Spec, notify_path, own_argv
from chargehand.supervisor.control import Control, socket_path
from chargehand.supervisor.deaths import Deaths
from chargehand.supervisor.life import Event, State
from chargehand.supervisor.memory import Memory, Notice
from chargehand.supervisor.server import Server
from chargehand.supervisor.sockets import checked
from chargehand.supervisor.status import NodeReport, is_ready, state_word, status_line

__all__ = ["Agent"]

log = logging.getLogger("chargehand.agent")

_ORCHESTRATOR_WATCHDOG = 3.0  # seconds; below the lease's ttl, so that a hung one is replaced before others take over
_WORKER_WATCHDOG = 30.0
_EXTEND = 10.0  # seconds that each EXTEND_TIMEOUT_USEC asks for
_SERVER_HEAD_START = 5.0  # seconds that the others wait for the embedded server at most
_SAVE_AGAIN = 10.0  # seconds until the state directory is tried again after it could not be written
_READ_WRITE = selectors.EVENT_READ | selectors.EVENT_WRITE


class Phase(IntEnum):
    """Of the agent's own life. Stopping goes through them in order."""

    RUNNING = 0
    STEPPING_DOWN = 1  # the lease goes to another node, before anything else
    DRAINING = 2  # workers finish what runs, up to `stop_timeout`
    ENDING_WORKERS = 3  # the orchestrator still lives, to hand on their death notices
    ENDING_ORCHESTRATOR = 4
    ENDING_SERVER = 5
    ENDED = 6


class Agent:
    def __init__(self, settings: Settings, notifier: Notifier, watchdog: float) -> None:
        """`watchdog`: seconds that systemd allows between two pings, 0 for none."""
        self._settings = settings
        self._notifier = notifier
        self._watchdog = watchdog / 3
        self._runtime_dir = Path(settings.agent.runtime_dir)
        self._runtime_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._memory = Memory(settings.agent.state_dir)
        self._deaths = Deaths(self._memory)
        self._started = time.monotonic()
        self._phase = Phase.RUNNING
        self._phase_until = 0.0
        self._draining: set[str] = set()
        self._ready = False
        self._told = ""
        self._told_at = 0.0
        self._status_due = True
        self._ping_at = 0.0
        self._extend_at = 0.0
        self._save_at = 0.0
        self._signals: list[int] = []
        self._selector = selectors.DefaultSelector()
        self._watched: dict[str, list[int]] = {}
        self._children = self._plan_children()
        self._control = Control(
            socket_path(settings.agent.runtime_dir), {"io.chargehand.Agent.Status": lambda _: self.describe()}
        )
        self._selector.register(self._control, selectors.EVENT_READ, self._accept)

    # -- what runs here ---------------------------------------------------------------------------

    def _plan_children(self) -> list[Child]:
        settings = self._settings
        given = to_builtins(settings)
        specs: list[Spec] = []
        if settings.redis.embedded:
            server = Server(settings.agent.state_dir, settings.agent.runtime_dir)
            given["redis"] |= {"url": server.url, "embedded": False}
            specs.append(Spec("redis", "redis", server.prepare, probe=server.answers, stop_time=10.0))
        if settings.orchestrator.enabled:
            argv = own_argv("orchestrator")
            specs.append(
                Spec("orchestrator", "orchestrator", lambda: argv, watchdog=_ORCHESTRATOR_WATCHDOG, stop_time=2.0)
            )
        for group in settings.worker:
            for index in range(1, group.processes + 1):
                name = group.name if group.processes == 1 else f"{group.name}-{index}"
                while any(name == spec.name for spec in specs):  # a group "orchestrator", or "a-1" beside two of "a"
                    name += "-worker"
                specs.append(_worker(name, group.name, index))
        children = []
        for spec in specs:
            if spec.own:
                checked(notify_path(self._runtime_dir, spec.name))
            child = Child(spec, self._runtime_dir, given, random.random)
            child.born, child.buried, child.changed = self._on_born, self._on_buried, self._on_changed
            children.append(child)
        return children

    def _on_born(self, child: Child) -> None:
        notice = Notice(child.incarnation, child.spec.kind, self._settings.node.name)
        pid = child.process.pid if child.process else 0
        self._memory.born(child.name, notice, pid, reported=child.spec.own)

    def _on_buried(self, child: Child) -> None:
        self._memory.died(child.name)

    def _on_changed(self, child: Child) -> None:
        self._status_due = True
        self._watch(child)

    def _watch(self, child: Child) -> None:
        """Have the selector look at exactly the descriptors that the child has now."""
        wanted: dict[int, Any] = {}
        if child.process is not None and child.running:
            wanted[child.process.pidfd] = child.exited
        if child.receiver is not None:
            wanted[child.receiver.fileno()] = child.notified
        if child.link is not None:
            wanted[child.link.fileno()] = lambda _: self._heard(child)
        for fd in self._watched.get(child.name, []):
            # Closed descriptors have left the kernel's set by themselves, but not the selector's.
            if fd in self._selector.get_map():
                self._selector.unregister(fd)
        for fd, handler in wanted.items():
            more = child.link is not None and fd == child.link.fileno() and child.link.sending
            self._selector.register(fd, _READ_WRITE if more else selectors.EVENT_READ, handler)
        self._watched[child.name] = list(wanted)

    def _heard(self, child: Child) -> None:
        sending = child.link is not None and child.link.sending
        child.heard()
        if child.link is None or child.link.sending is not sending:
            self._watch(child)

    def _accept(self, _: float) -> None:
        self._control.accept()
        for link in self._control.links:
            if link.fileno() not in self._selector.get_map():
                self._selector.register(link.fileno(), selectors.EVENT_READ, lambda _, link=link: self._answer(link))

    def _answer(self, link: Any) -> None:
        fd = link.fileno()
        self._control.serve(link)
        if link not in self._control.links:
            self._selector.unregister(fd)
        else:
            events = selectors.EVENT_WRITE if link.sending else selectors.EVENT_READ
            if self._selector.get_key(fd).events != events:
                self._selector.modify(fd, events, self._selector.get_key(fd).data)

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Until SIGTERM or SIGINT, and everything has ended."""
        become_subreaper()
        wake_read, wake_write = socket.socketpair()
        for end in (wake_read, wake_write):
            end.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda got, _: self._signals.append(got))
        self._selector.register(wake_read, selectors.EVENT_READ, lambda _: wake_read.recv(4096))
        first = time.monotonic()
        for child in self._children:
            child.due = first if child.spec.kind == "redis" else first + self._head_start
        while self._phase is not Phase.ENDED:
            self._turn()
        self._control.close()
        self._notifier.send("STATUS=stopped")
        log.info("agent_stopped")

    @property
    def _head_start(self) -> float:
        return _SERVER_HEAD_START if self._settings.redis.embedded else 0.0

    def _turn(self) -> None:
        now = time.monotonic()
        self._sweep(now)
        for child in self._children:
            if child.name in self._memory.previous:  # two servers would write to one set of files
                child.due = max(child.due, now + 0.1)
            if self._phase is not Phase.RUNNING and child.spec.own and child.state is State.IDLE:
                child.handle(Event.STOP, now)  # what ends while we stop is not started again
            child.tick(now)
        self._release_others(now)
        self._reap_orphans()
        if self._memory.trouble and now >= self._save_at:
            self._save_at = now + _SAVE_AGAIN
            self._memory.save()
            self._status_due = True
        self._deaths.tick(now, self._children)
        self._stop_on(now)
        self._tell(now)
        if self._phase is Phase.ENDED:
            return
        for key, _ in self._selector.select(self._sleep(now)):
            key.data(time.monotonic())
        while self._signals:
            self._on_signal(self._signals.pop(0), time.monotonic())

    def _sleep(self, now: float) -> float:
        times = [child.next_tick(now) for child in self._children]
        times.append(self._deaths.next_tick(now))
        if self._watchdog:
            times.append(self._ping_at - now)
        if not self._ready:
            times.append(min(1.0, max(0.0, self._started + self._settings.agent.ready_timeout - now)) + 0.001)
        if self._status_due:
            times.append(max(0.0, self._told_at + 1.0 - now))
        if self._memory.previous:
            times.append(0.1)
        if self._memory.trouble:
            times.append(self._save_at - now)
        if self._phase is not Phase.RUNNING:
            times.append(min(0.2, max(0.0, self._phase_until - now)))
        return max(0.0, min(times, default=3600.0))

    def _release_others(self, now: float) -> None:
        """Once the embedded server answers, nobody needs to wait for it."""
        if not self._settings.redis.embedded:
            return
        server = self._children[0]
        if server.state is State.READY:
            for child in self._children[1:]:
                waits = child.state is State.IDLE and child.name not in self._memory.previous
                if waits and not child.restarts.total and child.due > now:
                    child.due = now

    def _reap_orphans(self) -> None:
        """We are the subreaper: what a dead child left behind ends as our zombie."""
        ours = {child.process.pid for child in self._children if child.process is not None}
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in ours:
                return  # one of ours is reaped where its status is read
            os.waitpid(found.si_pid, os.WNOHANG)

    def _sweep(self, now: float) -> None:
        """End what is left of children that died, of ours and of the agent before us; then their death counts.

        One look at all processes serves every one of them.
        """
        dead = [child for child in self._children if child.sweeping]
        previous = dict(self._memory.previous)
        if not dead and not previous:
            return
        left = tree.marked({one.incarnation for one in dead} | {one.notice.incarnation for one in previous.values()})
        lost = [one.pid for one in previous.values() if one.lives()]  # a server writes over its environment: no mark
        for pid in {*left, *lost}:
            tree.kill(pid)
        alive = set(left.values())
        for child in dead:
            if child.incarnation not in alive:
                child.swept(now)
        for name, remembered in previous.items():
            if remembered.notice.incarnation not in alive and not remembered.lives():
                log.info("previous_gone incarnation=%s", remembered.notice.incarnation)
                self._memory.buried(name)

    # -- stopping ---------------------------------------------------------------------------------

    def _on_signal(self, number: int, now: float) -> None:
        if number == signal.SIGHUP:
            log.warning("reload_unsupported hint=restart the service to take a changed configuration")
            return
        if self._phase is not Phase.RUNNING:
            return  # a second request changes nothing: what runs still gets its time
        log.info("agent_stopping signal=%s", signal.Signals(number).name)
        self._notifier.send("STOPPING=1")
        self._status_due = True
        self._told_at = 0.0
        self._enter(Phase.STEPPING_DOWN, now, 1.0)
        stepping = [child for child in self._of("orchestrator") if child.link is not None]
        self._draining = {child.name for child in stepping}
        for child in stepping:
            child.ask("StepDown", {}, partial(self._done, child.name))

    def _done(self, name: str, _: dict[str, Any] | None) -> None:
        self._draining.discard(name)

    def _of(self, kind: str) -> list[Child]:
        return [child for child in self._children if child.spec.kind == kind]

    def _enter(self, phase: Phase, now: float, allowed: float) -> None:
        self._phase = phase
        self._phase_until = now + allowed

    def _stop_on(self, now: float) -> None:
        """Go to the next phase of stopping when this one is done, or its time is over."""
        while self._phase is not Phase.RUNNING and self._phase is not Phase.ENDED:
            over = now >= self._phase_until
            if self._phase is Phase.STEPPING_DOWN and (over or not self._draining):
                self._drain(now)
            elif self._phase is Phase.DRAINING and (over or not self._draining):
                self._end("worker", Phase.ENDING_WORKERS, now)
            elif self._phase is Phase.ENDING_WORKERS and self._gone("worker") and (over or self._deaths.hopeless):
                self._end("orchestrator", Phase.ENDING_ORCHESTRATOR, now)
            elif self._phase is Phase.ENDING_ORCHESTRATOR and self._gone("orchestrator"):
                self._end("redis", Phase.ENDING_SERVER, now)
            elif self._phase is Phase.ENDING_SERVER and self._gone("redis"):
                self._phase = Phase.ENDED
            else:
                return

    def _drain(self, now: float) -> None:
        self._enter(Phase.DRAINING, now, float(self._settings.agent.stop_timeout))
        workers = [child for child in self._of("worker") if child.state is State.READY]
        self._draining = {child.name for child in workers}
        for child in workers:
            child.ask("Drain", {}, partial(self._done, child.name))
        for child in self._of("worker"):
            if child.state is not State.READY:
                child.handle(Event.STOP, now)

    def _end(self, kind: str, phase: Phase, now: float) -> None:
        # Notices of what ended with work in hand get this long to be taken; what is left waits for our successor.
        self._enter(phase, now, 6.0 if kind == "worker" else 12.0)
        for child in self._of(kind):
            child.handle(Event.STOP, now)

    def _gone(self, kind: str) -> bool:
        return all(child.state is State.STOPPED for child in self._of(kind))

    # -- telling ----------------------------------------------------------------------------------

    def _report(self, now: float) -> NodeReport:
        return NodeReport(
            children=[child.report() for child in self._children],
            embedded=self._settings.redis.embedded,
            waited=now - self._started,
            ready_timeout=float(self._settings.agent.ready_timeout),
            was_ready=self._ready,
            stopping=self._phase is not Phase.RUNNING,
            trouble=self._memory.trouble,
        )

    def _tell(self, now: float) -> None:
        lines: list[str] = []
        report = self._report(now)
        if not self._ready and self._phase is Phase.RUNNING and is_ready(report):
            self._ready = True
            self._status_due = True
            self._told_at = 0.0
            report = self._report(now)
            lines.append("READY=1")
            log.info("agent_ready after=%.2fs state=%s", now - self._started, state_word(report))
        if (self._status_due and now - self._told_at >= 1.0) or not self._told:
            self._status_due = False
            line = status_line(report)
            if line != self._told:
                self._told, self._told_at = line, now
                lines.append(f"STATUS={line}")
        # Only before READY and after STOPPING: it moves the watchdog's deadline too.
        if (not self._ready or self._phase is not Phase.RUNNING) and now >= self._extend_at:
            self._extend_at = now + _EXTEND / 3
            lines.append(f"EXTEND_TIMEOUT_USEC={round(_EXTEND * 1_000_000)}")
        if self._watchdog and now >= self._ping_at:
            self._ping_at = now + self._watchdog
            lines.append("WATCHDOG=1")
        self._notifier.send(*lines)

    def describe(self) -> dict[str, Any]:
        """For the control socket."""
        now = time.monotonic()
        report = self._report(now)
        wall = time.time()
        return {
            "node": self._settings.node.name,
            "executor": self._settings.executor.name,
            "pid": os.getpid(),
            "state": state_word(report),
            "status": status_line(report),
            "children": [
                {
                    "name": child.name,
                    "kind": child.spec.kind,
                    "state": child.state.value,
                    "pid": child.process.pid if child.process is not None else None,
                    "incarnation": child.incarnation,
                    "since": round(wall - (now - child.since), 3),
                    "restarts": child.restarts.total,
                    "role": one.role,
                    "epoch": one.epoch,
                    "holder": one.holder,
                    "load": child.fields.get("X_CHARGEHAND_LOAD", ""),
                    "degraded": one.degraded,
                    "last_words": child.last_words,
                }
                for child, one in zip(self._children, report.children, strict=True)
            ],
        }


def _worker(name: str, group: str, index: int) -> Spec:
    return Spec(
        name,
        "worker",
        lambda: own_argv("worker", "--group", group),
        environment={"CHARGEHAND_GROUP": group, "CHARGEHAND_INDEX": str(index)},
        watchdog=_WORKER_WATCHDOG,
        stop_time=3.0,
    )
