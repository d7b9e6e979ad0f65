"""Queueing what is ready: a plan after another, as far as limits and the commit have room."""

from __future__ import annotations

from collections import deque

from chargehand.plan.books import Books
from chargehand.plan.ending import UNDO_WINDOW, Ending
from chargehand.plan.life import PlanState, StepEvent, StepState
from chargehand.plan.run import PlanRun
from chargehand.plan.timers import limit_timer
from chargehand.plan.undo import Undo

__all__ = ["WINDOW", "Dispatch"]


_RUNNING = int(PlanState.RUNNING)
WINDOW = 2_000  # steps of one plan that stand in queues at once


class Dispatch:
    """Queues ready steps, and lets in those that waited for a limit."""

    def __init__(self, books: Books, ending: Ending) -> None:
        self._books = books
        self._ending = ending

    def dispatch(self) -> None:
        """Queue ready steps while the commit has room, a plan at a time, each plan at most its window."""
        books = self._books
        for name in list(books.opened):
            self._let_in(name)
        for plan in list(books.eager):
            run = books.plans[plan]
            undo = books.undos.get(plan)
            if not (self._spread(run) if undo is None else self._undo(run, undo)):
                books.eager.move_to_end(plan)  # the next turn starts with the other plans
                return
            del books.eager[plan]

    def _spread(self, run: PlanRun) -> bool:
        """Queue what is ready, or have it wait for its limits. False: the commit has no room for more."""
        most = _most(run)
        while run.ready and run.standing < most and run.state[0] == _RUNNING:
            if self._books.commit.pushed and self._books.full:
                return False
            self._queue(run, run.ready.popleft())
        return True

    def _undo(self, run: PlanRun, undo: Undo) -> bool:
        """Queue reverts. False: the commit has no room for more."""
        while undo.ready and run.count(StepState.UNDOING) < UNDO_WINDOW and run.plan_state is PlanState.REVERTING:
            if self._books.commit.pushed and self._books.full:
                return False
            self._ending.undo(run, undo.ready.popleft())
        return True

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
        """True when a limit has no room for it: it waits in line. Else it has its slots.

        `turn`: in which line it was first. It has waited, so it does not get behind those in other lines: else steps
        under two limits could be sent from one line to the other for ever.
        """
        for name in names:
            opens = self._books.limits.opens(name, self._books.now)
            if (not turn and self._books.limits.first(name) is not None) or opens is None or opens > self._books.now:
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
            if run is None or run.plan_state is not PlanState.RUNNING:
                self._books.leave_line(name, plan)
                continue
            if name not in run.blocked and not self._spread(run):  # loaded since: for what do its steps wait?
                return
            waiting = run.blocked.get(name)
            if not waiting:
                self._books.leave_line(name, plan)
                continue
            if run.standing >= _most(run):  # it waits for its own steps first, and then at the end of the line
                self._books.leave_line(name, plan)
                run.begin(run.blocked.pop(name))
                continue
            step = waiting.popleft()
            if not waiting:
                del run.blocked[name]
                self._books.leave_line(name, plan)
            self._queue(run, step, turn=name)
            if waiting and run.state[step + 1] == StepState.STANDING:
                self._wait(name, plan)  # the other plans first
        if not self._books.full:
            self._books.opened.pop(name, None)


def _most(run: PlanRun) -> int:
    """How many of its steps may stand."""
    limit = run.definition.limit
    return min(limit - run.count(StepState.SUSPENDED), WINDOW) if limit else WINDOW
