"""The director: what happened goes in, what is to be done comes out.

Pure: no I/O, no clock, no randomness. The orchestrator's loop reads events, timers and corpses, loads the
plans that they name, asks the director to `decide`, and commits the answer in one script. When a commit is
not confirmed, the whole director is thrown away: memory that Redis has not confirmed is never used again.

What it holds true, whatever order, repetition or loss of events (tests/unit/test_director_properties.py):
a step is queued only after every step it depends on succeeded; an event of another attempt than the
current one changes nothing; every plan ends or is paused with its error.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from chargehand.plan.commit import Commit, Corpse, StateWrite
from chargehand.plan.life import ENDED, PLAN_LIFE, PlanEvent, PlanState, StepEvent
from chargehand.plan.retry import backoff_ms
from chargehand.plan.run import DefinitionError, PlanRun, StepRecord
from chargehand.wire import (
    Definition,
    Died,
    Event,
    Extra,
    Failure,
    Finished,
    Policy,
    Resumed,
    Skipped,
    Submitted,
    encode,
    read_key,
    step_key,
    write_entry,
)

__all__ = ["MAX_EFFECTS", "MAX_SIZE", "WHOLE_PLAN", "WINDOW", "Director", "plans_named", "retry_timer"]

MAX_EFFECTS = 500  # a commit: Redis runs it in about a millisecond
MAX_SIZE = 256 * 1024  # bytes a commit
WINDOW = 2_000  # steps of one plan that stand in queues at once
MAX_LOSSES = 3  # a step lost so often pauses its plan
ALONE_AFTER = 2  # a step lost so often runs with nothing beside it
WHOLE_PLAN = -1  # stands for a step number where a record is about the plan itself
_OPEN = "".join(chr(state) for state in PlanState if state not in ENDED)
CACHE = 32 * 1024 * 1024  # bytes of plans kept in memory

_definition_decoder = msgspec.json.Decoder(Definition)


def retry_timer(plan: str, step: int, attempt: int) -> str:
    """The timer of a step's next attempt: `r PLAN/STEP/ATTEMPT`, the attempt that failed."""
    return f"r {step_key(plan, step, attempt)}"


def more_timer(plan: str) -> str:
    """`m PLAN`: steps are ready, but none of them stands anywhere yet; a successor must look at the plan."""
    return f"m {plan}"


def plans_named(events: Iterable[Event], due: Iterable[str], corpses: Iterable[Corpse]) -> set[str]:
    """The plans that must be in memory before `decide` can deal with these."""
    named = {event.plan for event in events if isinstance(event, Finished | Resumed | Skipped)}
    for timer in due:
        kind, _, rest = timer.partition(" ")
        named.add(read_key(rest)[0] if kind == "r" else rest)
    for corpse in corpses:
        named.update(read_key(key)[0] for key in corpse.owned)
    return named


