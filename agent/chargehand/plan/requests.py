"""What people ask of a plan that is under way: resume, retry, skip, an event for a step."""

from __future__ import annotations

import msgspec

from chargehand.plan.books import Books
from chargehand.plan.life import ENDING, PlanEvent, PlanState, StepEvent, StepState
from chargehand.plan.run import More, PlanRun, StepRecord
from chargehand.wire import SYSTEM_EVENTS, Resumed, Retried, Sent, Skipped

__all__ = ["Requests"]


MAX_KEPT = 100  # events kept for a step that is not suspended

_LIVE = frozenset({PlanState.RUNNING, PlanState.PAUSED})


class Requests:
    """Each does nothing where it does not fit the state that the plan or the step is in by now."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def skip(self, event: Skipped) -> None:
        run = self._books.known(event.plan)
        if run is None or not 0 <= event.step < run.total:
            return
        if run.plan_state not in _LIVE or run.state[event.step + 1] != StepState.FAILED:
            return
        if self._books.move_step(run, event.step, StepEvent.SKIPPED):
            self._books.history(run, "asked", f"skip {event.step}", event.by)
            self._go_on(run)

    def retry(self, event: Retried) -> None:
        run = self._books.known(event.plan)
        if run is None or not 0 <= event.step < run.total:
            return
        if run.plan_state in _LIVE and self._again(run, event.step):
            self._books.history(run, "asked", f"retry {event.step}", event.by)
            self._go_on(run)

    def resume(self, event: Resumed) -> None:
        run = self._books.known(event.plan)
        if run is None or run.plan_state is not PlanState.PAUSED:
            return
        self._books.history(run, "asked", "resume", event.by)
        for step in run.in_state(StepState.FAILED):
            self._again(run, step)
        self._go_on(run)

    def _again(self, run: PlanRun, step: int) -> bool:
        """From its beginning, with all its attempts."""
        record = run.kept(step)
        if not self._books.move_step(run, step, StepEvent.RESUMED):
            return False
        more = record.more
        if more is not None:
            more = msgspec.structs.replace(more, event=None, events=[], boot="")
        run.note(step, StepRecord(record.attempt + 1, 0, 0, record.error, more))
        return True

    def _go_on(self, run: PlanRun) -> None:
        self._books.move_plan(run, PlanEvent.RESUMED)  # with another step that failed it pauses again by itself
        if run.ready:
            self._books.eager[run.id] = None

    def send(self, event: Sent) -> None:
        run = self._books.known(event.plan)
        if run is None or not 0 <= event.step < run.total or event.name in SYSTEM_EVENTS:
            return
        state = run.state[event.step + 1]
        if state == StepState.SUSPENDED and run.plan_state not in ENDING:
            self._books.history(run, "event", event.step, event.name, event.by)
            self._books.wake(run, event.step, event.name, event.data)
        elif state in {StepState.WAITING, StepState.STANDING, StepState.RETRYING} and not event.optional:
            record = run.kept(event.step)
            more = record.more or More()
            if len(more.events) < MAX_KEPT:
                more = msgspec.structs.replace(more, events=[*more.events, (event.name, event.data)])
                run.note(event.step, msgspec.structs.replace(record, more=more))
                self._books.history(run, "event", event.step, event.name, event.by)
                self._books.commit.count(len(event.data))
