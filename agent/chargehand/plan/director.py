"""The director: what happened goes in, what is to be done comes out.

Pure: no I/O, no clock, no randomness. The orchestrator's loop reads events, timers and corpses, loads the
plans that they name, asks the director to `decide`, and commits the answer in one script. When a commit is
not confirmed, the whole director is thrown away: memory that Redis has not confirmed is never used again.

What it holds true, whatever order, repetition or loss of events (tests/unit/test_director_properties.py):
a step is queued only after every step it depends on succeeded; an event of another attempt than the
current one changes nothing; every plan ends or is paused with its error.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

import msgspec
from msgspec import Raw

from chargehand.plan.commit import Commit, Corpse, Launch, StateWrite
from chargehand.plan.life import ENDED, PLAN_LIFE, PlanEvent, PlanState, StepEvent, StepState
from chargehand.plan.limits import Limits
from chargehand.plan.locks import Locks, lock_member
from chargehand.plan.repeat import Repeat
from chargehand.plan.retry import backoff_ms
from chargehand.plan.run import DefinitionError, More, PlanRun, StepRecord
from chargehand.plan.undo import Undo
from chargehand.wire import (
    WHOLE_PLAN,
    Cancelled,
    Cascade,
    Definition,
    Died,
    Ended,
    Event,
    Extra,
    Failure,
    Finished,
    Halted,
    Policy,
    Recurring,
    Resumed,
    Retried,
    Reverted,
    Sent,
    Skipped,
    Step,
    Submitted,
    Suspension,
    child_id,
    encode,
    read_key,
    step_key,
    write_entry,
)

__all__ = [
    "MAX_EFFECTS",
    "MAX_SIZE",
    "PLAN_RECORD",
    "WINDOW",
    "Director",
    "Named",
    "check_timer",
    "named",
    "repeat_timer",
    "retry_timer",
]

MAX_EFFECTS = 500  # a commit: Redis runs it in about a millisecond
MAX_SIZE = 256 * 1024  # bytes a commit
WINDOW = 2_000  # steps of one plan that stand in queues at once
MAX_LOSSES = 3  # a step lost so often pauses its plan
ALONE_AFTER = 2  # a step lost so often runs with nothing beside it
MAX_FOLLOWERS = 1_000  # plans that wait for the end of one
MAX_KEPT = 100  # events kept for a step that is not suspended
CASCADE = 200  # sub-plans that one event cancels
CHECK_AGAIN = 5_000  # ms: how often a plan that is being ended is looked at
PLAN_RECORD = -2  # stands for a step number: the `PlanRecord`
_OPEN = "".join(chr(state) for state in PlanState if state not in ENDED)
CACHE = 32 * 1024 * 1024  # bytes of plans kept in memory

_definition_decoder = msgspec.json.Decoder(Definition)
_ENDING = frozenset({PlanState.CANCELLING, PlanState.REVERTING})
_STOPPING = frozenset({PlanState.FAILING, PlanState.CANCELLING})
_LIVE = frozenset({PlanState.RUNNING, PlanState.PAUSED})
_CANCELLING = int(PlanState.CANCELLING)
_RUNNING = int(PlanState.RUNNING)
_REVERTING = int(PlanState.REVERTING)
_NOT_BEGUN = frozenset({PlanState.SCHEDULED, PlanState.WAITING})


# -- timers: what they are called says what they are for ------------------------------------------


def retry_timer(plan: str, step: int, attempt: int) -> str:
    """The timer of a step's next attempt: `r PLAN/STEP/ATTEMPT`, the attempt that failed."""
    return f"r {step_key(plan, step, attempt)}"


def wake_timer(plan: str, step: int, attempt: int) -> str:
    """A suspended step goes on by itself: `s PLAN/STEP/ATTEMPT`, the attempt that was suspended."""
    return f"s {step_key(plan, step, attempt)}"


def more_timer(plan: str) -> str:
    """`m PLAN`: there is something to do about the plan (steps are ready, its time has come, it got its locks)."""
    return f"m {plan}"


def late_timer(plan: str) -> str:
    """`b PLAN`: it should have started before."""
    return f"b {plan}"


def check_timer(plan: str) -> str:
    """`x PLAN`: it is being ended; which of its steps does no worker own any more?"""
    return f"x {plan}"


def limit_timer(limit: str) -> str:
    """`g LIMIT`: its rate lets the next step begin."""
    return f"g {limit}"


def repeat_timer(name: str) -> str:
    """`c NAME`: a recurring plan is due."""
    return f"c {name}"


class Named:
    """What `decide` needs in memory: plans, and the records of recurring plans."""

    def __init__(self) -> None:
        self.plans: set[str] = set()
        self.repeats: set[str] = set()


def named(events: Iterable[Event], due: Iterable[str], corpses: Iterable[Corpse]) -> Named:
    """What these are about."""
    found = Named()
    plans = found.plans
    for event in events:
        if isinstance(event, Submitted):
            plans.update(event.after)
        elif isinstance(event, Recurring):
            found.repeats.add(event.name)
        elif not isinstance(event, Died):
            plans.add(event.plan)
    for timer in due:
        kind, _, rest = timer.partition(" ")
        if kind in {"r", "s"}:
            plans.add(read_key(rest)[0])
        elif kind in {"m", "b", "x"}:
            plans.add(rest)
        elif kind == "c":
            found.repeats.add(rest)
    for corpse in corpses:
        plans.update(read_key(key)[0] for key in corpse.owned)
    return found


