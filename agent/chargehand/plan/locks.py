"""Who holds which lock, and who waits for it: in the order of asking, whoever they are.

A plan asks for all its locks at once and starts when it holds them all. It keeps its place in every line, so
plans that want several of the same locks cannot block each other for ever: the first that asked goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from chargehand.wire import Definition, Lock

__all__ = ["Locks", "lock_member", "read_member"]


def lock_member(plan: str, lock: Lock) -> str:
    """How it stands in Redis; its score is the order of asking."""
    return f"{plan} {lock.most} {lock.name}"


def read_member(member: str) -> tuple[str, Lock]:
    plan, most, name = member.split(" ", 2)
    return plan, Lock(name, int(most))


class _Line:
    """One lock."""

    __slots__ = ("holders", "waiting")

    def __init__(self) -> None:
        self.holders: dict[str, int] = {}  # plan -> most
        self.waiting: OrderedDict[str, int] = OrderedDict()

    def admits(self, most: int) -> bool:
        if not self.holders:
            return True
        # Either all share, or there are fewer than the strictest of them bears.
        first = next(iter(self.holders.values()))
        if not most or not first:
            return most == first
        return len(self.holders) < min(most, *self.holders.values())

    def advance(self) -> list[str]:
        """Let in who is next; those who got in."""
        entered = []
        while self.waiting:
            plan, most = next(iter(self.waiting.items()))
            if not self.admits(most):
                break
            del self.waiting[plan]
            self.holders[plan] = most
            entered.append(plan)
        return entered


class Locks:
    """`members` as they stand in Redis, in order, with the score of each."""

    def __init__(self, members: Iterable[tuple[str, int]] = ()) -> None:
        self._lines: dict[str, _Line] = {}
        self._asked: dict[str, list[Lock]] = {}
        self._ticket = 0
        for member, ticket in members:
            plan, lock = read_member(member)
            self._ask(plan, lock)
            self._ticket = max(self._ticket, ticket)

    def __contains__(self, plan: str) -> bool:
        return plan in self._asked

    def ask(self, plan: str, locks: Sequence[Lock]) -> int:
        """Get in line for all of them. Returns the ticket."""
        self._ticket += 1
        for lock in locks:
            self._ask(plan, lock)
        return self._ticket

    def _ask(self, plan: str, lock: Lock) -> None:
        line = self._lines.setdefault(lock.name, _Line())
        if plan in line.holders or plan in line.waiting:
            return
        self._asked.setdefault(plan, []).append(lock)
        line.waiting[plan] = lock.most
        line.advance()

    def holds(self, plan: str) -> bool:
        """True when it holds all that it asked for."""
        return all(plan in self._lines[lock.name].holders for lock in self._asked.get(plan, ()))

    def beyond(self, plan: str, definition: Definition) -> list[Lock]:
        """Those that a plan must ask for, each once: what the plan that started it (or that one's) holds, it has."""
        locks = {lock.name: lock for lock in reversed(definition.locks)}
        if definition.parent is not None:
            for above in (plan[:at] for at, letter in enumerate(plan) if letter == "."):
                locks = {name: lock for name, lock in locks.items() if not self._is_held(name, above)}
        return list(locks.values())

    def _is_held(self, name: str, plan: str) -> bool:
        line = self._lines.get(name)
        return line is not None and plan in line.holders

    def ahead_of(self, plan: str, name: str) -> tuple[list[str], list[str]]:
        """Who holds a lock that a plan waits for, and who waits for it before; nobody when it does not."""
        line = self._lines.get(name)
        if line is None or plan not in line.waiting:
            return [], []
        waiting = list(line.waiting)
        return list(line.holders), waiting[: waiting.index(plan)]

    def free(self, locks: Iterable[Lock]) -> bool:
        """True when a plan that asked now would hold all of these at once."""
        for lock in locks:
            line = self._lines.get(lock.name)
            if line is not None and (line.waiting or not line.admits(lock.most)):
                return False
        return True

    def leave(self, plan: str) -> tuple[list[Lock], list[str]]:
        """Give up what it held or waited for: that, and the plans that hold all of theirs now by it."""
        locks = self._asked.pop(plan, [])
        entered: list[str] = []
        for lock in locks:
            line = self._lines[lock.name]
            line.holders.pop(plan, None)
            line.waiting.pop(plan, None)
            entered += line.advance()
            if not line.holders:
                del self._lines[lock.name]
        return locks, [other for other in dict.fromkeys(entered) if self.holds(other)]
