"""Ending a plan before its time: cancel, halt, revert.

A cancelled plan starts nothing new, and what runs of it has its grace. What stands on queues is not looked for:
a mark has it dropped when it is taken, and once no worker owns a step it is given up. A reverted plan is ended the
same way first; then what succeeded is undone, backwards.
"""

from __future__ import annotations

from collections.abc import Set

import msgspec
from msgspec import Raw

from chargehand.plan.books import LEFT_OVER, Books
from chargehand.plan.life import ENDING, PlanEvent, PlanState, StepEvent, StepState
from chargehand.plan.run import PlanRun, StepRecord
from chargehand.plan.timers import check_timer, more_timer
from chargehand.plan.undo import Undo
from chargehand.wire import HALTED, Cancelled, Cascade, Failure, Halted, Reverted, child_id

__all__ = ["UNDO_WINDOW", "Ending", "told_to_cancel"]


CASCADE = 200  # sub-plans that one event cancels
CHECK_AGAIN = 5_000  # ms: how often a plan that is being ended is looked at
UNDO_WINDOW = 2_000  # reverts of one plan that stand at once


class Ending:
    """Cancels, halts and reverts."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def cancel(self, event: Cancelled) -> None:
        run = self._books.known(event.plan)
        if run is None:
            return
        if run.plan_state is PlanState.CANCELLING and event.grace_ms < run.record.grace_ms:  # less patience than before
            run.record.grace_ms = event.grace_ms
            if run.record.marked:
                self._books.commit.stopped[run.id] = event.grace_ms
            for step in run.in_state(StepState.SUSPENDED):
                self.cancel_children(run, step, event.grace_ms)
            self._books.keep(run)
            self._books.history(run, "asked", "cancel", event.by)
        elif self._books.ask_plan(run, PlanEvent.CANCELLED, "cancel", event.by):
            self._stop(run, event.grace_ms)

    def revert(self, event: Reverted) -> None:
        run = self._books.known(event.plan)
        if run is not None and self._books.ask_plan(run, PlanEvent.UNDO, "revert", event.by):
            self._stop(run, 0)

    def begin_revert(self, run: PlanRun, grace_ms: int) -> bool:
        if not self._books.move_plan(run, PlanEvent.UNDO):
            return False
        self._stop(run, grace_ms)
        return True

    def _stop(self, run: PlanRun, grace_ms: int) -> None:
        """Nothing new of it starts; what stands is ended."""
        run.record.grace_ms = grace_ms
        self._books.eager.pop(run.id, None)
        for step in run.in_state(StepState.RETRYING, StepState.FAILED):
            self.cancel_children(run, step, grace_ms)
        for step in run.in_state(StepState.RETRYING):
            self._books.move_step(run, step, StepEvent.CANCELLED)
        self._books.leave_lines(run.id)
        run.blocked.clear()
        if run.standing:
            run.record.marked = True
            self._books.commit.stopped[run.id] = grace_ms
            self._books.commit.count(50)
            self._books.commit.timers[check_timer(run.id)] = self._books.now
        for step in run.in_state(StepState.SUSPENDED):
            self.cancel_suspended(run, step)
        self._books.keep(run)

    def cancel_suspended(self, run: PlanRun, step: int, *, told: bool = False) -> None:
        """Its sub-plans end first. `told`: it knows already, and waits for nobody."""
        self.cancel_children(run, step, run.record.grace_ms)
        if told:
            self._books.move_step(run, step, StepEvent.CANCELLED)
        else:
            self.end_suspended(run, step)

    def end_suspended(self, run: PlanRun, step: int) -> None:
        """A suspended step of a plan that is being ended: over when its sub-plans are, and when it has been told."""
        more = run.kept(step).more
        if more is not None and more.left:
            return
        if self._books.policy(run, step).cancels:
            self._books.wake(run, step, "cancel", Raw(b"null"))
            self._books.commit.timers[check_timer(run.id)] = self._books.now + CHECK_AGAIN
        else:
            self._books.move_step(run, step, StepEvent.CANCELLED)

    def cancel_children(self, run: PlanRun, step: int, grace_ms: int) -> None:
        """Of its sub-plans those that it has started last, if any; `HALTED` halts them."""
        record = run.records.get(step)
        if record is not None and record.more is not None and record.more.end:
            self._books.tell(Cascade(run.id, step, record.more.generation, 0, record.more.end, grace_ms))

    def cascade(self, event: Cascade) -> None:
        """Cancel (or halt) some of a step's sub-plans, and have the next ones cancelled."""
        until = min(event.first + CASCADE, event.end)
        for number in range(event.first, until):
            child = child_id(event.plan, event.step, number, event.generation)
            by = f"plan {event.plan}"
            self._books.tell(Cancelled(child, event.grace_ms, by) if event.grace_ms != HALTED else Halted(child, by))
        if until < event.end:
            self._books.tell(msgspec.structs.replace(event, first=until))

    def check(self, run: PlanRun, owned: Set[int] | None) -> None:
        """Of a plan that is being ended, give up what no worker owns: its entries are dropped when they are taken."""
        if run.plan_state not in ENDING or run.id in self._books.undos:
            return
        if owned is not None:
            for step in run.in_state(StepState.STANDING):
                if step not in owned and not told_to_cancel(run, step):
                    run.record.orphaned = True
                    self._books.keep(run)
                    self._books.move_step(run, step, StepEvent.CANCELLED)
        if run.standing:
            self._books.commit.timers[check_timer(run.id)] = self._books.now + CHECK_AGAIN

    def halt(self, event: Halted) -> None:
        run = self._books.known(event.plan)
        if run is None:
            return
        stands = run.in_state(StepState.STANDING, StepState.UNDOING)
        if not self._books.ask_plan(run, PlanEvent.HALTED, "halt", event.by):
            return
        if stands:
            run.record.orphaned = True
            self._books.commit.count(50)
            self._books.commit.stopped[run.id] = HALTED
        for step in run.in_state(
            StepState.STANDING, StepState.UNDOING, StepState.SUSPENDED, StepState.RETRYING, StepState.UNDO_RETRYING
        ):
            self.cancel_children(run, step, HALTED)
            self._books.move_step(run, step, StepEvent.CANCELLED)
        for step in run.in_state(StepState.FAILED):
            self.cancel_children(run, step, HALTED)

    def undone(self, run: PlanRun, step: int) -> None:
        """A revert has succeeded."""
        undo = self._books.undos.get(run.id)
        if undo is not None:
            undo.done(step)
        self.go_on(run)

    def go_on(self, run: PlanRun) -> None:
        """Of a plan that is being reverted: see what can be undone now, once nothing of it stands any more."""
        if run.moving:
            return
        undo = self._books.undos.get(run.id)
        if undo is None:
            undo = self._books.undos[run.id] = Undo(run)
        if undo.ready and run.count(StepState.UNDOING) < UNDO_WINDOW:
            self._books.eager[run.id] = None

    def settle_revert(self, run: PlanRun) -> None:
        self.go_on(run)
        undo = self._books.undos.get(run.id)
        if undo is None:
            return
        undoing = run.count(StepState.UNDOING)
        if undo.ready:
            if run.id in self._books.eager:  # it found no room in this commit: a successor is to know
                self._books.commit.timers[more_timer(run.id)] = self._books.now + (LEFT_OVER if undoing else 0)
        elif not undoing and not run.count(StepState.UNDO_RETRYING):
            spoiled = run.in_state(StepState.SPOILED)
            if not spoiled:
                self._books.move_plan(run, PlanEvent.COMPLETED)
            elif self._books.move_plan(run, PlanEvent.GIVEN_UP):
                steps = ", ".join(map(str, spoiled[:20]))
                message = f"not all of it could be undone: the revert of step {steps} failed"
                self._books.explain(run.id, Failure(kind="not reverted", message=message, final=True))

    def undo(self, run: PlanRun, step: int) -> None:
        if not self._books.move_step(run, step, StepEvent.UNDO):
            return
        self._books.touched[run.id] = run
        record = run.kept(step)
        run.note(step, StepRecord(record.attempt + 1, 0, 0, "", record.more))
        queue, entry = self._books.entry(run, step)
        self._books.commit.push(self._books.commit.pushed, queue, entry)


def told_to_cancel(run: PlanRun, step: int) -> bool:
    """It runs to be cancelled: the last event that it got says so."""
    record = run.records.get(step)
    more = record.more if record is not None else None
    return more is not None and more.event is not None and more.event[0] == "cancel"
