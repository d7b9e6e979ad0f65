"""What becomes of attempts: they succeed, fail, are suspended and woken, or are lost with their worker."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from chargehand.plan.books import Books
from chargehand.plan.commit import Corpse
from chargehand.plan.ending import Ending, told_to_cancel
from chargehand.plan.life import ENDING, PlanEvent, PlanState, StepEvent, StepState
from chargehand.plan.retry import backoff_ms
from chargehand.plan.run import More, PlanRun, StepRecord
from chargehand.plan.timers import retry_timer, wake_timer
from chargehand.wire import (
    SUB_PLANS_FAILED,
    SYSTEM_EVENTS,
    Ended,
    Failure,
    Finished,
    Suspension,
    child_generation,
    encode,
    read_key,
    step_key,
)

__all__ = ["Attempts"]


MAX_LOSSES = 3  # a step lost so often is given up

_REVERTED = int(StepState.REVERTED)
_CANCELLING = int(PlanState.CANCELLING)


class Attempts:
    """Deals with what workers say and with their deaths."""

    def __init__(self, books: Books, ending: Ending) -> None:
        self._books = books
        self._ending = ending

    def finish(self, event: Finished) -> None:
        run = self._books.known(event.plan)
        if run is None or not 0 <= event.step < run.total or run.attempt(event.step) != event.attempt:
            return
        if event.failure is None:
            if event.suspended is not None:
                self._suspend(run, event.step, event.suspended)
            elif run.state[0] == _CANCELLING and told_to_cancel(run, event.step):
                self._books.count_attempt(run, event.step, "left")
                self._books.move_step(run, event.step, StepEvent.CANCELLED)
            elif self._books.move_step(run, event.step, StepEvent.SUCCEEDED):
                self._books.count_done(run, event.step)
                if run.state[event.step + 1] == _REVERTED:
                    self._ending.undone(run, event.step)
            return
        policy = self._books.policy(run, event.step)
        record = run.kept(event.step)
        failures = record.failures + 1
        kept = msgspec.structs.replace(record, failures=failures, error=encode(event.failure).decode())
        if event.children:  # it leaves sub-plans under way: its next try finds them, and a cancel must
            more = record.more or More()
            kept.more = msgspec.structs.replace(more, end=max(more.end, event.children))
        self._books.count_attempt(run, event.step, "left" if event.failure.kind == "cancelled" else "failed")
        self._books.history(run, "failed", event.step, event.attempt, event.failure)
        undoing = run.state[event.step + 1] == StepState.UNDOING
        if run.plan_state in ENDING and not undoing:
            cancelled = event.failure.kind == "cancelled"
            self._give_up(run, event.step, StepEvent.CANCELLED if cancelled else StepEvent.FAILED, kept, "")
            if event.children:
                self._ending.cancel_children(run, event.step, run.record.grace_ms)
        elif event.failure.final or failures >= policy.attempts or not (run.plan_state is PlanState.RUNNING or undoing):
            self._give_up(run, event.step, StepEvent.FAILED, kept, policy.rescue)
        elif self._books.move_step(run, event.step, StepEvent.BACKED_OFF):
            if event.failure.kind == SUB_PLANS_FAILED and kept.more is not None:
                kept.more = msgspec.structs.replace(kept.more, event=None)  # from its beginning: it starts those anew
            run.note(event.step, kept)
            key = step_key(run.id, event.step, event.attempt)
            timer = retry_timer(run.id, event.step, event.attempt)
            self._books.commit.timers[timer] = self._books.now + backoff_ms(policy, failures, key)
            self._books.commit.count(len(kept.error))

    def _suspend(self, run: PlanRun, step: int, how: Suspension) -> None:
        told = told_to_cancel(run, step)
        if not self._books.move_step(run, step, StepEvent.SUSPENDED):
            return
        record = run.kept(step)
        more = record.more or More()
        more = msgspec.structs.replace(more, wake=how.event if how.event not in SYSTEM_EVENTS else "wake", event=None)
        if how.children:
            # Of one generation there may be more than this attempt knows of: an earlier one has started them.
            more.total, more.end = max(more.total, how.children), max(more.end, how.end or how.children)
        run.note(step, msgspec.structs.replace(record, more=more))
        self._books.count_attempt(run, step, "left")
        self._books.history(run, "suspended", step, record.attempt)
        if run.plan_state in ENDING:
            self._ending.cancel_suspended(run, step, told=told)
        elif more.events:
            name, data = more.events[0]
            more.events = more.events[1:]
            self._books.wake(run, step, name, data)
        elif more.total and not more.left:
            self._wake_parent(run, step, more)
        elif how.wake_ms:
            self._books.commit.timers[wake_timer(run.id, step, record.attempt)] = self._books.now + how.wake_ms

    def _wake_parent(self, run: PlanRun, step: int, more: More) -> None:
        """All sub-plans of this generation have ended."""
        data = Raw(encode((more.total, more.ok, more.bad)))
        after = msgspec.structs.replace(more, generation=more.generation + 1, total=0, end=0, ok=0, bad=0)
        run.note(step, msgspec.structs.replace(run.kept(step), more=after))
        self._books.wake(run, step, "children", data)

    def ended(self, event: Ended) -> None:
        """A sub-plan of a step has ended."""
        run = self._books.known(event.plan)
        if run is None or not 0 <= event.step < run.total:
            return
        record = run.kept(event.step)
        more = record.more or More()
        if child_generation(event.other, event.plan, event.step) != more.generation:
            return  # the step does not wait for that one
        well = event.state == chr(PlanState.SUCCEEDED)
        more = msgspec.structs.replace(more, ok=more.ok + well, bad=more.bad + (not well))
        run.note(event.step, msgspec.structs.replace(record, more=more))
        self._books.commit.count()
        if not more.total or more.left or run.state[event.step + 1] != StepState.SUSPENDED:
            return
        if run.plan_state in ENDING:
            self._ending.end_suspended(run, event.step)
        else:
            self._wake_parent(run, event.step, more)

    def reap(self, corpse: Corpse) -> None:
        self._books.commit.reaped.append(corpse)
        self._books.commit.count()
        for key in corpse.owned:
            plan, step, attempt = read_key(key)
            run = self._books.known(plan)
            if run is None or not 0 <= step < run.total or run.attempt(step) != attempt:
                continue
            self._lose(run, step, corpse)

    def _lose(self, run: PlanRun, step: int, corpse: Corpse) -> None:
        record = run.kept(step)
        losses = record.losses + 1
        policy = self._books.policy(run, step)
        undoing = run.state[step + 1] == StepState.UNDOING
        message, rescue = None, policy.rescue
        if run.plan_state in ENDING and not undoing:
            message, rescue = f"its worker {corpse.incarnation} died while the plan was being ended", ""
        elif policy.reboots and not undoing:
            pass  # its worker dies with its node: that is what it is for
        elif policy.on_lost == "pause":
            # Nobody knows whether it ran, so no rule decides: a person does.
            message, rescue = f"its worker {corpse.incarnation} died: it may have run", "pause"
        elif losses >= MAX_LOSSES:
            message = f"its worker died {losses} times"
        elif run.plan_state is not PlanState.RUNNING and not undoing:
            message = f"its worker {corpse.incarnation} died while the plan came to its end"
        self._books.count_attempt(run, step, "left" if policy.reboots and not undoing else "lost")
        self._books.history(run, "lost", step, record.attempt, corpse.incarnation)
        if message is not None:
            error = encode(Failure(kind="lost", message=message, worker=corpse.incarnation)).decode()
            kept = msgspec.structs.replace(record, losses=losses, error=error)
            self._give_up(run, step, StepEvent.GIVEN_UP, kept, rescue)
        elif self._books.move_step(run, step, StepEvent.LOST):
            more = record.more
            if policy.reboots and not undoing:
                losses = record.losses
                more = msgspec.structs.replace(more or More(), boot=corpse.boot)
            run.note(step, msgspec.structs.replace(record, attempt=record.attempt + 1, losses=losses, more=more))
            self._books.stand(run, step, first=True)

    def _give_up(self, run: PlanRun, step: int, event: StepEvent, record: StepRecord, rescue: str) -> None:
        """A step has failed for good: what its action's rescue says about the plan."""
        undoing = run.state[step + 1] == StepState.UNDOING
        if self._books.move_step(run, step, StepEvent.SKIPPED if rescue == "skip" and not undoing else event):
            run.note(step, record)
            self._books.commit.count(len(record.error))
            if undoing:
                return
            if rescue == "fail":
                self._books.move_plan(run, PlanEvent.GIVEN_UP)
            elif rescue == "revert":
                self._ending.begin_revert(run, 0)

    def due(self, timer: str) -> None:
        """A retry's wait is over (`r PLAN/STEP/ATTEMPT`), or a suspended step goes on by itself (`s ...`)."""
        kind, _, key = timer.partition(" ")
        plan, step, attempt = read_key(key)
        run = self._books.known(plan)
        if run is None or not 0 <= step < run.total or run.attempt(step) != attempt:
            return  # it was of an earlier attempt, or of an earlier plan of this name
        record = run.kept(step)
        if kind == "s":
            if run.state[step + 1] == StepState.SUSPENDED and record.more is not None:
                self._books.wake(run, step, record.more.wake, Raw(b"null"))
            return
        undoing = run.state[step + 1] == StepState.UNDO_RETRYING
        if self._books.move_step(run, step, StepEvent.DUE):
            run.note(step, msgspec.structs.replace(record, attempt=attempt + 1))
            if undoing:
                self._books.stand(run, step)