class Director:
    """Holds the plans in memory (bounded in bytes; the least recently used go first)."""

    def __init__(self, cache: int = CACHE, *, most: int = MAX_EFFECTS) -> None:
        self.plans: OrderedDict[str, PlanRun] = OrderedDict()
        self._cache = cache
        self._most = most  # effects a commit
        self._size = 0
        self._eager: OrderedDict[str, None] = OrderedDict()  # plans with steps that could be queued now
        self._commit = Commit()
        self._touched: dict[str, PlanRun] = {}
        self._now = 0

    # -- memory -----------------------------------------------------------------------------------

    def adopt(self, run: PlanRun) -> None:
        """Take a plan that was loaded from Redis."""
        self.plans[run.id] = run
        self._size += run.size
        if run.ready and run.plan_state is PlanState.RUNNING:
            self._eager[run.id] = None

    @property
    def eager(self) -> bool:
        """True while steps are ready that the last commit had no room for."""
        return bool(self._eager)

    def _forget(self, plan: str) -> None:
        run = self.plans.pop(plan, None)
        if run is not None:
            self._size -= run.size

    def _trim(self) -> None:
        if self._size <= self._cache:
            return
        for plan in list(self.plans):
            if plan not in self._eager:
                self._forget(plan)
            if self._size <= self._cache:
                return

    # -- one turn ---------------------------------------------------------------------------------

    def decide(
        self,
        events: Sequence[tuple[str, Event | None]],
        *,
        now_ms: int,
        due: Sequence[str] = (),
        corpses: Sequence[Corpse] = (),
        unreadable: Mapping[str, str] | None = None,
    ) -> tuple[Commit, int]:
        """Return the commit and how many of `events` it covers.

        `events` are (position, event), None for one that could not be read; `due` are timers whose time
        has come; `now_ms` is Redis' TIME; `unreadable` are accepted plans that could not be loaded, with
        the reason. Corpses and timers are always dealt with; events until the commit is full.
        """
        self._commit = commit = Commit()
        self._touched = {}
        self._now = now_ms
        for plan, why in (unreadable or {}).items():
            commit.states.append(StateWrite(plan, 0, bytes([PlanState.REJECTED])))
            self._refuse(plan, why, before=_OPEN)
        for corpse in corpses:
            self._reap(corpse)
        for timer in due:
            self._ring(timer)
        covered = 0
        for position, event in events:
            if covered and self._full:  # one at least, so that timers cannot starve events
                break
            self._handle(event, position)
            commit.position = position
            covered += 1
        self._dispatch()
        self._settle()
        self._trim()
        return commit, covered

    @property
    def _full(self) -> bool:
        return self._commit.effects >= self._most or self._commit.size >= MAX_SIZE

    def _handle(self, event: Event | None, position: str) -> None:
        if isinstance(event, Finished):
            self._finish(event)
        elif isinstance(event, Submitted):
            self._accept(event, int(position.partition("-")[0]))
        elif isinstance(event, Resumed):
            self._resume(event)
        elif isinstance(event, Skipped):
            self._skip(event)
        else:  # a death is dealt with as a corpse; what cannot be read is put aside by the loop
            assert event is None or isinstance(event, Died)

    def _accept(self, event: Submitted, submitted_ms: int) -> None:
        if event.plan in self.plans:
            return  # submitted twice is one plan
        commit = self._commit
        try:
            definition = _definition_decoder.decode(event.definition)
            run = PlanRun(event.plan, definition)
            if not definition.parts:
                run.extend(definition.steps)
                if not run.whole:
                    raise DefinitionError(f"{len(run.steps)} steps, but {run.total} announced")
        except (msgspec.MsgspecError, DefinitionError) as error:
            commit.created[event.plan] = bytes([PlanState.REJECTED])
            self._refuse(event.plan, str(error))
            return
        commit.move(event.plan, "", chr(PlanState.RUNNING), submitted_ms)
        commit.count(len(run.state))
        if definition.parts:  # its steps are loaded from Redis, part by part, when the timer names it
            commit.created[event.plan] = bytes(run.state)
            commit.timers[more_timer(event.plan)] = self._now
            return
        self.adopt(run)
        run.dirty.add(0)
        self._touched[run.id] = run
        commit.created[run.id] = b""  # filled when the turn is settled

    def _refuse(self, plan: str, why: str, *, before: str = "") -> None:
        commit = self._commit
        commit.move(plan, before, chr(PlanState.REJECTED), self._now)
        commit.announced[plan] = chr(PlanState.REJECTED)
        commit.records[plan] = {WHOLE_PLAN: encode(Failure(kind="refused", message=why, final=True))}
        commit.count(len(why))

    def _finish(self, event: Finished) -> None:
        run = self._known(event.plan)
        if run is None or not 0 <= event.step < run.total or run.attempt(event.step) != event.attempt:
            return
        if event.failure is None:
            self._step(run, event.step, StepEvent.SUCCEEDED)
            return
        policy = self._policy(run, event.step)
        record = run.record(event.step)
        failures = record.failures + 1
        error = encode(event.failure).decode()
        if event.failure.final or failures >= policy.attempts or run.plan_state is not PlanState.RUNNING:
            kept = StepRecord(record.attempt, failures, record.losses, error)
            self._give_up(run, event.step, StepEvent.FAILED, kept, policy.rescue)
        elif self._step(run, event.step, StepEvent.BACKED_OFF):
            run.note(event.step, StepRecord(record.attempt, failures, record.losses, error))
            key = step_key(run.id, event.step, event.attempt)
            timer = retry_timer(run.id, event.step, event.attempt)
            self._commit.timers[timer] = self._now + backoff_ms(policy, failures, key)
            self._commit.count(len(error))

    def _ring(self, timer: str) -> None:
        kind, _, rest = timer.partition(" ")
        self._commit.stopped_timers.add(timer)
        self._commit.count()
        if kind == "m":
            self._known(rest)
            return
        plan, step, attempt = read_key(rest)
        run = self._known(plan)
        if run is None or run.attempt(step) != attempt or not self._step(run, step, StepEvent.DUE):
            return
        record = run.record(step)
        run.note(step, StepRecord(attempt + 1, record.failures, record.losses, record.error))

    def _reap(self, corpse: Corpse) -> None:
        self._commit.reaped.append(corpse)
        self._commit.count()
        for key in corpse.owned:
            plan, step, attempt = read_key(key)
            run = self._known(plan)
            if run is None or not 0 <= step < run.total or run.attempt(step) != attempt:
                continue
            self._lose(run, step, corpse.incarnation)

    def _lose(self, run: PlanRun, step: int, incarnation: str) -> None:
        record = run.record(step)
        losses = record.losses + 1
        policy = self._policy(run, step)
        message, rescue = None, policy.rescue
        if policy.on_lost == "pause":
            # Nobody knows whether it ran, so no rule decides: a person does.
            message, rescue = f"its worker {incarnation} died: it may have run", "pause"
        elif losses >= MAX_LOSSES:
            message = f"its worker died {losses} times"
        elif run.plan_state is not PlanState.RUNNING:
            message = f"its worker {incarnation} died while the plan came to its end"
        if message is not None:
            error = encode(Failure(kind="lost", message=message, worker=incarnation)).decode()
            kept = StepRecord(record.attempt, record.failures, losses, error)
            self._give_up(run, step, StepEvent.GIVEN_UP, kept, rescue)
        elif self._step(run, step, StepEvent.LOST):
            run.note(step, StepRecord(record.attempt + 1, record.failures, losses, record.error))
            queue, entry = self._entry(run, step)
            where = self._commit.alone if losses >= ALONE_AFTER else self._commit.returned
            self._commit.push(where, queue, entry)

    def _give_up(self, run: PlanRun, step: int, event: StepEvent, record: StepRecord, rescue: str) -> None:
        """A step has failed for good: what its action's rescue says about the plan."""
        if self._step(run, step, StepEvent.SKIPPED if rescue == "skip" else event):
            run.note(step, record)
            if rescue == "fail":
                self._plan(run, PlanEvent.GIVEN_UP)

    def _skip(self, event: Skipped) -> None:
        run = self._known(event.plan)
        if run is None or run.plan_state is not PlanState.PAUSED or not 0 <= event.step < run.total:
            return
        if self._step(run, event.step, StepEvent.SKIPPED):
            self._plan(run, PlanEvent.RESUMED)  # with another step that failed it pauses again by itself
            if run.ready:
                self._eager[run.id] = None

    def _resume(self, event: Resumed) -> None:
        run = self._known(event.plan)
        if run is None or not self._plan(run, PlanEvent.RESUMED):
            return
        for step, record in list(run.records.items()):
            if self._step(run, step, StepEvent.RESUMED):
                run.note(step, StepRecord(record.attempt + 1, 0, 0, record.error))

    # -- moving states ----------------------------------------------------------------------------

    def _known(self, plan: str) -> PlanRun | None:
        run = self.plans.get(plan)
        if run is not None and run.plan_state in ENDED:  # a timer that outlived it, a late event
            self._forget(plan)
            return None
        if run is not None:
            self.plans.move_to_end(plan)
            self._touched[plan] = run
        return run

    def _step(self, run: PlanRun, step: int, event: StepEvent) -> bool:
        if not run.advance(step, event):
            return False
        self._commit.count(1)
        if run.ready and run.plan_state is PlanState.RUNNING:
            self._eager[run.id] = None
        return True

    def _plan(self, run: PlanRun, event: PlanEvent) -> bool:
        after = PLAN_LIFE[run.plan_state][event]
        if after is None:
            return False
        self._commit.move(run.id, chr(run.plan_state), chr(after), self._now)
        run.set_plan(after)
        self._commit.announced[run.id] = chr(after)
        self._commit.count(1)
        return True

    def _policy(self, run: PlanRun, step: int) -> Policy:
        return run.policies[run.steps[step].policy]

    def _entry(self, run: PlanRun, step: int) -> tuple[str, bytes]:
        """The queue of a step and its entry for the current attempt."""
        definition = run.steps[step]
        policy = run.policies[definition.policy]
        record = run.records.get(step)
        losses = record.losses if record else 0
        extra = None
        if policy.timeout_ms or policy.exclusive or losses >= ALONE_AFTER:
            extra = Extra(policy.timeout_ms, policy.exclusive, losses >= ALONE_AFTER)
        key = step_key(run.id, step, record.attempt if record else 1)
        queue = f"@{definition.node}" if definition.node else policy.queue
        return queue, write_entry(key, policy.action, definition.input, extra, suspect=losses > 0)

    def _dispatch(self) -> None:
        """Queue ready steps while the commit has room, a plan at a time, each plan at most its window."""
        commit = self._commit
        for plan in list(self._eager):
            run = self.plans[plan]
            while run.ready and run.standing < WINDOW and run.plan_state is PlanState.RUNNING:
                if commit.pushed and self._full:
                    self._eager.move_to_end(plan)  # the next turn starts with the other plans
                    return
                step = run.ready.popleft()
                if run.advance(step, StepEvent.QUEUED):
                    self._touched[plan] = run
                    queue, entry = self._entry(run, step)
                    commit.push(commit.pushed, queue, entry)
            del self._eager[plan]

    def _settle(self) -> None:
        """Close the books of every plan that was touched: its end, its states, its records."""
        commit = self._commit
        for plan, run in self._touched.items():
            if run.plan_state is PlanState.RUNNING and not run.standing and not run.retrying:
                if not run.left:
                    self._plan(run, PlanEvent.COMPLETED)
                elif run.ready:
                    commit.timers[more_timer(plan)] = self._now
                else:
                    self._plan(run, PlanEvent.STALLED)
            if run.plan_state is PlanState.FAILING and not run.standing:
                self._plan(run, PlanEvent.STOPPED)
            if plan in commit.created:
                commit.created[plan] = bytes(run.state)
            else:
                commit.states.extend(_writes(run))
            run.dirty.clear()
            if run.touched:
                commit.records[plan] = {step: encode(run.records[step]) for step in run.touched}
                run.touched.clear()
            if run.plan_state in ENDED:
                self._eager.pop(plan, None)
                self._forget(plan)


def _writes(run: PlanRun) -> Iterable[StateWrite]:
    """The dirty bytes in as few writes as is sensible: near ones together (a gap of 64 costs less than a write)."""
    if not run.dirty:
        return
    positions = sorted(run.dirty)
    first = last = positions[0]
    for position in positions[1:]:
        if position - last > 64:
            yield StateWrite(run.id, first, bytes(run.state[first : last + 1]))
            first = position
        last = position
    yield StateWrite(run.id, first, bytes(run.state[first : last + 1]))
