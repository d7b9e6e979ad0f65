"""Undoing a plan: backwards over what succeeded, a step after all that depended on it.

Steps with nothing to undo are passed over. A step whose revert failed for good keeps what it built upon from
being undone: it is still in use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from chargehand.plan.life import StepState
from chargehand.plan.run import PlanRun

__all__ = ["Undo"]

_BUSY = {StepState.UNDOING, StepState.UNDO_RETRYING, StepState.SPOILED}


class Undo:
    """Derived from the plan's definition and states, so it can be made again at any time."""

    def __init__(self, run: PlanRun) -> None:
        self._run = run
        self.ready: deque[int] = deque()  # to be undone now
        self._users = [0] * run.total  # a step: edges and ranges by which others depend on it
        self._ranges: dict[tuple[int, int], int] = {}  # -> steps that depend on it whole
        for step in run.steps:
            for edge in step.after:
                if isinstance(edge, int):
                    self._users[edge] += 1
                else:
                    low, high = edge
                    known = self._ranges.get((low, high), 0)
                    self._ranges[low, high] = known + 1
                    if not known:
                        for source in range(low, high):
                            self._users[source] += 1
        self._pass([step for step in range(run.total) if not self._users[step]])

    def done(self, step: int) -> None:
        """Its revert has succeeded."""
        self._leave(step)

    def _pass(self, steps: Iterable[int]) -> None:
        """Nobody depends on these any more."""
        free = deque(steps)
        while free:
            step = free.popleft()
            state = self._run.state[step + 1]
            if state == StepState.SUCCEEDED and self._run.policies[self._run.steps[step].policy].revert:
                self.ready.append(step)
            elif state not in _BUSY:
                free.extend(self._released(step))

    def _leave(self, step: int) -> None:
        self._pass(self._released(step))

    def _released(self, step: int) -> list[int]:
        free = []
        for edge in self._run.steps[step].after:
            if isinstance(edge, int):
                sources: Iterable[int] = (edge,)
            else:
                self._ranges[edge] -= 1
                if self._ranges[edge]:
                    continue
                sources = range(*edge)
            for source in sources:
                self._users[source] -= 1
                if not self._users[source]:
                    free.append(source)
        return free
