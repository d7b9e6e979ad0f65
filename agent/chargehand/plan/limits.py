"""How many steps of an action or a queue may stand at once, and how many may begin in a time.

Counted from the steps that stand, never from counters; a slot is a step's, and named by it. Plans whose steps
found no room wait in line; a plan that got a slot goes to the end of it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from chargehand.wire import Policy

__all__ = ["Limit", "Limits"]


class Limit(NamedTuple):
    most: int = 0  # at once; 0: any number
    times: int = 0  # so many begin in `per_ms`; 0: any number
    per_ms: int = 0


class Limits:
    """`fixed`: limits by name; those of actions come with their policies. A name is `action:NAME` or `queue:NAME`.

    The rest as it stands in Redis: `slots` are `NAME PLAN/STEP`, `waiting` are (`NAME PLAN`, ticket) in order,
    `rates` are the time from which on the next step of a name conforms (ms of Redis' TIME).
    """

    def __init__(
        self,
        fixed: Mapping[str, Limit] | None = None,
        *,
        slots: Iterable[str] = (),
        waiting: Iterable[tuple[str, int]] = (),
        rates: Mapping[str, float] | None = None,
    ) -> None:
        self._fixed = frozenset(fixed or {})
        self._limits: dict[str, Limit] = dict(fixed or {})
        self._slots: dict[str, set[str]] = {}
        self._names: dict[str, list[str]] = {}  # a step: the limits of which it has a slot
        self._waiting: dict[str, OrderedDict[str, None]] = {}
        self._rates: dict[str, float] = dict(rates or {})
        self._ticket = 0
        for slot in slots:
            self._hold(*slot.rsplit(" ", 1))
        for member, ticket in waiting:
            name, plan = member.rsplit(" ", 1)
            self._waiting.setdefault(name, OrderedDict())[plan] = None
            self._ticket = max(self._ticket, ticket)

    def table(self, policies: Sequence[Policy]) -> list[tuple[str, ...]]:
        """For each policy the limits that its steps are under; empty when none is under any."""
        if not self._limits:
            for policy in policies:
                if policy.limit or policy.rate[0]:
                    break
            else:
                return []
        names = [self.names(policy) for policy in policies]
        return names if any(names) else []

    def names(self, policy: Policy) -> tuple[str, ...]:
        """The limits that a step of this policy is under on the policy's queue. The latest policy's figures count."""
        found: list[str] = []
        action = f"action:{policy.action}"
        if policy.limit or policy.rate[0]:
            self._limits[action] = Limit(policy.limit, *policy.rate)
            found.append(action)
        elif action in self._fixed:
            found.append(action)
        if f"queue:{policy.queue}" in self._fixed:
            found.append(f"queue:{policy.queue}")
        return tuple(found)

    # -- slots ------------------------------------------------------------------------------------

    def opens(self, name: str, now_ms: int) -> int | None:
        """When a step may take a slot: `now_ms`, later for its rate, None: when another leaves."""
        limit = self._limits.get(name)
        if limit is None:
            return now_ms
        if limit.most and len(self._slots.get(name, ())) >= limit.most:
            return None
        if limit.times:
            # `times` in `per_ms`: one each per_ms/count, and up to `times` at once after a rest.
            every = limit.per_ms / limit.times
            return max(now_ms, math.ceil(self._rates.get(name, 0.0) - limit.per_ms + every))
        return now_ms

    def take(self, name: str, step: str, now_ms: int) -> float | None:
        """Take a slot. Returns what its rate stands at then, if it has one."""
        self._hold(name, step)
        limit = self._limits.get(name)
        if limit is None or not limit.times:
            return None
        rate = self._rates[name] = max(self._rates.get(name, 0.0), now_ms) + limit.per_ms / limit.times
        return rate

    def _hold(self, name: str, step: str) -> None:
        self._slots.setdefault(name, set()).add(step)
        self._names.setdefault(step, []).append(name)

    def leave(self, step: str) -> list[str]:
        """Give a step's slots back, whatever limits they are of. The names of those."""
        names = self._names.pop(step, [])
        for name in names:
            slots = self._slots[name]
            slots.discard(step)
            if not slots:
                del self._slots[name]
        return names

    def leave_all(self, plan: str) -> list[str]:
        """Give all slots of a plan back: those slots, as they stand in Redis."""
        steps = [step for step in self._names if step.rpartition("/")[0] == plan]
        return [f"{name} {step}" for step in steps for name in self.leave(step)]

    @property
    def used(self) -> bool:
        """True when any step has a slot."""
        return bool(self._names)

    # -- waiting ----------------------------------------------------------------------------------

    def wait(self, name: str, plan: str) -> int:
        """Put a plan at the end of the line. Returns its ticket."""
        line = self._waiting.setdefault(name, OrderedDict())
        line[plan] = None
        line.move_to_end(plan)
        self._ticket += 1
        return self._ticket

    def go(self, name: str, plan: str) -> None:
        """It does not wait for this one any more."""
        line = self._waiting.get(name)
        if line is not None:
            line.pop(plan, None)
            if not line:
                del self._waiting[name]

    def waits(self, name: str, plan: str) -> bool:
        return plan in self._waiting.get(name, ())

    def first(self, name: str) -> str | None:
        """The plan whose turn it is."""
        line = self._waiting.get(name)
        return next(iter(line)) if line else None

    def waited_for(self) -> list[str]:
        """The names that anybody waits for."""
        return list(self._waiting)
