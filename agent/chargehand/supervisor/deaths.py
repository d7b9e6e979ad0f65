"""Death notices on their way: to a living child, and to the next one when that does not acknowledge in time.

A living child can be a stuck one, so it gets 200 ms. A notice that reaches two of them does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chargehand.supervisor.child import Child
from chargehand.supervisor.events import Events
from chargehand.supervisor.memory import Memory, Notice

__all__ = ["Deaths"]

_PATIENCE = 0.2  # seconds for one child to acknowledge
_PAUSE = 0.5  # seconds before all of them are asked again


class Deaths:
    def __init__(self, memory: Memory, events: Events) -> None:
        self._memory = memory
        self._events = events
        self._asked: dict[str, list[str]] = {}  # incarnation of the dead -> children asked
        self._until: dict[str, float] = {}
        self._refused: set[str] = set()  # of the dead whose notice nobody could take when last asked

    @property
    def hopeless(self) -> bool:
        """True when everybody who could be asked has no Redis: a stop need not wait for what the next start tells."""
        return all(notice.incarnation in self._refused for notice in self._memory.notices)

    def tick(self, now: float, children: Sequence[Child]) -> None:
        """Ask somebody about every notice that nobody is being asked about."""
        for notice in list(self._memory.notices):
            if now < self._until.get(notice.incarnation, 0.0):
                continue
            asked = self._asked.setdefault(notice.incarnation, [])
            able = [
                one
                for one in children
                if one.spec.member and one.launched.link is not None and one.running and one.fields.get("READY") == "1"
            ]
            fresh = [one for one in able if one.incarnation not in asked]
            if not fresh:
                if not able:
                    self._refused.add(notice.incarnation)
                asked.clear()
                self._until[notice.incarnation] = now + _PAUSE
                continue
            asked.append(fresh[0].incarnation)
            self._until[notice.incarnation] = now + _PATIENCE
            self._ask(fresh[0], notice)

    def _ask(self, child: Child, notice: Notice) -> None:
        def answered(reply: dict[str, Any] | None) -> None:
            if reply is None or "error" in reply:
                if reply is not None:
                    self._refused.add(notice.incarnation)
                self._until[notice.incarnation] = 0.0
                return
            self._events.say("death_delivered", incarnation=notice.incarnation, to=child.name)
            self._memory.delivered(notice)
            self._refused.discard(notice.incarnation)
            self._asked.pop(notice.incarnation, None)
            self._until.pop(notice.incarnation, None)

        child.ask("Death", {"incarnation": notice.incarnation, "role": notice.role, "node": notice.node}, answered)

    def next_tick(self, now: float) -> float:
        times = [self._until.get(notice.incarnation, now) for notice in self._memory.notices]
        return max(0.0, min(times, default=now + 3600.0) - now)
