"""The agent's loop: one thread, one selector. What happens next stands in the children's tables and the roster."""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from contextlib import suppress
from enum import IntEnum
from functools import partial
from pathlib import Path

from chargehand.config.changes import restart_keys
from chargehand.config.settings import Settings
from chargehand.linux.cgroup import Delegation
from chargehand.linux.parent import become_subreaper
from chargehand.notify import Notifier
from chargehand.supervisor.child import Child
from chargehand.supervisor.control import Connection, Control, socket_path
from chargehand.supervisor.deaths import Deaths
from chargehand.supervisor.drain import Drain, kept_drain
from chargehand.supervisor.events import Events
from chargehand.supervisor.launch import Launcher, notify_path
from chargehand.supervisor.life import Event, State
from chargehand.supervisor.memory import Memory
from chargehand.supervisor.output import Outlet
from chargehand.supervisor.reading import Reading, Refused
from chargehand.supervisor.requests import Requests
from chargehand.supervisor.roster import Do, next_moves, roster, starts_after, wanted_while_drained
from chargehand.supervisor.server import Server
from chargehand.supervisor.shutdown import SystemState
from chargehand.supervisor.sockets import checked
from chargehand.supervisor.spec import Spec
from chargehand.supervisor.status import NodeReport, state_word
from chargehand.supervisor.sweeper import Sweeper
from chargehand.supervisor.telling import Telling
from chargehand.supervisor.watch import Ear, Watch

