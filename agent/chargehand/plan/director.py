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
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from chargehand.plan.attempts import Attempts
from chargehand.plan.books import CACHE, LEFT_OVER, MAX_EFFECTS, Books
from chargehand.plan.commit import CLOSED, Commit, Corpse, StateWrite
from chargehand.plan.dispatch import Dispatch
from chargehand.plan.ending import Ending
from chargehand.plan.life import ENDED, PlanEvent, PlanState, StepState
from chargehand.plan.limits import Limits
from chargehand.plan.locks import Locks, lock_member
from chargehand.plan.opening import NOT_BEGUN, Opening
from chargehand.plan.recurring import Repeats
from chargehand.plan.repeat import Repeat
from chargehand.plan.requests import Requests
from chargehand.plan.run import PlanRun, Unreadable, refused
from chargehand.plan.timers import check_timer, more_timer
from chargehand.wire import (
    HALTED,
    WHOLE_PLAN,
    Cancelled,
    Cascade,
    Died,
    Ended,
    Event,
    Finished,
    Halted,
    Recurring,
    Resumed,
    Retried,
    Reverted,
    Sent,
    Skipped,
    Submitted,
    encode,
    read_key,
)

__all__ = ["Director", "Named", "named"]

_OPEN = "".join(chr(state) for state in PlanState if state not in ENDED)
_RUNNING = int(PlanState.RUNNING)
_REVERTING = int(PlanState.REVERTING)
_STOPPING = frozenset({PlanState.FAILING, PlanState.CANCELLING})


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
    """`cache`: bytes of plans kept in memory. `most`: effects a commit. Locks and limits as they stand in Redis."""

    def __init__(
        self,
        cache: int = CACHE,
        *,
        most: int = MAX_EFFECTS,
        locks: Locks | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._books = books = Books(cache, most, locks or Locks(), limits or Limits())
        self._opening = Opening(books)
        self._ending = Ending(books)
        self._attempts = Attempts(books, self._ending)
        self._requests = Requests(books)
        self._repeats = Repeats(books)
        self._dispatch = Dispatch(books, self._ending)
        self._handlers: dict[type, Callable[..., None]] = {
            Finished: self._attempts.finish,
            Resumed: self._requests.resume,
            Skipped: self._requests.skip,
            Retried: self._requests.retry,
            Sent: self._requests.send,
            Cancelled: self._ending.cancel,
            Halted: self._ending.halt,
            Reverted: self._ending.revert,
            Cascade: self._ending.cascade,
            Ended: self._ended,
            Recurring: self._repeats.recur,
        }

    @property
    def plans(self) -> OrderedDict[str, PlanRun]:
        """Those in memory."""
        return self._books.plans

    def adopt(self, run: PlanRun) -> None:
        """Take a plan that was loaded from Redis."""
        self._books.adopt(run)

    @property
    def eager(self) -> bool:
        """True while there is something to do that the last commit had no room for."""
        return bool(self._books.eager or self._books.opened)

    def wanted(self) -> set[str]:
        """Plans that `decide` needs in memory beside those that are named: the next ones in line for a limit."""
        lines = (self._books.limits.first(name) for name in self._books.opened)
        self._books.asked = {plan for plan in lines if plan is not None and plan not in self._books.plans}
        return self._books.asked

    def decide(
        self,
        events: Sequence[tuple[str, Event | None]],
        *,
        now_ms: int,
        due: Sequence[str] = (),
        corpses: Sequence[Corpse] = (),
        unreadable: Mapping[str, Unreadable] | None = None,
        owned: Mapping[str, Set[int]] | None = None,
        repeats: Mapping[str, Repeat] | None = None,
    ) -> tuple[Commit, int]:
        """Return the commit and how many of `events` it covers.

        `events` are (position, event), None for one that could not be read; `due` are timers whose time
        has come; `now_ms` is Redis' TIME; `unreadable` are accepted plans that could not be loaded;
        `owned` are, for each due check timer's plan, the steps that workers own, read so that
        every earlier event of theirs is handled by now; `repeats` are the records of the recurring plans
        that are named; every plan that is named or `wanted` is in memory, or is not there. Corpses and
        timers are always dealt with; events while the commit has room for them and for what they make ready.
        """
        books = self._books
        commit = books.begin(now_ms)
        self._repeats.begin(dict(repeats or {}))
        for plan, found in (unreadable or {}).items():
            self._give_up(plan, found)
        for corpse in corpses:
            self._attempts.reap(corpse)
        for timer in due:
            if not timer.startswith("c "):
                self._ring(timer, owned or {})
        covered = 0
        for position, event in events:
            if covered and self._books.busy:  # one at least, so that timers cannot starve events
                break
            if isinstance(event, Submitted):
                if event.after and any(map(self._unloaded, event.after)):
                    break
                self._opening.accept(event, int(position.partition("-")[0]))
            elif event is not None and not isinstance(event, Died):
                # A death is dealt with as a corpse; what cannot be read is put aside by the loop.
                if (
                    not isinstance(event, Recurring)
                    and event.plan not in self._books.plans
                    and event.plan in commit.created
                ):
                    break  # accepted in this turn, and not in memory: the next turn loads it
                self._handlers[type(event)](event)
            commit.position = position
            covered += 1
        for timer in due:
            if timer.startswith("c "):  # somebody may have paused or removed it meanwhile: that comes first
                if covered < len(events):
                    commit.timers[timer] = now_ms
                else:
                    self._ring(timer, {})
        self._dispatch.dispatch()
        self._settle()
        books.asked = set()
        books.trim()
        return commit, covered

    def _give_up(self, plan: str, found: Unreadable) -> None:
        """It was accepted, and cannot be run: it ends, whatever was begun of it."""
        books = self._books
        books.commit.states.append(StateWrite(plan, 0, bytes([PlanState.REJECTED])))
        books.commit.stopped[plan] = HALTED
        books.refuse(plan, found.why, before=_OPEN)
        for slot in books.limits.leave_all(plan):
            books.commit.slots[slot] = False
            books.opened[slot.rpartition(" ")[0]] = None
        books.adopt(refused(plan))
        self._part(plan, PlanState.REJECTED, found.parent, found.followers)

    def _ring(self, timer: str, owned: Mapping[str, Set[int]]) -> None:
        kind, _, rest = timer.partition(" ")
        self._books.commit.stopped_timers.add(timer)
        self._books.commit.count()
        if kind == "g":
            self._books.opened[rest] = None
            return
        if kind == "c":
            self._repeats.due(rest)
            return
        if kind in {"m", "b", "x"}:
            run = self._books.known(rest)
            if run is None:
                return
            if kind == "x":
                self._ending.check(run, owned.get(rest))
            elif run.plan_state is PlanState.REVERTING:
                self._ending.go_on(run)
            elif run.plan_state in NOT_BEGUN:
                self._opening.open(run)
            return
        self._attempts.due(timer)

    def _settle(self) -> None:
        """Close the books of every plan that was touched: its end, its states, its records."""
        commit = self._books.commit
        for plan, run in self._books.touched.items():
            state = run.state[0]
            if state == _RUNNING:
                if run.ready and (plan in self._books.eager or not run.moving):
                    # It found no room in this commit: a successor is to know.
                    commit.timers[more_timer(plan)] = self._books.now + (LEFT_OVER if run.standing else 0)
                elif run.whole and not run.moving:
                    if not run.left:
                        self._books.move_plan(run, PlanEvent.COMPLETED)
                    else:
                        # A sub-plan does not wait for a person: its parent step tells of it.
                        self._books.move_plan(run, PlanEvent.GIVEN_UP if run.definition.parent else PlanEvent.STALLED)
            elif state == _REVERTING:
                self._ending.settle_revert(run)
            if run.state[0] in _STOPPING and not run.standing and not run.count(StepState.SUSPENDED):
                self._books.move_plan(run, PlanEvent.STOPPED)
            if run.state[0] in ENDED:
                self._close(run)
            if plan in commit.created:
                commit.created[plan] = bytes(run.state)
            else:
                commit.states.extend(_writes(run))
            if run.touched:
                kept = commit.records.setdefault(plan, {})
                kept.update((step, encode(run.records[step])) for step in run.touched)
            run.settled()

    def _close(self, run: PlanRun) -> None:
        """It has ended: whoever waits for that, or for what it held, is told."""
        closed = self._books.commit.closed
        if len(closed) < CLOSED:
            closed.append((run.id, run.definition.label, self._books.now))
        self._part(run.id, run.plan_state, run.definition.parent, run.rest.followers if run.rest is not None else ())
        if run.rest is not None and run.rest.marked and not run.rest.orphaned:  # none of its entries is left anywhere
            self._books.commit.stopped[run.id] = None
        if run.rest is not None and run.rest.marked:
            self._books.commit.stop(check_timer(run.id))
        self._books.eager.pop(run.id, None)
        self._books.forget(run.id)

    def _part(self, plan: str, state: PlanState, parent: tuple[str, int] | None, followers: Iterable[str]) -> None:
        """Tell whoever waits for its end, and give up what it holds or waits for."""
        books = self._books
        if parent is not None:
            books.tell(Ended(parent[0], parent[1], plan, chr(state)))
        for follower in followers:
            books.tell(Ended(follower, WHOLE_PLAN, plan, chr(state)))
        if plan in books.locks:
            locks, entered = books.locks.leave(plan)
            for lock in locks:
                books.commit.locked[lock_member(plan, lock)] = None
                books.commit.count()
            for other in entered:
                books.commit.timers[more_timer(other)] = books.now
                books.commit.count()
        books.leave_lines(plan)

    def _unloaded(self, plan: str) -> bool:
        """Accepted in this turn, and not in memory: the next turn loads it."""
        return plan in self._books.commit.created and plan not in self._books.plans

    def _ended(self, event: Ended) -> None:
        """A plan that another one waits for has ended."""
        if event.step == WHOLE_PLAN:
            self._opening.ended(event)
        else:
            self._attempts.ended(event)


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
