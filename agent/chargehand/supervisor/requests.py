"""What is done when somebody asks on the control socket. Every act leaves an audit line that names who asked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from chargehand import __version__
from chargehand.config.settings import Settings
from chargehand.linux import tree
from chargehand.linux.capabilities import may_change_user
from chargehand.supervisor.child import Child
from chargehand.supervisor.control import Call, ControlError
from chargehand.supervisor.drain import Drain
from chargehand.supervisor.events import Events
from chargehand.supervisor.interface import NAME
from chargehand.supervisor.life import State
from chargehand.supervisor.roster import answers_to, unsettled
from chargehand.supervisor.spec import Spec
from chargehand.supervisor.status import NodeReport, state_word, status_causes, status_line

__all__ = ["Requests"]

_LINES = 50  # of each child, when nobody says how many
_AGAIN_AND_AGAIN = 3  # crashes in a row
_READS = {"Status", "Events", "Logs"}


class Agent(Protocol):
    """What requests need of the agent."""

    settings: Settings
    events: Events
    children: list[Child]
    drain: Drain | None
    started: float  # monotonic

    @property
    def wanted(self) -> list[Spec]: ...
    @property
    def stopping(self) -> bool: ...
    @property
    def journal(self) -> bool: ...
    def report(self) -> NodeReport: ...
    def wall(self, moment: float) -> float: ...
    def changed(self) -> None: ...
    def reload(self) -> None: ...
    def start_drain(self, drain: Drain) -> None: ...
    def end_drain(self, by: str) -> None: ...


class _Followed(Struct):
    """Somebody who asked with more is answered whenever there is something new, until all is done."""

    call: Call
    look: Callable[[], tuple[dict[str, Any], bool]]  # the answer as it is now, and whether it is the last
    told: dict[str, Any] | None = None


class Requests:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._reloads: list[tuple[Call | None, bool]] = []  # who waits for a reload, and whether workers are replaced
        self._followed: list[_Followed] = []
        self._listening: list[Call] = []  # to events
        self._methods: dict[str, Callable[[Call], None]] = {
            "Status": self._status,
            "Reload": self._reload,
            "Restart": self._restart,
            "StepDown": self._step_down,
            "Drain": self._drain,
            "Undrain": self._undrain,
            "Events": self._events,
            "Logs": self._logs,
        }

    def serve(self, call: Call) -> None:
        """Answer now or later. Raises `ControlError`: refused, and why."""
        found = self._methods.get(call.method)
        if found is None:
            call.fail("org.varlink.service.MethodNotFound", method=f"{NAME}.{call.method}"[:100])
            return
        if call.method not in _READS:
            what = " ".join(f"{name}={value}" for name, value in call.parameters.items())
            self._agent.events.say("request", method=call.method, by=call.actor, pid=call.pid, what=what)
        try:
            found(call)
        except ControlError as error:
            self._agent.events.say("request_refused", method=call.method, by=call.actor, reason=error)
            raise

    def tick(self) -> None:
        """Tell those who follow something what is new of it."""
        for one in list(self._followed):
            self._tell(one)
        for call in [one for one in self._listening if one.gone]:
            self._listening.remove(call)

    def _follow(self, call: Call, look: Callable[[], tuple[dict[str, Any], bool]]) -> None:
        one = _Followed(call, look)
        self._followed.append(one)
        self._tell(one)

    def _tell(self, one: _Followed) -> None:
        answer, last = one.look()
        if last or one.call.gone:
            self._followed.remove(one)
        if not one.call.gone and (last or answer != one.told):
            one.call.reply(answer, last=last)
            one.told = answer

    def _follow_change(self, call: Call, answer: dict[str, Any], names: list[str]) -> None:
        """Answer now, or for one who asked with more until these children are what is wanted."""

        def look() -> tuple[dict[str, Any], bool]:
            children = self._agent.children
            # An agent that stops brings nothing into place any more: its end is the last answer.
            stopping = self._agent.stopping
            left = names if stopping else unsettled(names, self._agent.wanted, [one.present for one in children])
            failing = {child.name for child in children if child.restarts.in_a_row >= _AGAIN_AND_AGAIN}
            crashing = [name for name in left if name in failing]
            return {**answer, "left": left, "crashing": crashing}, not left

        if call.more:
            self._follow(call, look)
        else:
            call.reply(answer)

    # -- reading ----------------------------------------------------------------------------------

    def _status(self, call: Call) -> None:
        call.reply(self.describe())

    def describe(self) -> dict[str, Any]:
        agent = self._agent
        report = agent.report()
        drain = agent.drain
        current = {spec.name: spec for spec in agent.wanted}
        return {
            "node": agent.settings.node.name,
            "executor": agent.settings.executor.name,
            "version": __version__,
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "gids": [os.getegid()],
            "may_change_user": may_change_user(),
            "started": round(agent.wall(agent.started), 3),
            "state": state_word(report),
            "status": status_line(report),
            "degraded": status_causes(report),
            "drain": {"by": drain.by, "since": drain.since, "reason": drain.reason} if drain is not None else None,
            "children": [
                {
                    "name": child.name,
                    "kind": child.spec.kind,
                    "group": child.spec.crew,
                    "state": child.state.value,
                    "pid": child.pid or None,
                    "incarnation": child.incarnation,
                    "since": round(agent.wall(child.since), 3),
                    "restarts": child.restarts.total,
                    "crashes": child.restarts.in_a_row,
                    "crashed_since": one.crashed_since or None,
                    "role": one.role,
                    "epoch": one.epoch,
                    "holder": one.holder,
                    "load": child.fields.get("X_CHARGEHAND_LOAD", ""),
                    "memory": self._memory(child),
                    "status": child.fields.get("STATUS", ""),
                    "degraded": one.degraded,
                    "last_words": child.last_words,
                    "replacing": current.get(child.name) != child.spec or child.stale,
                }
                for child, one in zip(agent.children, report.children, strict=True)
            ],
        }

    def _memory(self, child: Child) -> int | None:
        group = child.launched.group
        return (group.memory() if group is not None else None) or tree.resident(child.pid) or None

    def _events(self, call: Call) -> None:
        if not call.more:
            raise ControlError('events are followed: ask with "more"')
        listeners = self._agent.events.listeners

        def tell(event: dict[str, Any]) -> None:
            if call.gone:
                listeners.remove(tell)
            else:
                call.reply({"event": event}, last=False)

        listeners.append(tell)
        self._listening.append(call)

    def _logs(self, call: Call) -> None:
        name = call.text("child")
        lines = _LINES if (asked := call.parameters.get("lines")) is None else asked
        if not isinstance(lines, int) or lines < 0:
            raise ControlError(f"lines: found {lines!r}, expected a number")
        children = self._called(name) if name else self._agent.children
        found = []
        for child in children:
            found += [{"child": child.name, "text": text} for text in list(child.lines)[-lines:]] if lines else []
        call.reply({"journal": self._agent.journal, "lines": found})

    # -- acting -----------------------------------------------------------------------------------

    def _called(self, name: str) -> list[Child]:
        """Children of that name or group. Raises `ControlError`."""
        found = [child for child in self._agent.children if name and answers_to(child.spec, name)]
        if not found:
            names = sorted({child.name for child in self._agent.children})
            raise ControlError(f'there is no child "{name}" here; there are: {", ".join(names) or "none"}')
        return found

    def _reload(self, call: Call) -> None:
        workers = call.parameters.get("workers") or False
        self._refuse_while_stopping()
        self._reloads.append((call, bool(workers)))
        self._agent.reload()

    def reload_on_signal(self) -> None:
        """SIGHUP: nobody waits for the answer, STATUS has it."""
        if not self._agent.stopping:
            self._agent.events.say("request", method="Reload", by="SIGHUP")
            self._reloads.append((None, False))
            self._agent.reload()

    def reloaded(self, changed: list[str], problems: list[str]) -> None:
        """A reload is over: adopted, or refused for these problems."""
        reloads, self._reloads = self._reloads, []
        if not problems and any(workers for _, workers in reloads):
            for child in self._agent.children:
                if child.spec.kind == "worker":
                    child.stale = True
                    changed = [*changed, child.name] if child.name not in changed else changed
            self._agent.changed()
        for call, _ in reloads:
            if call is not None and problems:
                call.fail(f"{NAME}.InvalidConfiguration", problems=problems)
            elif call is not None:
                self._follow_change(call, {"changed": changed}, changed)

    def _restart(self, call: Call) -> None:
        self._refuse_while_stopping()
        name = call.text("child")
        called = self._called(name)
        children = [child for child in called if child.state is not State.STOPPED]
        for child in children:
            child.stale = True
        self._agent.changed()
        answer = {"children": sorted({child.name for child in children})}
        self._follow_change(call, answer, sorted({child.name for child in called}))

    def _step_down(self, call: Call) -> None:
        self._refuse_while_stopping()
        orchestrators = [child for child in self._agent.children if child.spec.kind == "orchestrator" and child.running]
        active = next((one for one in orchestrators if one.fields.get("X_CHARGEHAND_ROLE") == "active"), None)
        if not orchestrators:
            raise ControlError("no orchestrator runs on this node")
        if active is None:
            one = orchestrators[0]
            holder = one.fields.get("X_CHARGEHAND_HOLDER", "")
            role = one.fields.get("X_CHARGEHAND_ROLE", "starting")
            raise ControlError(
                f"this node's orchestrator is {role}" + (f"; the lock is held by {holder}" * bool(holder))
            )

        def stepped_down(reply: dict[str, Any] | None) -> None:
            if reply is None or "error" in reply:
                call.refuse("the orchestrator ended or failed before it had stepped down: chargehand status")
            else:
                call.reply({})

        active.ask("StepDown", {"for_good": False}, stepped_down)

    def _drain(self, call: Call) -> None:
        self._refuse_while_stopping()
        reason = call.text("reason")
        if self._agent.drain is None:
            try:
                self._agent.start_drain(Drain(call.actor, round(time.time(), 3), reason))
            except OSError as error:
                raise ControlError(
                    f"the drain cannot be kept over a restart, so nothing is drained: {self._where(error)}"
                ) from error

        def look() -> tuple[dict[str, Any], bool]:
            report = self._agent.report()
            answer = {"state": state_word(report), "running": report.busy}
            return answer, report.drained or self._agent.drain is None

        if call.more:
            self._follow(call, look)
        else:
            call.reply(look()[0])

    def _undrain(self, call: Call) -> None:
        self._refuse_while_stopping()
        if self._agent.drain is None:
            raise ControlError("this node is not drained")
        try:
            self._agent.end_drain(call.actor)
        except OSError as error:
            raise ControlError(self._where(error)) from error
        call.reply({})

    def _where(self, error: OSError) -> str:
        """A failed write names no file."""
        return f"{error.filename or self._agent.settings.agent.state_dir}: {os.strerror(error.errno or 0)}"

    def _refuse_while_stopping(self) -> None:
        if self._agent.stopping:
            raise ControlError("the agent is stopping")
