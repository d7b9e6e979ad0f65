"""How a plan begins: accepted, then waiting for its time, for other plans, for its locks."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from chargehand.decoding import decoder
from chargehand.plan.books import Books
from chargehand.plan.life import ENDED, PlanEvent, PlanState
from chargehand.plan.locks import lock_member
from chargehand.plan.run import DefinitionError, PlanRun
from chargehand.plan.timers import late_timer, more_timer
from chargehand.wire import Definition, Ended, Failure, Submitted

__all__ = ["NOT_BEGUN", "Opening"]


MAX_FOLLOWERS = 1_000  # plans that wait for the end of one

_definition_decoder = decoder(Definition)
NOT_BEGUN = frozenset({PlanState.SCHEDULED, PlanState.WAITING})


class Opening:
    """Accepts plans and lets them begin."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def accept(self, event: Submitted, submitted_ms: int) -> None:
        if event.plan in self._books.plans or event.plan in self._books.commit.created:
            return  # submitted twice is one plan
        commit = self._books.commit
        parent, missed = None, ""
        try:
            definition = _definition_decoder.decode(event.definition)
            parent = definition.parent
            run = PlanRun(event.plan, definition)
            if not definition.parts:
                run.extend(definition.steps)
                if not run.whole:
                    raise DefinitionError(f"{len(run.steps)} steps, but {run.total} announced")
            _check_hooks(definition)
            if definition.after:
                missed = self._follow(run)
        except (msgspec.MsgspecError, DefinitionError) as error:
            commit.created[event.plan] = bytes([PlanState.REJECTED])
            self._books.refuse(event.plan, str(error))
            if parent is not None:
                self._books.tell(Ended(*parent, event.plan, chr(PlanState.REJECTED)))
            return
        for index in (f"action:{definition.label}", *(f"labelled:{label}" for label in definition.labels)):
            commit.labelled.setdefault(index, []).append((submitted_ms, run.id))
        commit.move(run.id, "", chr(PlanState.RUNNING), submitted_ms)
        commit.count(len(run.state))
        commit.created[run.id] = b""  # filled when the turn is settled
        self._books.touched[run.id] = run
        if definition.start_at_ms or definition.start_before_ms or definition.after or definition.locks:
            run.set_plan(PlanState.SCHEDULED)
            commit.move(run.id, "", chr(PlanState.SCHEDULED), self._books.now)
            if definition.start_before_ms:
                commit.timers[late_timer(run.id)] = definition.start_before_ms + 1
            self._books.accepting = True
            self.miss(run, missed) if missed else self.open(run)
            self._books.accepting = False
        if not definition.parts:
            self._books.adopt(run)
            run.change(0)
        elif run.plan_state is PlanState.RUNNING:
            # It is loaded from Redis, part by part, when the timer names it.
            commit.timers[more_timer(run.id)] = self._books.now
        if run.definition.hooks:
            self._books.call_hooks(run)

    def _follow(self, run: PlanRun) -> str:
        """It starts after others: have them tell of their end. Why it never starts, if so. Raises `DefinitionError`."""
        missed = ""
        for other in run.definition.after:
            leader = self._books.plans.get(other)
            if leader is None:
                raise DefinitionError(f"it is to start after plan {other}, which does not exist (any more)")
            if leader.plan_state in ENDED:
                if leader.plan_state is not PlanState.SUCCEEDED and run.definition.after_failure == "fail":
                    missed = _not_after(other, leader.plan_state)
                continue
            if len(leader.record.followers) >= MAX_FOLLOWERS:
                raise DefinitionError(f"{MAX_FOLLOWERS:,} plans start after plan {other} already")
            run.record.awaits.append(other)
            leader.record.followers.append(run.id)
            self._books.keep(leader)
        if run.record.awaits:
            self._books.keep(run)
        return missed

    def open(self, run: PlanRun) -> None:
        """Start it if its time has come, the plans before it have ended, and it holds its locks."""
        definition = run.definition
        if 0 < definition.start_before_ms < self._books.now:
            self._late(run)
            return
        if definition.start_at_ms > self._books.now:
            self._books.commit.timers[more_timer(run.id)] = definition.start_at_ms
            return
        self._books.move_plan(run, PlanEvent.DUE)
        if run.rest is not None and run.rest.awaits:
            return
        if definition.locks:
            if run.id not in self._books.locks:
                locks = self._books.locks.beyond(run.id, definition)
                if definition.busy == "reject" and not self._books.locks.free(locks):
                    self.miss(run, f"another plan holds {', '.join(repr(lock.name) for lock in definition.locks)}")
                    return
                ticket = self._books.locks.ask(run.id, locks)
                for lock in locks:
                    self._books.commit.locked[lock_member(run.id, lock)] = ticket
                    self._books.commit.count(100)
            if not self._books.locks.holds(run.id):
                return
        if self._books.move_plan(run, PlanEvent.OPENED):
            if definition.start_before_ms:
                self._books.commit.stop(late_timer(run.id))
            if run.ready:
                self._books.eager[run.id] = None
            elif not run.steps and run.total:
                self._books.commit.timers[more_timer(run.id)] = self._books.now

    def _late(self, run: PlanRun) -> None:
        """It has not started in time."""
        if run.rest is not None and run.rest.awaits:
            waited = "plan " + ", ".join(run.rest.awaits[:3])
        elif run.id in self._books.locks:
            waited = "its locks: " + ", ".join(repr(lock.name) for lock in run.definition.locks)
        else:
            waited = "an active orchestrator"
        before = datetime.fromtimestamp(run.definition.start_before_ms / 1000, UTC)
        self.miss(run, f"it was to start before {before:%Y-%m-%d %H:%M:%S} UTC, and waited for {waited}")

    def miss(self, run: PlanRun, why: str) -> None:
        if self._books.move_plan(run, PlanEvent.MISSED):
            self._books.explain(run.id, Failure(kind="not started", message=why, final=True))

    def ended(self, event: Ended) -> None:
        """A plan that this one starts after has ended."""
        run = self._books.known(event.plan)
        if run is None or event.other not in run.record.awaits:
            return
        run.record.awaits.remove(event.other)
        self._books.keep(run)
        if event.state != chr(PlanState.SUCCEEDED) and run.definition.after_failure == "fail":
            self.miss(run, _not_after(event.other, PlanState(ord(event.state))))
        elif run.plan_state in NOT_BEGUN:
            self.open(run)


def _check_hooks(definition: Definition) -> None:
    for number, hook in enumerate(definition.hooks):
        if not 0 <= hook.policy < len(definition.policies):
            raise DefinitionError(f"hook {number} uses policy {hook.policy}, but there are {len(definition.policies)}")
        if not bytes(hook.input).lstrip().startswith(b"{"):
            raise DefinitionError(f"the input of hook {number} is to be an object")


def _not_after(plan: str, state: PlanState) -> str:
    return f"it was to start after plan {plan}, which is {state.name.lower()}"
