"""What the dead leave: all of it is ended before a death counts, of our children and of the agent's before us."""

from __future__ import annotations

import os
from collections.abc import Sequence

from chargehand.linux import tree
from chargehand.supervisor.child import Child
from chargehand.supervisor.events import Events
from chargehand.supervisor.memory import Memory

__all__ = ["Sweeper"]


class Sweeper:
    """Without control groups we are the subreaper: what a dead child left becomes ours, and shows its mark."""

    def __init__(self, memory: Memory, events: Events) -> None:
        self._memory = memory
        self._events = events
        self._killed: set[int] = set()  # what a dead child left, until it is gone

    def sweep(self, children: Sequence[Child], known: set[int], now: float) -> bool:
        """`known`: processes that we started ourselves. True when a predecessor is gone: its name may start."""
        dead = [child for child in children if child.sweeping]
        if dead:
            left = self._left({child.incarnation for child in dead if child.launched.group is None}, known)
            for child in dead:
                if child.incarnation not in left and "" not in left:
                    child.swept(now)
        return bool(self._memory.previous) and self._sweep_previous()

    def reap(self, known: set[int]) -> None:
        """What a dead child left behind ends as our zombie."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in known:
                return  # one of ours is reaped where its status is read
            os.waitpid(found.si_pid, os.WNOHANG)

    def _left(self, incarnations: set[str], known: set[int]) -> set[str]:
        """Those that something still carries; it gets SIGKILL. "" stands for what cannot be told yet."""
        if not incarnations:
            return set()
        self.reap(known)
        found = tree.orphans(known)
        if found is None:  # the kernel does not list children
            found = dict(tree.marked(incarnations))
        left = set()
        for pid, mark in found.items():
            if mark is None:
                left.add("")
            elif mark in incarnations or pid in self._killed:
                tree.kill(pid)
                self._killed.add(pid)
                left.add(mark)
        self._killed &= found.keys()
        return left

    def _sweep_previous(self) -> bool:
        """Once, at our start: the children of the agent before us, and what they started."""
        gone = False
        previous = list(self._memory.previous)
        marked = tree.marked(set(previous))
        for incarnation in previous:
            left = {pid for pid, mark in marked.items() if mark == incarnation}
            left |= self._memory.survivors(incarnation)  # a server writes over its environment: no mark
            for pid in left:
                tree.kill(pid)
            if not left:
                self._events.say("previous_gone", incarnation=incarnation)
                self._memory.buried(incarnation)
                gone = True
        return gone
