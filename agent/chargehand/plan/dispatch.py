"""Queueing what is ready: a plan after another, as far as limits and the commit have room."""

from __future__ import annotations

from collections import deque

from chargehand.plan.books import Books
from chargehand.plan.ending import Ending
from chargehand.plan.life import PlanState, StepEvent, StepState
from chargehand.plan.run import PlanRun
from chargehand.plan.timers import limit_timer

__all__ = ["WINDOW", "Dispatch"]


WINDOW = 2_000  # steps of one plan that stand in queues at once


class Dispatch:
    """Queues ready steps, and lets in those that waited for a limit."""

    def __init__(self, books: Books, ending: Ending) -> None:
        self._books = books
        self._ending = ending

    def dispatch(self) -> None:
        """Queue ready steps while the commit has room, a plan at a time, each plan at most its window."""
        commit = self._books.commit
        for name in list(self._books.opened):
            self._let_in(name)
        for plan in list(self._books.eager):
            run = self._books.plans[plan]
            undo = self._books.undos.get(plan)
            if undo is not None:
                while undo.ready and run.count(StepState.UNDOING) < WINDOW:
                    if commit.pushed and self._books.full:
                        self._books.eager.move_to_end(plan)
                        return
                    self._ending.undo(run, undo.ready.popleft())
                if not undo.ready:
                    del self._books.eager[plan]
                continue
            most = _most(run)
            while run.ready and run.standing < most and run.plan_state is PlanState.RUNNING:
                if commit.pushed and self._books.full:
                    self._books.eager.move_to_end(plan)  # the next turn starts with the other plans
                    return
                self._queue(run, run.ready.popleft())
            del self._books.eager[plan]

    def _queue(self, run: PlanRun, step: int, turn: str = "") -> None:
        """Queue a ready step, if its limits allow."""
        names = self._books.limits_of(run, step)
        if names and self._blocked(run, step, names, turn):
            return
        if run.advance(step, StepEvent.QUEUED):
            self._books.touched[run.id] = run
            queue, entry = self._books.entry(run, step)
            self._books.commit.push(self._books.commit.pushed, queue, entry)

    def _blocked(self, run: PlanRun, step: int, names: tuple[str, ...], turn: str) -> bool:
        """True when a limit has no room for it: it waits in line. Else it has its slots. `turn`: where it is first."""
        for name in names:
            opens = self._books.limits.opens(name, self._books.now)
            if (
                (name != turn and self._books.limits.first(name) is not None)
                or opens is None
                or opens > self._books.now
            ):
                if name not in run.blocked:
                    run.blocked[name] = deque()
                    if not self._books.limits.waits(name, run.id):
                        self._wait(name, run.id)
                run.blocked[name].append(step)
                if opens is not None and opens > self._books.now:
                    self._books.commit.timers[limit_timer(name)] = opens
                return True
        for name in names:
            slot = f"{run.id}/{step}"
            rate = self._books.limits.take(name, slot, self._books.now)
            self._books.commit.slots[f"{name} {slot}"] = True
            self._books.commit.count()
            if rate is not None:
                self._books.commit.rates[name] = rate
        return False

    def _wait(self, name: str, plan: str) -> None:
        """At the end of the line for this limit."""
        self._books.commit.limited[f"{name} {plan}"] = self._books.limits.wait(name, plan)
        self._books.commit.count()

    def _let_in(self, name: str) -> None:
        """Steps that waited for this limit begin, a plan after another, as long as there is room."""
        while not self._books.full and (plan := self._books.limits.first(name)) is not None:
            opens = self._books.limits.opens(name, self._books.now)
            if opens is None or opens > self._books.now:
                if opens is not None:
                    self._books.commit.timers[limit_timer(name)] = opens
                break
            run = self._books.plans.get(plan)
            if run is None and plan not in self._books.asked:
                return  # the next turn loads it, and goes on here
            waiting = (run.blocked.get(name) or run.ready) if run is not None else None
            if run is None or not waiting or run.plan_state is not PlanState.RUNNING:
                self._books.leave_line(name, plan)
                continue
            if run.standing >= _most(run):  # it waits for its own steps first, and then at the end of the line
                self._books.leave_line(name, plan)
                run.begin(run.blocked.pop(name, ()))
                continue
            step = waiting.popleft()
            if not run.blocked.get(name):
                run.blocked.pop(name, None)
            if waiting:
                self._wait(name, plan)  # the others first
            else:
                self._books.leave_line(name, plan)
            self._books.touched[plan] = run
            self._queue(run, step, turn=name)
        if not self._books.full:
            self._books.opened.pop(name, None)


def _most(run: PlanRun) -> int:
    """How many of its steps may stand."""
    limit = run.definition.limit
    return min(limit - run.count(StepState.SUSPENDED), WINDOW) if limit else WINDOW