__all__ = ["Agent"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SAVE_AGAIN = 10.0  # seconds until the state directory is tried again after it could not be written
#: Of ours, while they import: with many at once none is soon ready, and the orchestrator comes first.
_BEGIN_AT_ONCE = (os.cpu_count() or 1) + 2
_BEGINNING = 1.0  # seconds that one counts, if it is not READY before
_PAUSE = 1.0  # seconds: a loop that turns so much later than it wanted to was not running
_REMEMBERED = 60.0  # seconds that dropped output is told
_NOTICES = 6.0  # seconds that death notices get at a stop; what is left waits for our successor
_LONGEST_INCARNATION = "0" * 16


class Phase(IntEnum):
    """Of the agent's own life."""

    RUNNING = 0
    STOPPING = 1  # nothing is wanted any more
    ENDED = 2


class Agent:
    def __init__(
        self,
        settings: Settings,
        config: str | None,
        *,
        notifier: Notifier,
        watchdog: float,
        events: Events,
        outlet: Outlet,
    ) -> None:
        """`watchdog`: seconds that systemd allows between two pings, 0 for none.

        Raises `OSError`, `StateDirTaken`, `ControlError`, `SocketPathTooLong`.
        """
        self.settings = settings
        self.events = events
        self.started = time.monotonic()
        self._config = config
        self._telling = Telling(notifier, watchdog)
        self._outlet = outlet
        self._runtime_dir = Path(settings.agent.runtime_dir)
        self._runtime_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._memory = Memory(settings.agent.state_dir, events)
        self._deaths = Deaths(self._memory, events)
        self._sweeper = Sweeper(self._memory, events)
        self._server = Server(settings.agent.state_dir, settings.agent.runtime_dir) if settings.redis.embedded else None
        self._delegation = self._divide()
        self._launcher = Launcher(
            node=settings.node.name,
            runtime_dir=self._runtime_dir,
            memory=self._memory,
            outlet=outlet,
            delegation=self._delegation,
            server=self._server,
            events=events,
        )
        self.drain: Drain | None = kept_drain(self._memory)
        self._drained_told = False
        self._phase = Phase.RUNNING
        self._notices_until: float | None = None
        self._moves_due = True
        self._wakes_at = math.inf  # when the loop turns next by itself
        self._held_back = False
        self._broken_told = ""
        self._save_at = 0.0
        self._dropped = 0  # bytes of output, when it was looked at last
        self._dropped_until = 0.0  # it is told until then
        self._signals: list[int] = []
        self._reading: Reading | None = None
        self._read_again = False
        self._rejected = ""
        self._system: SystemState | None = None
        self._watch = Watch()
        self._keys = 0
        self.children: list[Child] = []
        self._specs: list[Spec] = []
        self._adopt(settings)
        self.requests = Requests(self)
        self._control = Control(socket_path(settings.agent.runtime_dir), self.requests.serve, self._watch_connections)
        self._watch.set(self._control, {self._control.fileno(): Ear(lambda _: self._control.accept())})

    def _divide(self) -> Delegation | None:
        """Take possession of our control group, if it is ours."""
        found = Delegation.find()
        if found is None:
            return None
        try:
            found.settle()
        except OSError as error:
            self.events.say("cgroup_failed", reason=error)
            return None
        for stubborn in found.clear():
            self.events.say("cgroup_failed", reason=f"{stubborn} is not empty after SIGKILL")
        return found

    # -- what is wanted ---------------------------------------------------------------------------

    def _adopt(self, settings: Settings) -> list[str]:
        """Take these settings. The names of the children that this changes."""
        before = {spec.name: spec for spec in self._specs}
        specs = roster(settings, self._server.url if self._server is not None else "")
        for spec in specs:
            if spec.notifies:
                checked(notify_path(self._runtime_dir, spec.name, _LONGEST_INCARNATION))
        self.settings, self._specs = settings, specs
        self.changed()
        after = {spec.name: spec for spec in specs}
        return [name for name in {**before, **after} if before.get(name) != after.get(name)]

    @property
    def wanted(self) -> list[Spec]:
        if self._phase is not Phase.RUNNING:
            return []
        return self._specs if self.drain is None else wanted_while_drained(self._specs)

    def changed(self) -> None:
        """What is wanted, or what is there, is not what it was."""
        self._moves_due = True
        self._telling.changed()

    def _move(self, now: float) -> None:
        """Bring what runs to what is wanted."""
        while self._moves_due:
            self._moves_due = False
            for child in [one for one in self.children if one.state is State.STOPPED]:
                self._watch.set(child, {})
                self.children.remove(child)
            children = {child.key: child for child in self.children}
            for move in next_moves(
                self.wanted,
                [child.present for child in self.children],
                notices_settled=self._notices_settled(now),
            ):
                if move.do is Do.START:
                    assert move.spec is not None
                    self._add(move.spec, now)
                elif move.do is Do.DRAIN:
                    child = children[move.key]
                    child.drain_limit = self._drain_limit(child)
                    child.handle(Event.DRAIN, now)
                else:
                    children[move.key].handle(Event.STOP, now)
        self._admit(now)

    def _admit(self, now: float) -> None:
        """Who may start when its time has come: what it comes after is there, and not too many begin at once."""
        wanted = {spec.name: spec for spec in self.wanted}
        past = {child.name for child in self.children if child.state is State.READY or child.restarts.total}
        begin = [child for child in self.children if child.spec.own and child.state is State.STARTING]
        room = _BEGIN_AT_ONCE - sum(now - child.since < _BEGINNING for child in begin)
        self._held_back = False
        for child in self.children:
            if child.state is not State.IDLE:
                continue
            waits = starts_after(child.spec, wanted) - past
            child.may_start = not waits and not self._has_predecessor(child.name)
            if child.may_start and child.spec.own and child.due <= now:
                room -= 1
                child.may_start = room >= 0
                self._held_back |= room < 0

    def _add(self, spec: Spec, now: float) -> None:
        self._keys += 1
        probe = self._server.answers if spec.kind == "redis" and self._server is not None else None
        child = Child(self._keys, spec, self._launcher, self.events, _draw, probe)
        child.since = child.due = now
        child.buried, child.changed = self._on_buried, self._on_changed
        self.children.append(child)
        self._moves_due = True

    def _drain_limit(self, child: Child) -> float | None:
        """Seconds to finish what runs: without end, but when the node stops or the child grows."""
        if self._phase is Phase.RUNNING and not child.over_memory:
            return None
        return float(self.settings.agent.stop_timeout)

    def _has_predecessor(self, name: str) -> bool:
        """One of the agent before us, not surely gone: two servers would write to one set of files."""
        return any(one.name in {name, ""} for one in self._memory.previous.values())

    def _notices_settled(self, now: float) -> bool:
        """A stop need not wait for what nobody can take now: our successor hands it on."""
        if not self._memory.notices or self._deaths.hopeless:
            return True
        if self._phase is Phase.RUNNING:
            return False
        if self._notices_until is None:
            self._notices_until = now + _NOTICES
        return now >= self._notices_until

    def _on_buried(self, child: Child) -> None:
        self._memory.died(child.incarnation)

    def _on_changed(self, child: Child) -> None:
        self.changed()
        self._watch.set(child, self._ears(child))

    # -- descriptors ------------------------------------------------------------------------------

    def _ears(self, child: Child) -> dict[int, Ear]:
        launched = child.launched
        ears: dict[int, Ear] = {}
        if launched.process is not None and child.running:
            ears[launched.process.pidfd] = Ear(child.exited)
        if launched.receiver is not None:
            ears[launched.receiver.fileno()] = Ear(child.notified)
        if launched.output is not None and launched.output.fileno() >= 0:
            ears[launched.output.fileno()] = Ear(child.printed)
        if launched.link is not None:
            ears[launched.link.fileno()] = Ear(lambda _: self._heard(child), writing=launched.link.sending)
        return ears

    def _heard(self, child: Child) -> None:
        sending = child.launched.link is not None and child.launched.link.sending
        child.heard()
        self._moves_due = True  # an answer may be that it has drained
        if child.launched.link is None or child.launched.link.sending is not sending:
            self._on_changed(child)

    def _watch_connections(self) -> None:
        self._watch.set(
            self.requests,
            {
                one.fileno(): Ear(partial(self._turn_connection, one), reading=one.hearing, writing=one.sending)
                for one in self._control.connections
            },
        )

    def _turn_connection(self, connection: Connection, _: float) -> None:
        connection.turn()
        self._watch_connections()

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Until SIGTERM or SIGINT, and everything has ended."""
        if self._delegation is not None:
            delegation = self._delegation
            self._watch.set(delegation, {delegation.fileno(): Ear(lambda _: delegation.changed())})
        else:
            become_subreaper()
        wake_read, wake_write = socket.socketpair()
        for end in (wake_read, wake_write):
            end.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda got, _: self._signals.append(got))
        self._watch.set(wake_read, {wake_read.fileno(): Ear(lambda _: wake_read.recv(4096))})
        self._wake = wake_read
        while self._phase is not Phase.ENDED:
            self._turn()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # there is nothing left to stop
        for asked in (self._reading, self._system):  # what they ask for matters no more, and they end with us
            if asked is not None:
                asked.give_up()
        self._control.close()
        self._telling.stopped()
        self.events.say("agent_stopped")

    def _turn(self) -> None:
        now = time.monotonic()
        if now > self._wakes_at + _PAUSE:
            # We were frozen, as a whole machine may be: what we did not hear meanwhile, nobody failed to say.
            for child in self.children:
                child.paused(now, now - self._wakes_at)
        if self._sweeper.sweep(self.children, self._known(), now):
            self._moves_due = True
        self._move(now)
        for child in self.children:
            child.tick(now)
        self._move(now)
        self._sweeper.reap(self._known())
        if self._memory.trouble and now >= self._save_at:
            self._save_at = now + _SAVE_AGAIN
            self._memory.retry()
            self._telling.changed()
        if self._outlet.dropped != self._dropped:
            self._dropped, self._dropped_until = self._outlet.dropped, now + _REMEMBERED
            self._telling.changed()
        elif self._dropped_until and now >= self._dropped_until:
            self._dropped_until = 0.0
            self._telling.changed()
        self._deaths.tick(now, self.children)
        if self._phase is Phase.STOPPING:
            self._moves_due = True
            self._move(now)
            if not self.children:
                self._phase = Phase.ENDED
        self.requests.tick()
        self._tell(now)
        if self._phase is Phase.ENDED:
            return
        patience = self._sleep(now)
        self._wakes_at = time.monotonic() + patience
        self._watch.turn(patience)
        while self._signals:
            self._on_signal(self._signals.pop(0), time.monotonic())
        if self._reading is not None and time.monotonic() >= self._reading.until:
            self._reading.give_up()

    def _sleep(self, now: float) -> float:
        if self._moves_due:
            return 0.0
        times = [child.next_tick(now) for child in self.children]
        times.append(self._deaths.next_tick(now))
        times += self._telling.next(now)
        if not self._telling.ready:
            times.append(min(1.0, max(0.0, self.started + self.settings.agent.ready_timeout - now)) + 0.001)
        if self._memory.previous or self._held_back:
            times.append(0.1)
        if self._dropped_until:
            times.append(self._dropped_until - now)
        if self._memory.trouble:
            times.append(self._save_at - now)
        if self._reading is not None:
            times.append(self._reading.until - now)
        if self._phase is not Phase.RUNNING:
            times.append(0.2)
        return max(0.0, min(times, default=3600.0))

    def _known(self) -> set[int]:
        """Processes that are ours by name, not by inheritance."""
        known = {child.pid for child in self.children}
        known.update(one.pid for one in (self._reading, self._system) if one is not None)
        return known

    # -- signals ----------------------------------------------------------------------------------

    def _on_signal(self, number: int, now: float) -> None:
        if number == signal.SIGHUP:
            self.requests.reload_on_signal()
        elif self._phase is Phase.RUNNING:  # a second request changes nothing: what runs still gets its time
            self._stop(signal.Signals(number).name, now)

    def _stop(self, why: str, now: float) -> None:
        self._phase = Phase.STOPPING
        self.events.say("agent_stopping", signal=why)
        self.changed()
        self._telling.stopping()
        for child in self.children:
            child.limit_drain(now, float(self.settings.agent.stop_timeout))
        if "INVOCATION_ID" in os.environ:
            try:
                self._system = SystemState()
            except OSError:
                return
            self._watch.set(self._system, {self._system.fileno(): Ear(self._on_system_state)})

    def _on_system_state(self, now: float) -> None:
        assert self._system is not None
        self._watch.set(self._system, {})
        if self._system.stopping():
            limit = min(float(self.settings.agent.shutdown_timeout), float(self.settings.agent.stop_timeout))
            self.events.say("agent_stopping", system="shutdown", stop_timeout=f"{limit:g}s")
            for child in self.children:
                child.limit_drain(now, limit)
        self._system = None

    # -- reload -----------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        return self._phase is not Phase.RUNNING

    @property
    def journal(self) -> bool:
        """The children's output is in the journal."""
        return self._outlet.journal

    def reload(self) -> None:
        """Read the configuration again; `requests` hears the outcome. A request during one means one more."""
        if self._reading is not None:
            self._read_again = True
            return
        self._telling.reloading(time.monotonic_ns() // 1000)
        try:
            self._reading = Reading(self._config)
        except OSError as error:
            self._reject([f"the configuration could not be read: {error}"])
            return
        self._watch.set(self._reading, {self._reading.fileno(): Ear(self._on_read)})

    def _on_read(self, _: float) -> None:
        reading = self._reading
        assert reading is not None
        if not reading.receive():
            return
        self._watch.set(reading, {})
        self._reading = None
        if self._read_again:
            self._read_again = False
            reading.give_up()
            with suppress(Refused):
                reading.settings()
            self.reload()
            return
        try:
            settings = reading.settings()
            keys = restart_keys(self.settings, settings)
            if keys:
                raise Refused([f"{key}: a change of it needs a restart: systemctl restart chargehand" for key in keys])
            before = self.settings
            try:
                changed = self._adopt(settings)
            except ValueError as error:
                self._adopt(before)
                raise Refused([str(error)]) from error
        except Refused as refused:
            self._reject(refused.problems)
        else:
            self._rejected = ""
            self.events.say("config_adopted", changed=",".join(changed) or "nothing")
            self._reloaded()
            self.requests.reloaded(changed, [])

    def _reject(self, problems: list[str]) -> None:
        self._rejected = f"reload rejected: {problems[0]}"
        self.events.say("config_rejected", reason=problems[0], problems=len(problems))
        self._reloaded()
        self.requests.reloaded([], problems)

    def _reloaded(self) -> None:
        self.changed()
        self._telling.reloaded(time.monotonic(), self.report())

    # -- drain ------------------------------------------------------------------------------------

    def start_drain(self, drain: Drain) -> None:
        """Raises `OSError` when it could not be kept over a restart; then nothing is drained."""
        self._memory.keep_drain(drain.encoded())
        self.drain = drain
        self._drained_told = False
        self.events.say("drain_begun", by=drain.by, **({"reason": drain.reason} if drain.reason else {}))
        self.changed()

    def end_drain(self, by: str) -> None:
        """Raises `OSError`."""
        self._memory.forget_drain()
        self.drain = None
        self.events.say("undrained", by=by)
        self.changed()

    # -- telling ----------------------------------------------------------------------------------

    def wall(self, moment: float) -> float:
        """The time of day of a monotonic time."""
        return time.time() - (time.monotonic() - moment)

    def report(self) -> NodeReport:
        dropped = f"{self._dropped} bytes of output dropped: nobody reads it" if self._dropped_until else ""
        troubles = [self._memory.trouble, self._rejected, dropped]
        return NodeReport(
            children=[child.report(self.wall) for child in self.children],
            embedded=self.settings.redis.embedded,
            waited=time.monotonic() - self.started,
            ready_timeout=float(self.settings.agent.ready_timeout),
            was_ready=self._telling.ready,
            stopping=self.stopping,
            drain=str(self.drain) if self.drain is not None else "",
            troubles=[one for one in troubles if one],
        )

    def _tell(self, now: float) -> None:
        if not self._telling.due(now, stopping=self.stopping):
            return
        report = self.report()
        broken = self._broken()
        if broken != self._broken_told:  # once for each, not with every status
            self._broken_told = broken
            if broken:
                self.events.say("agent_broken", reason=broken)
        was_ready = self._telling.ready
        self._telling.tell(now, report, broken)
        if self._telling.ready and not was_ready:
            self.events.say("agent_ready", after=f"{now - self.started:.2f}s", state=state_word(report))
        if report.drained and not self._drained_told:
            self._drained_told = True
            self.events.say("drained", by=self.drain.by if self.drain is not None else "")

    def _broken(self) -> str:
        """What must hold while this loop turns, and does not: then only a restart helps. Empty: all is well."""
        if not self._watch.hears(self._control.fileno()) or not self._watch.hears(self._wake.fileno()):
            return "the control socket or the signals are not heard"
        for child in self.children:
            process = child.launched.process
            if child.running and (process is None or not self._watch.hears(process.pidfd)):
                return f"the end of {child.name} would not be noticed"
        return ""


def _draw() -> float:
    """Evenly from [0, 1), for jitter. (The module `random` costs 0.2 MiB.)"""
    return int.from_bytes(os.urandom(6), "big") / (1 << 48)