class Director:
    """Holds the plans in memory (bounded in bytes; the least recently used go first), locks and limits."""

    def __init__(
        self,
        cache: int = CACHE,
        *,
        most: int = MAX_EFFECTS,
        locks: Locks | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.plans: OrderedDict[str, PlanRun] = OrderedDict()
        self._cache = cache
        self._most = most  # effects a commit
        self._size = 0
        self._eager: OrderedDict[str, None] = OrderedDict()  # plans with steps that could be queued now
        self._locks = locks or Locks()
        self._limits = limits or Limits()
        self._opened: dict[str, None] = dict.fromkeys(self._limits.waited_for())  # limits that may have room
        self._undos: dict[str, Undo] = {}
        self._repeats: dict[str, Repeat] = {}
        self._commit = Commit()
        self._touched: dict[str, PlanRun] = {}
        self._now = 0
        self._accepting = False  # the plan's hooks are called once it is known in which state it begins
        self._gone: set[str] = set()  # named by a timer that is due, and not to be found
        self._handlers: dict[type, Callable[..., None]] = {
            Finished: self._finish,
            Resumed: self._resume,
            Skipped: self._skip,
            Retried: self._retry,
            Sent: self._send,
            Cancelled: self._cancel,
            Halted: self._halt,
            Reverted: self._revert,
            Ended: self._ended,
            Cascade: self._cascade,
            Recurring: self._recur,
        }

    # -- memory -----------------------------------------------------------------------------------

    def adopt(self, run: PlanRun) -> None:
        """Take a plan that was loaded from Redis."""
        self.plans[run.id] = run
        self._size += run.size
        run.limited = self._limits.table(run.policies)
        if run.ready and run.state[0] == _RUNNING:
            self._eager[run.id] = None

    @property
    def eager(self) -> bool:
        """True while there is something to do that the last commit had no room for."""
        return bool(self._eager or self._opened)

    def _forget(self, plan: str) -> None:
        run = self.plans.pop(plan, None)
        self._undos.pop(plan, None)
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
        owned: Mapping[str, Set[int]] | None = None,
        repeats: Mapping[str, Repeat] | None = None,
    ) -> tuple[Commit, int]:
        """Return the commit and how many of `events` it covers.

        `events` are (position, event), None for one that could not be read; `due` are timers whose time
        has come; `now_ms` is Redis' TIME; `unreadable` are accepted plans that could not be loaded, with
        the reason; `owned` are, for each due check timer's plan, the steps that workers own, read so that
        every earlier event of theirs is handled by now; `repeats` are the records of the recurring plans
        that are named. Corpses and timers are always dealt with; events until the commit is full.
        """
        self._commit = commit = Commit()
        self._touched = {}
        self._now = now_ms
        self._repeats = dict(repeats or {})
        self._gone.clear()
        for plan, why in (unreadable or {}).items():
            commit.states.append(StateWrite(plan, 0, bytes([PlanState.REJECTED])))
            self._refuse(plan, why, before=_OPEN)
        for corpse in corpses:
            self._reap(corpse)
        for timer in due:
            self._ring(timer, owned or {})
        covered = 0
        for position, event in events:
            if covered and self._full:  # one at least, so that timers cannot starve events
                break
            if isinstance(event, Submitted):
                if event.after and any(map(self._unloaded, event.after)):
                    break
                self._accept(event, int(position.partition("-")[0]))
            elif event is not None and not isinstance(event, Died):
                # A death is dealt with as a corpse; what cannot be read is put aside by the loop.
                if not isinstance(event, Recurring) and event.plan not in self.plans and event.plan in commit.created:
                    break  # accepted in this turn, and not in memory: the next turn loads it
                self._handlers[type(event)](event)
            commit.position = position
            covered += 1
        self._dispatch()
        self._settle()
        self._trim()
        return commit, covered

    @property
    def _full(self) -> bool:
        return self._commit.effects >= self._most or self._commit.size >= MAX_SIZE

    def _unloaded(self, plan: str) -> bool:
        """Accepted in this turn, and not in memory: the next turn loads it."""
        return plan in self._commit.created and plan not in self.plans

    # -- beginning --------------------------------------------------------------------------------

    def _accept(self, event: Submitted, submitted_ms: int) -> None:
        if event.plan in self.plans or event.plan in self._commit.created:
            return  # submitted twice is one plan
        commit = self._commit
        try:
            definition = _definition_decoder.decode(event.definition)
            run = PlanRun(event.plan, definition)
            run.orphaned = False
            if not definition.parts:
                run.extend(definition.steps)
                if not run.whole:
                    raise DefinitionError(f"{len(run.steps)} steps, but {run.total} announced")
            if definition.after:
                self._follow(run)
        except (msgspec.MsgspecError, DefinitionError) as error:
            commit.created[event.plan] = bytes([PlanState.REJECTED])
            self._refuse(event.plan, str(error))
            return
        for index in (f"action:{definition.label}", *(f"labelled:{label}" for label in definition.labels)):
            commit.labelled.setdefault(index, []).append((submitted_ms, run.id))
        commit.move(run.id, "", chr(PlanState.RUNNING), submitted_ms)
        commit.count(len(run.state))
        commit.created[run.id] = b""  # filled when the turn is settled
        self._touched[run.id] = run
        if definition.start_at_ms or definition.after or definition.locks:
            run.set_plan(PlanState.SCHEDULED)
            commit.move(run.id, "", chr(PlanState.SCHEDULED), self._now)
            if definition.start_before_ms:
                commit.timers[late_timer(run.id)] = definition.start_before_ms
            self._accepting = True
            self._open(run)
            self._accepting = False
        if not definition.parts:
            self.adopt(run)
            run.dirty.add(0)
        elif run.plan_state is PlanState.RUNNING:
            commit.timers[more_timer(run.id)] = self._now  # loaded from Redis, part by part, when the timer names it
        if run.definition.hooks:
            self._call_hooks(run)

    def _refuse(self, plan: str, why: str, *, before: str = "") -> None:
        commit = self._commit
        commit.move(plan, before, chr(PlanState.REJECTED), self._now)
        commit.announced[plan] = chr(PlanState.REJECTED)
        self._explain(plan, Failure(kind="refused", message=why, final=True))

    def _explain(self, plan: str, failure: Failure) -> None:
        """Keep why a plan ended as it did."""
        self._commit.records.setdefault(plan, {})[WHOLE_PLAN] = encode(failure)
        self._commit.count(len(failure.message))

    def _follow(self, run: PlanRun) -> None:
        """It starts after others: have them tell of their end. Raises `DefinitionError`."""
        for other in run.definition.after:
            leader = self.plans.get(other)
            if leader is None:
                raise DefinitionError(f"it is to start after plan {other}, which does not exist (any more)")
            if leader.plan_state in ENDED:
                if leader.plan_state is not PlanState.SUCCEEDED and run.definition.after_failure == "fail":
                    raise DefinitionError(_not_after(other, leader.plan_state))
                continue
            if len(leader.record.followers) >= MAX_FOLLOWERS:
                raise DefinitionError(f"{MAX_FOLLOWERS:,} plans start after plan {other} already")
            run.record.awaits.append(other)
            leader.record.followers.append(run.id)
            self._keep(leader)
        if run.record.awaits:
            self._keep(run)

    def _open(self, run: PlanRun) -> None:
        """Start it if its time has come, the plans before it have ended, and it holds its locks."""
        definition = run.definition
        if definition.start_at_ms > self._now:
            self._commit.timers[more_timer(run.id)] = definition.start_at_ms
            return
        if definition.start_before_ms and self._now > definition.start_before_ms:
            self._miss(run, "it was to start before, and had to wait")
            return
        self._plan(run, PlanEvent.DUE)
        if run.rest is not None and run.rest.awaits:
            return
        if definition.locks:
            if run.id not in self._locks:
                locks = self._locks.beyond(run.id, definition.locks)
                if definition.busy == "reject" and not self._locks.free(locks):
                    self._miss(run, f"another plan holds {', '.join(repr(lock.name) for lock in definition.locks)}")
                    return
                ticket = self._locks.ask(run.id, locks)
                for lock in locks:
                    self._commit.locked[lock_member(run.id, lock)] = ticket
                    self._commit.count(100)
            if not self._locks.holds(run.id):
                return
        if self._plan(run, PlanEvent.OPENED):
            if definition.start_before_ms:
                self._commit.stopped_timers.add(late_timer(run.id))
                self._commit.timers.pop(late_timer(run.id), None)
            if run.ready:
                self._eager[run.id] = None
            elif not run.steps and run.total:
                self._commit.timers[more_timer(run.id)] = self._now

    def _miss(self, run: PlanRun, why: str) -> None:
        if self._plan(run, PlanEvent.MISSED):
            self._explain(run.id, Failure(kind="not started", message=why, final=True))

    # -- what workers say -------------------------------------------------------------------------

    def _finish(self, event: Finished) -> None:
        run = self._known(event.plan)
        if run is None or not 0 <= event.step < run.total or run.attempt(event.step) != event.attempt:
            return
        if event.failure is None:
            if event.suspended is not None:
                self._suspend(run, event.step, event.suspended)
            elif run.state[0] == _CANCELLING and _told_to_cancel(run, event.step):
                self._step(run, event.step, StepEvent.CANCELLED)
            elif self._step(run, event.step, StepEvent.SUCCEEDED) and run.id in self._undos:
                self._undone(run, event.step)
            return
        policy = self._policy(run, event.step)
        record = run.kept(event.step)
        failures = record.failures + 1
        kept = msgspec.structs.replace(record, failures=failures, error=encode(event.failure).decode())
        self._history(run, "failed", event.step, event.attempt, event.failure)
        undoing = run.state[event.step + 1] == StepState.UNDOING
        if run.plan_state in _ENDING and not undoing:
            cancelled = event.failure.kind == "cancelled"
            self._give_up(run, event.step, StepEvent.CANCELLED if cancelled else StepEvent.FAILED, kept, "")
            if event.children:
                self._cancel_children(run, event.step, event.children, run.record.grace_ms)
        elif event.failure.final or failures >= policy.attempts or not (run.plan_state is PlanState.RUNNING or undoing):
            self._give_up(run, event.step, StepEvent.FAILED, kept, policy.rescue)
        elif self._step(run, event.step, StepEvent.BACKED_OFF):
            run.note(event.step, kept)
            key = step_key(run.id, event.step, event.attempt)
            timer = retry_timer(run.id, event.step, event.attempt)
            self._commit.timers[timer] = self._now + backoff_ms(policy, failures, key)
            self._commit.count(len(kept.error))

    def _suspend(self, run: PlanRun, step: int, how: Suspension) -> None:
        told = _told_to_cancel(run, step)
        if not self._step(run, step, StepEvent.SUSPENDED):
            return
        record = run.kept(step)
        more = record.more or More()
        more = msgspec.structs.replace(more, wake=how.event, event=None)
        if how.children:
            more.total, more.end = how.children, how.end or how.children
        run.note(step, msgspec.structs.replace(record, more=more))
        self._history(run, "suspended", step, record.attempt)
        if run.plan_state in _ENDING:
            self._cancel_suspended(run, step, told=told)
        elif more.events:
            name, data = more.events[0]
            more.events = more.events[1:]
            self._wake(run, step, name, data)
        elif more.total and more.ok + more.bad >= more.total:
            self._wake_parent(run, step, more)
        elif how.wake_ms:
            self._commit.timers[wake_timer(run.id, step, record.attempt)] = self._now + how.wake_ms

    def _wake(self, run: PlanRun, step: int, name: str, data: Raw) -> None:
        """A suspended step goes on: the same action, the next attempt, and why."""
        if not self._step(run, step, StepEvent.WOKEN):
            return
        record = run.kept(step)
        more = record.more or More()
        more = msgspec.structs.replace(more, woken=more.woken + 1, event=(name, data))
        self._commit.stopped_timers.add(wake_timer(run.id, step, record.attempt))
        run.note(step, msgspec.structs.replace(record, attempt=record.attempt + 1, more=more))
        self._stand(run, step)

    def _wake_parent(self, run: PlanRun, step: int, more: More) -> None:
        """All sub-plans of this generation have ended."""
        data = Raw(encode((more.total, more.ok, more.bad)))
        after = msgspec.structs.replace(more, generation=more.generation + 1, total=0, end=0, ok=0, bad=0)
        run.note(step, msgspec.structs.replace(run.kept(step), more=after))
        self._wake(run, step, "children", data)

    def _stand(self, run: PlanRun, step: int, *, first: bool = False) -> None:
        """Put a step that has begun before onto its queue (`first`: to its front)."""
        queue, entry = self._entry(run, step)
        losses = run.kept(step).losses
        where = self._commit.returned if first else self._commit.pushed
        self._commit.push(self._commit.alone if losses >= ALONE_AFTER else where, queue, entry)

    def _ended(self, event: Ended) -> None:
        """A plan that this one waits for has ended."""
        run = self._known(event.plan)
        if run is None:
            return
        if event.step == WHOLE_PLAN:
            if event.other in run.record.awaits:
                run.record.awaits.remove(event.other)
                self._keep(run)
                if event.state != chr(PlanState.SUCCEEDED) and run.definition.after_failure == "fail":
                    self._miss(run, _not_after(event.other, PlanState(ord(event.state))))
                elif run.plan_state in _NOT_BEGUN:
                    self._open(run)
            return
        record = run.kept(event.step)
        more = record.more or More()
        well = event.state == chr(PlanState.SUCCEEDED)
        more = msgspec.structs.replace(more, ok=more.ok + well, bad=more.bad + (not well))
        run.note(event.step, msgspec.structs.replace(record, more=more))
        self._commit.count()
        if more.total and more.ok + more.bad >= more.total and run.state[event.step + 1] == StepState.SUSPENDED:
            self._wake_parent(run, event.step, more)

    # -- time -------------------------------------------------------------------------------------

    def _ring(self, timer: str, owned: Mapping[str, Set[int]]) -> None:
        kind, _, rest = timer.partition(" ")
        self._commit.stopped_timers.add(timer)
        self._commit.count()
        if kind == "g":
            self._opened[rest] = None
            return
        if kind == "c":
            self._repeat(rest)
            return
        if kind in {"m", "b", "x"}:
            run = self._known(rest)
            if run is None:
                self._gone.add(rest)
                return
            if kind == "x":
                self._check(run, owned.get(rest))
            elif run.plan_state in _NOT_BEGUN:
                self._open(run) if kind == "m" else self._miss(run, "it was to start before, and had to wait")
            return
        plan, step, attempt = read_key(rest)
        run = self._known(plan)
        if run is None or run.attempt(step) != attempt:
            return
        record = run.kept(step)
        if kind == "s":
            if run.state[step + 1] == StepState.SUSPENDED and record.more is not None:
                self._wake(run, step, record.more.wake, Raw(b"null"))
            return
        undoing = run.state[step + 1] == StepState.UNDO_RETRYING
        if self._step(run, step, StepEvent.DUE):
            run.note(step, msgspec.structs.replace(record, attempt=attempt + 1))
            if undoing:
                self._stand(run, step)

    # -- deaths -----------------------------------------------------------------------------------

    def _reap(self, corpse: Corpse) -> None:
        self._commit.reaped.append(corpse)
        self._commit.count()
        for key in corpse.owned:
            plan, step, attempt = read_key(key)
            run = self._known(plan)
            if run is None or not 0 <= step < run.total or run.attempt(step) != attempt:
                continue
            self._lose(run, step, corpse)

    def _lose(self, run: PlanRun, step: int, corpse: Corpse) -> None:
        record = run.kept(step)
        losses = record.losses + 1
        policy = self._policy(run, step)
        undoing = run.state[step + 1] == StepState.UNDOING
        message, rescue = None, policy.rescue
        if run.plan_state in _ENDING and not undoing:
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
        self._history(run, "lost", step, record.attempt, corpse.incarnation)
        if message is not None:
            error = encode(Failure(kind="lost", message=message, worker=corpse.incarnation)).decode()
            kept = msgspec.structs.replace(record, losses=losses, error=error)
            self._give_up(run, step, StepEvent.GIVEN_UP, kept, rescue)
        elif self._step(run, step, StepEvent.LOST):
            more = record.more
            if policy.reboots and not undoing:
                losses = record.losses
                more = msgspec.structs.replace(more or More(), boot=corpse.boot)
            run.note(step, msgspec.structs.replace(record, attempt=record.attempt + 1, losses=losses, more=more))
            self._stand(run, step, first=True)

    def _give_up(self, run: PlanRun, step: int, event: StepEvent, record: StepRecord, rescue: str) -> None:
        """A step has failed for good: what its action's rescue says about the plan."""
        undoing = run.state[step + 1] == StepState.UNDOING
        if self._step(run, step, StepEvent.SKIPPED if rescue == "skip" and not undoing else event):
            run.note(step, record)
            self._commit.count(len(record.error))
            if undoing:
                return
            if rescue == "fail":
                self._plan(run, PlanEvent.GIVEN_UP)
            elif rescue == "revert":
                self._begin_revert(run, 0)

    # -- what people ask for ----------------------------------------------------------------------

    def _skip(self, event: Skipped) -> None:
        run = self._known(event.plan)
        if run is None or not 0 <= event.step < run.total:
            return
        if run.plan_state not in _LIVE or run.state[event.step + 1] != StepState.FAILED:
            return
        if self._step(run, event.step, StepEvent.SKIPPED):
            self._history(run, "asked", f"skip {event.step}", event.by)
            self._go_on(run)

    def _retry(self, event: Retried) -> None:
        run = self._known(event.plan)
        if run is None or not 0 <= event.step < run.total:
            return
        if run.plan_state in _LIVE and self._again(run, event.step):
            self._history(run, "asked", f"retry {event.step}", event.by)
            self._go_on(run)

    def _resume(self, event: Resumed) -> None:
        run = self._known(event.plan)
        if run is None or run.plan_state is not PlanState.PAUSED:
            return
        self._history(run, "asked", "resume", event.by)
        for step in run.in_state(StepState.FAILED):
            self._again(run, step)
        self._go_on(run)

    def _again(self, run: PlanRun, step: int) -> bool:
        """From its beginning, with all its attempts."""
        record = run.kept(step)
        if not self._step(run, step, StepEvent.RESUMED):
            return False
        more = record.more
        if more is not None:
            more = msgspec.structs.replace(more, event=None, events=[], boot="")
        run.note(step, StepRecord(record.attempt + 1, 0, 0, record.error, more))
        return True

    def _go_on(self, run: PlanRun) -> None:
        self._plan(run, PlanEvent.RESUMED)  # with another step that failed it pauses again by itself
        if run.ready:
            self._eager[run.id] = None

    def _send(self, event: Sent) -> None:
        run = self._known(event.plan)
        if run is None or not 0 <= event.step < run.total:
            return
        state = run.state[event.step + 1]
        if state == StepState.SUSPENDED:
            self._history(run, "event", event.step, event.name, event.by)
            self._wake(run, event.step, event.name, event.data)
        elif state in {StepState.WAITING, StepState.STANDING, StepState.RETRYING} and not event.optional:
            record = run.kept(event.step)
            more = record.more or More()
            if len(more.events) < MAX_KEPT:
                more = msgspec.structs.replace(more, events=[*more.events, (event.name, event.data)])
                run.note(event.step, msgspec.structs.replace(record, more=more))
                self._history(run, "event", event.step, event.name, event.by)
                self._commit.count(len(event.data))

    # -- ending a plan ----------------------------------------------------------------------------

    def _cancel(self, event: Cancelled) -> None:
        run = self._known(event.plan)
        if run is None:
            return
        if run.plan_state is PlanState.CANCELLING and event.grace_ms < run.record.grace_ms:  # less patience than before
            run.record.grace_ms = self._commit.stopped[run.id] = event.grace_ms
            self._keep(run)
        elif self._plan(run, PlanEvent.CANCELLED):
            self._stop(run, event.grace_ms)
        else:
            return
        self._history(run, "asked", "cancel", event.by)

    def _revert(self, event: Reverted) -> None:
        run = self._known(event.plan)
        if run is not None and self._begin_revert(run, 0):
            self._history(run, "asked", "revert", event.by)

    def _begin_revert(self, run: PlanRun, grace_ms: int) -> bool:
        if not self._plan(run, PlanEvent.UNDO):
            return False
        self._stop(run, grace_ms)
        return True

    def _stop(self, run: PlanRun, grace_ms: int) -> None:
        """Nothing new of it starts; what stands is ended."""
        run.record.grace_ms = grace_ms
        self._keep(run)
        self._eager.pop(run.id, None)
        for step in run.in_state(StepState.RETRYING):
            self._step(run, step, StepEvent.CANCELLED)
        for name in list(run.blocked):
            self._leave_line(name, run.id)
        run.blocked.clear()
        if run.standing:
            run.marked, run.orphaned = True, False
            self._commit.stopped[run.id] = grace_ms
            self._commit.count(50)
            self._commit.timers[check_timer(run.id)] = self._now
        for step in run.in_state(StepState.SUSPENDED):
            self._cancel_suspended(run, step)

    def _cancel_suspended(self, run: PlanRun, step: int, *, told: bool = False) -> None:
        more = run.kept(step).more or More()
        if more.total:
            self._cancel_children(run, step, more.end, run.record.grace_ms)
        if self._policy(run, step).cancels and not told:
            self._wake(run, step, "cancel", Raw(b"null"))
            self._commit.timers[check_timer(run.id)] = self._now + CHECK_AGAIN
        else:
            self._step(run, step, StepEvent.CANCELLED)

    def _cancel_children(self, run: PlanRun, step: int, count: int, grace_ms: int) -> None:
        more = run.kept(step).more or More()
        self._tell(Cascade(run.id, step, more.generation, 0, count, grace_ms))

    def _cascade(self, event: Cascade) -> None:
        """Cancel (grace below 0: halt) some of a step's sub-plans, and have the next ones cancelled."""
        until = min(event.first + CASCADE, event.end)
        for number in range(event.first, until):
            child = child_id(event.plan, event.step, number, event.generation)
            by = f"plan {event.plan}"
            self._tell(Cancelled(child, event.grace_ms, by) if event.grace_ms >= 0 else Halted(child, by))
        if until < event.end:
            self._tell(msgspec.structs.replace(event, first=until))

    def _check(self, run: PlanRun, owned: Set[int] | None) -> None:
        """Of a plan that is being ended, give up what no worker owns: its entries are dropped when they are taken."""
        if run.plan_state not in _ENDING or run.id in self._undos:
            return
        if owned is not None:
            for step in run.in_state(StepState.STANDING):
                if step not in owned and not _told_to_cancel(run, step):
                    run.orphaned = True
                    self._step(run, step, StepEvent.CANCELLED)
        if run.standing:
            self._commit.timers[check_timer(run.id)] = self._now + CHECK_AGAIN

    def _halt(self, event: Halted) -> None:
        run = self._known(event.plan)
        if run is None:
            return
        stands = run.in_state(StepState.STANDING, StepState.UNDOING)
        if not self._plan(run, PlanEvent.HALTED):
            return
        self._history(run, "asked", "halt", event.by)
        if stands:
            run.orphaned = True
            self._commit.count(50)
            self._commit.stopped[run.id] = 0
        for step in run.in_state(
            StepState.STANDING, StepState.UNDOING, StepState.SUSPENDED, StepState.RETRYING, StepState.UNDO_RETRYING
        ):
            more = run.kept(step).more
            if more is not None and more.total:
                self._cancel_children(run, step, more.end, -1)
            self._step(run, step, StepEvent.CANCELLED)

    def _undone(self, run: PlanRun, step: int) -> None:
        undo = self._undos[run.id]
        undo.done(step)
        if undo.ready:
            self._eager[run.id] = None

    # -- recurring --------------------------------------------------------------------------------

    def _recur(self, event: Recurring) -> None:
        known = self._repeats.get(event.name)
        if event.what == "set":
            try:
                found = msgspec.json.decode(event.record, type=Repeat)
                self._store_repeat(found.begun(self._now))
            except (msgspec.MsgspecError, ValueError):
                return  # the client checks before it sends
        elif known is None:
            return
        elif event.what == "remove":
            self._repeats.pop(event.name)
            self._commit.repeats[event.name] = None
            self._commit.stopped_timers.add(repeat_timer(event.name))
            self._commit.timers.pop(repeat_timer(event.name), None)
            self._commit.count()
        elif event.what in {"pause", "resume"}:
            self._store_repeat(known.paused_at(self._now) if event.what == "pause" else known.resumed_at(self._now))

    def _repeat(self, name: str) -> None:
        known = self._repeats.get(name)
        if known is None or known.paused:
            return
        due, after = known.due(self._now)
        for at_ms in due:
            plan = known.plan_id(at_ms)
            meta = encode({"by": f"recurring {name}", "submitted_ms": self._now})
            self._launch(Launch(plan, bytes(known.definition), meta))
        self._store_repeat(after)

    def _store_repeat(self, record: Repeat) -> None:
        data = encode(record)
        self._repeats[record.name] = record
        self._commit.repeats[record.name] = data
        self._commit.count(len(data))
        timer = repeat_timer(record.name)
        if record.next_ms and not record.paused:
            self._commit.timers[timer] = record.next_ms
        else:
            self._commit.stopped_timers.add(timer)
            self._commit.timers.pop(timer, None)

    def _launch(self, launch: Launch) -> None:
        self._commit.launched.append(launch)
        self._commit.count(2 * len(launch.definition))

    def _call_hooks(self, run: PlanRun) -> None:
        letter = chr(run.plan_state)
        for number, hook in enumerate(run.definition.hooks):
            if letter not in hook.states or not 0 <= hook.policy < len(run.policies):
                continue
            policy = run.policies[hook.policy]
            given = msgspec.json.decode(hook.input)
            given |= {"plan": run.id, "state": run.plan_state.name.lower()}
            definition = Definition(
                label=policy.action, policies=[policy], total=1, steps=[Step(0, Raw(encode(given)))], labels=["hook"]
            )
            plan = f"{run.id}.hook.{letter}{number}.{self._now}"
            meta = encode({"by": f"plan {run.id}", "submitted_ms": self._now})
            self._launch(Launch(plan, encode(definition), meta))

    # -- moving states ----------------------------------------------------------------------------

    def _known(self, plan: str) -> PlanRun | None:
        run = self.plans.get(plan)
        if run is not None and run.state[0] in ENDED:  # a timer that outlived it, a late event
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
        if run.ready and run.state[0] == _RUNNING:
            self._eager[run.id] = None
        if run.limited and event not in {StepEvent.SUSPENDED, StepEvent.WOKEN, StepEvent.LOST}:
            self._leave_slots(run, step)
        return True

    def _plan(self, run: PlanRun, event: PlanEvent) -> bool:
        before = run.plan_state
        after = PLAN_LIFE[before][event]
        if after is None:
            return False
        self._commit.move(run.id, chr(before), chr(after), self._now)
        run.set_plan(after)
        self._commit.announced[run.id] = chr(after)
        self._commit.count(1)
        if after is not PlanState.SUCCEEDED:
            self._history(run, "plan", after.name.lower())
        if run.definition.hooks and not self._accepting:
            self._call_hooks(run)
        return True

    def _keep(self, run: PlanRun) -> None:
        self._touched[run.id] = run
        self._commit.records.setdefault(run.id, {})[PLAN_RECORD] = encode(run.record)
        self._commit.count(20 * len(run.record.followers) + 40)

    def _history(self, run: PlanRun, *what: object) -> None:
        entry = encode((self._now, *what))
        self._commit.history.setdefault(run.id, []).append(entry)
        self._commit.count(len(entry))

    def _tell(self, event: Event) -> None:
        data = encode(event)
        self._commit.told.append(data)
        self._commit.count(len(data))

    def _policy(self, run: PlanRun, step: int) -> Policy:
        return run.policies[run.steps[step].policy]

    def _entry(self, run: PlanRun, step: int) -> tuple[str, bytes]:
        """The queue of a step and its entry for the current attempt."""
        definition = run.steps[step]
        policy = run.policies[definition.policy]
        record = run.records.get(step)
        queue = f"@{definition.node}" if definition.node else policy.queue
        undoing = run.state[step + 1] == StepState.UNDOING
        action = f"{policy.action}:revert" if undoing else policy.action
        if record is None and not undoing:
            extra = Extra(policy.timeout_ms, policy.exclusive) if policy.timeout_ms or policy.exclusive else None
            return queue, write_entry(step_key(run.id, step, 1), action, definition.input, extra, suspect=False)
        record = record or StepRecord()
        more = record.more or More()
        event, children = more.event, None
        if event is not None and event[0] == "children":
            total, ok, bad = msgspec.json.decode(event[1])
            children = (total, ok, bad)
        extra = Extra(
            timeout_ms=policy.timeout_ms,
            exclusive=policy.exclusive,
            alone=record.losses >= ALONE_AFTER,
            tries=record.failures,
            event=None if undoing else event,
            saved=event is not None and not undoing,
            generation=more.generation,
            children=None if undoing else children,
            output=undoing,
            boot="" if undoing else more.boot,
        )
        despite = undoing or (event is not None and event[0] == "cancel")
        key = step_key(run.id, step, record.attempt)
        entry = write_entry(key, action, definition.input, extra, suspect=record.losses > 0, despite=despite)
        return queue, entry

    # -- limits -----------------------------------------------------------------------------------

    def _limits_of(self, run: PlanRun, step: int) -> tuple[str, ...]:
        if not run.limited:
            return ()
        definition = run.steps[step]
        names = run.limited[definition.policy]
        return names if definition.node is None else tuple(name for name in names if name.startswith("action:"))

    def _leave_slots(self, run: PlanRun, step: int) -> None:
        for name in self._limits_of(run, step):
            slot = f"{run.id}/{step}"
            if self._limits.leave(name, slot):
                self._commit.slots[f"{name} {slot}"] = False
                self._commit.count()
                if self._limits.first(name) is not None:
                    self._opened[name] = None

    def _blocked(self, run: PlanRun, step: int, names: tuple[str, ...], turn: str) -> bool:
        """True when a limit has no room for it: it waits in line. Else it has its slots. `turn`: where it is first."""
        for name in names:
            opens = self._limits.opens(name, self._now)
            if (name != turn and self._limits.first(name) is not None) or opens is None or opens > self._now:
                if name not in run.blocked:
                    run.blocked[name] = deque()
                    self._wait(name, run.id)
                run.blocked[name].append(step)
                if opens is not None and opens > self._now:
                    self._commit.timers[limit_timer(name)] = opens
                return True
        for name in names:
            slot = f"{run.id}/{step}"
            rate = self._limits.take(name, slot, self._now)
            self._commit.slots[f"{name} {slot}"] = True
            self._commit.count()
            if rate is not None:
                self._commit.rates[name] = rate
        return False

    def _wait(self, name: str, plan: str) -> None:
        """At the end of the line for this limit."""
        self._commit.limited[f"{name} {plan}"] = self._limits.wait(name, plan)
        self._commit.count()

    def _leave_line(self, name: str, plan: str) -> None:
        self._limits.go(name, plan)
        self._commit.limited[f"{name} {plan}"] = None
        self._commit.count()

    def _let_in(self, name: str) -> None:
        """Steps that waited for this limit begin, a plan after another, as long as there is room."""
        while not self._full and (plan := self._limits.first(name)) is not None:
            opens = self._limits.opens(name, self._now)
            if opens is None or opens > self._now:
                if opens is not None:
                    self._commit.timers[limit_timer(name)] = opens
                break
            run = self.plans.get(plan)
            if run is None and plan not in self._gone:
                self._commit.timers[more_timer(plan)] = self._now  # loaded by the next turn, which goes on here
                return
            waiting = (run.blocked.get(name) or run.ready) if run is not None else None
            if run is None or not waiting or run.plan_state is not PlanState.RUNNING:
                self._leave_line(name, plan)
                continue
            step = waiting.popleft()
            if not run.blocked.get(name):
                run.blocked.pop(name, None)
            if waiting:
                self._wait(name, plan)  # the others first
            else:
                self._leave_line(name, plan)
            self._touched[plan] = run
            self._queue(run, step, turn=name)
        if not self._full:
            self._opened.pop(name, None)

    # -- closing a turn ---------------------------------------------------------------------------

    def _queue(self, run: PlanRun, step: int, turn: str = "") -> None:
        """Queue a ready step, if its limits allow."""
        names = self._limits_of(run, step)
        if names and self._blocked(run, step, names, turn):
            return
        if run.advance(step, StepEvent.QUEUED):
            self._touched[run.id] = run
            queue, entry = self._entry(run, step)
            self._commit.push(self._commit.pushed, queue, entry)

    def _dispatch(self) -> None:
        """Queue ready steps while the commit has room, a plan at a time, each plan at most its window."""
        commit = self._commit
        for name in list(self._opened):
            self._let_in(name)
        for plan in list(self._eager):
            run = self.plans[plan]
            undo = self._undos.get(plan)
            if undo is not None:
                while undo.ready and run.count(StepState.UNDOING) < WINDOW:
                    if commit.pushed and self._full:
                        self._eager.move_to_end(plan)
                        return
                    self._undo(run, undo.ready.popleft())
                if not undo.ready:
                    del self._eager[plan]
                continue
            limit = run.definition.limit
            room = min(limit - run.count(StepState.SUSPENDED), WINDOW) if limit else WINDOW
            while run.ready and run.standing < room and run.plan_state is PlanState.RUNNING:
                if commit.pushed and self._full:
                    self._eager.move_to_end(plan)  # the next turn starts with the other plans
                    return
                self._queue(run, run.ready.popleft())
            del self._eager[plan]

    def _undo(self, run: PlanRun, step: int) -> None:
        if not self._step(run, step, StepEvent.UNDO):
            return
        self._touched[run.id] = run
        record = run.kept(step)
        run.note(step, StepRecord(record.attempt + 1, 0, 0, "", record.more))
        queue, entry = self._entry(run, step)
        self._commit.push(self._commit.pushed, queue, entry)

    def _settle(self) -> None:
        """Close the books of every plan that was touched: its end, its states, its records."""
        commit = self._commit
        for plan, run in self._touched.items():
            state = run.state[0]
            if state == _RUNNING:
                if run.whole and not run.moving:
                    if not run.left:
                        self._plan(run, PlanEvent.COMPLETED)
                    elif run.ready:
                        commit.timers[more_timer(plan)] = self._now
                    else:
                        # A sub-plan does not wait for a person: its parent step tells of it.
                        self._plan(run, PlanEvent.GIVEN_UP if run.definition.parent else PlanEvent.STALLED)
            elif state == _REVERTING:
                self._settle_revert(run)
            if run.state[0] in _STOPPING and not run.standing and not run.count(StepState.SUSPENDED):
                self._plan(run, PlanEvent.STOPPED)
            if run.state[0] in ENDED:
                self._close(run)
            if plan in commit.created:
                commit.created[plan] = bytes(run.state)
            else:
                commit.states.extend(_writes(run))
            run.dirty.clear()
            if run.touched:
                kept = commit.records.setdefault(plan, {})
                kept.update((step, encode(run.records[step])) for step in run.touched)
                run.touched.clear()

    def _settle_revert(self, run: PlanRun) -> None:
        if run.moving:
            return
        undo = self._undos.get(run.id)
        if undo is None:
            undo = self._undos[run.id] = Undo(run)
        if undo.ready:
            if run.count(StepState.UNDOING) < WINDOW and run.id not in self._eager:
                self._eager[run.id] = None
                self._commit.timers[more_timer(run.id)] = self._now
        elif not run.count(StepState.UNDOING) and not run.count(StepState.UNDO_RETRYING):
            spoiled = run.in_state(StepState.SPOILED)
            if not spoiled:
                self._plan(run, PlanEvent.COMPLETED)
            elif self._plan(run, PlanEvent.GIVEN_UP):
                steps = ", ".join(map(str, spoiled[:20]))
                message = f"not all of it could be undone: the revert of step {steps} failed"
                self._explain(run.id, Failure(kind="not reverted", message=message, final=True))

    def _close(self, run: PlanRun) -> None:
        """It has ended: whoever waits for that, or for what it held, is told."""
        letter = chr(run.plan_state)
        parent = run.definition.parent
        if parent is not None:
            self._tell(Ended(parent[0], parent[1], run.id, letter))
        if run.rest is not None:
            for follower in run.rest.followers:
                self._tell(Ended(follower, WHOLE_PLAN, run.id, letter))
        if run.id in self._locks:
            locks, entered = self._locks.leave(run.id)
            for lock in locks:
                self._commit.locked[lock_member(run.id, lock)] = None
                self._commit.count()
            for plan in entered:
                self._commit.timers[more_timer(plan)] = self._now
                self._commit.count()
        for name in list(run.blocked):
            self._leave_line(name, run.id)
        if run.marked and not run.orphaned:  # none of its entries is left anywhere
            self._commit.stopped[run.id] = None
        self._eager.pop(run.id, None)
        self._forget(run.id)


def _told_to_cancel(run: PlanRun, step: int) -> bool:
    """It runs to be cancelled: the last event that it got says so."""
    record = run.records.get(step)
    more = record.more if record is not None else None
    return more is not None and more.event is not None and more.event[0] == "cancel"


def _not_after(plan: str, state: PlanState) -> str:
    return f"it was to start after plan {plan}, which is {state.name.lower()}"


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
