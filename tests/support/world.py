"""What Redis would hold, for the pure tests: applies commits exactly as commit.lua does, and checks as it goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from chargehand.plan.books import PLAN_RECORD
from chargehand.plan.commit import Commit, Corpse
from chargehand.plan.director import Director, named
from chargehand.plan.life import DONE, ENDED, PlanState, StepState
from chargehand.plan.limits import Limit, Limits
from chargehand.plan.locks import Locks
from chargehand.plan.repeat import Repeat
from chargehand.plan.run import DefinitionError, PlanRecord, PlanRun, StepRecord, Unreadable, refused
from chargehand.wire import (
    HALTED,
    WHOLE_PLAN,
    Definition,
    Died,
    Ended,
    Event,
    Failure,
    Finished,
    Resumed,
    Skipped,
    Submitted,
    Suspension,
    decode_event,
    encode,
    read_entry,
    read_key,
)
from support import rules
from support.model import Model, Seen

T = TypeVar("T")


@dataclass
class World:
    """One executor's data, one director (replaced whenever its memory is lost), any number of workers."""

    now_ms: int = 1_000
    definitions: dict[str, Definition] = field(default_factory=dict)
    states: dict[str, bytearray] = field(default_factory=dict)
    records: dict[str, dict[int, bytes]] = field(default_factory=dict)
    queues: dict[str, deque[bytes]] = field(default_factory=dict)
    timers: dict[str, int] = field(default_factory=dict)
    owned: dict[str, dict[str, bytes]] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    boots: dict[str, str] = field(default_factory=dict)  # of the nodes of the dead
    runs: dict[str, int] = field(default_factory=dict)  # starts of its steps
    index: dict[str, str] = field(default_factory=dict)  # plan -> the state that it is indexed under
    stopped: dict[str, int] = field(default_factory=dict)
    locked: dict[str, int] = field(default_factory=dict)
    slots: set[str] = field(default_factory=set)
    limited: dict[str, int] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    repeats: dict[str, bytes] = field(default_factory=dict)
    history: dict[str, list[bytes]] = field(default_factory=dict)
    fixed: dict[str, Limit] = field(default_factory=dict)  # limits that the configuration sets
    inbox: list[tuple[str, Event | None]] = field(default_factory=list)
    succeeded: dict[tuple[str, int], int] = field(default_factory=dict)  # how often a success was recorded
    begun: dict[str, list[int]] = field(default_factory=dict)  # a limit's name -> when steps under it began
    dropped: set[str] = field(default_factory=set)  # plans with entries that were dropped when they were taken
    ended: set[Ended] = field(default_factory=set)  # the ends of sub-plans that were told
    figures: dict[str, tuple[int, tuple[int, int]]] = field(default_factory=dict)  # a limit: most at once, and rate
    labelled: dict[str, dict[str, int]] = field(default_factory=dict)
    looks: list[tuple[int, dict[str, set[int]]]] = field(default_factory=list)  # at what was owned, and when
    most: int = 500  # effects a commit
    cache: int = 1 << 20  # bytes of plans in the director's memory
    model: Model | None = None  # that must agree
    compared: bool = False  # at every turn, with what a successor would decide
    forgetful: bool = False  # a director that decides once, and is replaced
    _next: int = 1

    def __post_init__(self) -> None:
        self.configure(self.fixed)

    def configure(self, fixed: dict[str, Limit]) -> None:
        """The next orchestrator has these limits."""
        self.fixed = fixed
        self.figures.update((name, (limit.most, (limit.times, limit.per_ms))) for name, limit in fixed.items())
        self.forget()

    # -- what others do ---------------------------------------------------------------------------

    def put(self, event: Event | None) -> None:
        self.inbox.append((f"{self._next}-0", event))
        self._next += 1

    def submit(self, plan: str, definition: Definition, *, parts: bool = False) -> None:
        """`parts`: its steps travel apart, as those of large plans do."""
        assert plan not in self.definitions, f"{plan} was submitted before"
        if parts:
            definition = msgspec.structs.replace(definition, parts=1)
        self.definitions[plan] = definition
        for policy in definition.policies:
            if policy.limit or policy.rate[0]:
                self.figures[f"action:{policy.action}"] = (policy.limit, policy.rate)
        self.put(Submitted(plan, Raw(encode(_head(definition))), definition.after))

    def purge(self, plan: str) -> None:
        """It has ended, and is forgotten: its id may be used again."""
        assert self.states[plan][0] in ENDED
        held: tuple[dict[str, Any], ...] = (
            self.definitions,
            self.states,
            self.records,
            self.index,
            self.history,
            self.runs,
        )
        for of in (*held, *self.labelled.values()):
            of.pop(plan, None)
        self.succeeded = {step: count for step, count in self.succeeded.items() if step[0] != plan}
        self.ended = {event for event in self.ended if plan not in {event.plan, event.other}}
        if self.model is not None:
            self.model.forget(plan)

    def register(self, worker: str) -> None:
        self.members.add(worker)

    def take(self, worker: str, queue: str) -> str | None:
        waiting = self.queues.get(queue)
        if worker not in self.members or not waiting:
            return None
        while waiting:
            raw = waiting.popleft()
            entry = read_entry(raw)
            plan = read_key(entry.key)[0]
            grace = self.stopped.get(plan)
            if grace is None or (entry.despite and grace != HALTED):
                break
            self.dropped.add(plan)
        else:
            return None
        rules.check_started(self, entry)
        self.runs[plan] = self.runs.get(plan, 0) + 1
        self.owned.setdefault(worker, {})[entry.key] = raw
        return entry.key

    def finish(
        self,
        worker: str,
        key: str,
        failure: Failure | None = None,
        *,
        suspended: Suspension | None = None,
        children: int = 0,
    ) -> bool:
        if self.owned.get(worker, {}).pop(key, None) is None:
            return False
        plan, step, attempt = read_key(key)
        self.put(Finished(plan, step, attempt, failure, suspended, children))
        return True

    def kill(self, worker: str, boot: str = "") -> None:
        self.boots[worker] = boot
        self.put(Died(worker))

    # -- what the orchestrator does ---------------------------------------------------------------

    def forget(self) -> None:
        """The orchestrator died, or its commit was not confirmed: a successor starts with empty memory."""
        self.looks = []
        self.director = self._successor()

    def _successor(self) -> Director:
        """One that knows what stands in Redis."""
        return Director(
            self.cache,
            most=self.most,
            locks=Locks(sorted(self.locked.items(), key=lambda pair: (pair[1], pair[0]))),
            limits=Limits(
                self.fixed,
                slots=self.slots,
                waiting=sorted(self.limited.items(), key=lambda pair: pair[1]),
                rates=self.rates,
            ),
        )

    def turn(self, *, apply: bool = True, most: int = 100) -> Commit:
        """One turn of the orchestrator, on the first `most` events of the inbox."""
        events = self.inbox[:most]
        due = [timer for timer, at in sorted(self.timers.items(), key=lambda pair: pair[::-1]) if at <= self.now_ms]
        dead = {event.incarnation for _, event in events if isinstance(event, Died)}
        corpses = [
            Corpse(name, tuple(self.owned.get(name, {})), boot=self.boots.get(name, ""))
            for name in sorted(dead & self.members)
        ]
        owned, due = self._look(due)
        decide = partial(self._decide, events, due, corpses, owned)
        commit, covered = decide(self.director)
        if self.compared:
            other, _ = decide(self._successor())
            assert _comparable(commit) == _comparable(other), "a successor would have decided otherwise"
        if apply:
            self.apply(commit)
            del self.inbox[:covered]
            if self.model is not None:
                self.model.turn(self.now_ms, corpses, [event for _, event in events[:covered]], self._seen(commit))
        if self.forgetful or not apply:
            self.forget()
        return commit

    def _decide(
        self,
        events: list[tuple[str, Event | None]],
        due: list[str],
        corpses: list[Corpse],
        owned: dict[str, set[int]],
        director: Director,
    ) -> tuple[Commit, int]:
        """Load what it needs, and let it decide."""
        found = named((event for _, event in events if event is not None), due, corpses)
        unreadable: dict[str, Unreadable] = {}
        for plan in sorted((found.plans | director.wanted()) - set(director.plans)):
            run = self.load(plan)
            if isinstance(run, PlanRun):
                director.adopt(run)
            elif run is not None:
                unreadable[plan] = run
        return director.decide(
            events,
            now_ms=self.now_ms,
            due=due,
            corpses=corpses,
            unreadable=unreadable,
            owned=owned,
            repeats={
                name: msgspec.json.decode(self.repeats[name], type=Repeat)
                for name in found.repeats
                if name in self.repeats
            },
        )

    def _seen(self, commit: Commit) -> Seen:
        began = {
            plan
            for plan, entries in commit.history.items()
            if any(msgspec.json.decode(entry)[1:] == ["plan", "running"] for entry in entries)
        }
        attempts = {
            plan: {step: rules.attempt(self, plan, step) for step in steps if step >= 0}
            for plan, steps in commit.records.items()
        }
        owned = {key for keys in self.owned.values() for key in keys}
        return Seen({plan: state.decode() for plan, state in self.states.items()}, began, owned, attempts)

    def settle(self) -> None:
        """Turn until there is nothing to do now."""
        for _ in range(1_000):
            idle = self.turn().empty or not self.director.eager
            if idle and not self.inbox and all(at > self.now_ms for at in self.timers.values()):
                return
        raise AssertionError("it goes on for ever")

    def _look(self, due: list[str]) -> tuple[dict[str, set[int]], list[str]]:
        """What workers own of the plans whose check is due: looked at once, and told when all events up to then are
        handled, as the reign does.
        """
        checks = {timer[2:] for timer in due if timer.startswith("x ")}
        fresh = checks - {plan for _, steps in self.looks for plan in steps}
        if fresh:
            self.looks.append((self._next - 1, {plan: self._owned(plan) for plan in sorted(fresh)}))
        handled = int(self.inbox[0][0].partition("-")[0]) - 1 if self.inbox else self._next
        owned = {plan: steps for last, look in self.looks if last <= handled for plan, steps in look.items()}
        self.looks = [look for look in self.looks if look[0] > handled]
        return owned, [timer for timer in due if not timer.startswith("x ") or timer[2:] in owned]

    # -- for short examples -----------------------------------------------------------------------

    def plan(self, plan: str) -> PlanState:
        return PlanState(self.states[plan][0])

    def steps(self, plan: str) -> str:
        """The letters of its steps."""
        return self.states[plan][1:].decode()

    def wait(self, ms: int) -> None:
        """Let time pass."""
        self.now_ms += ms
        self.settle()

    def hold(self, *, worker: str = "w", queue: str = "default") -> list[str]:
        """A worker takes all that is queued; the step keys."""
        self.register(worker)
        return list(iter(lambda: self.take(worker, queue), None))

    def succeed(self, *keys: str, worker: str = "w") -> None:
        for key in keys:
            assert self.finish(worker, key), f"{worker} does not own {key}"
        self.settle()

    def fail(self, *keys: str, worker: str = "w", kind: str = "boom", final: bool = True, children: int = 0) -> None:
        for key in keys:
            failure = Failure(kind, "it failed", final=final)
            assert self.finish(worker, key, failure, children=children), f"{worker} does not own {key}"
        self.settle()

    def suspend(self, key: str, *, worker: str = "w", **how: Any) -> None:
        assert self.finish(worker, key, suspended=Suspension(**how)), f"{worker} does not own {key}"
        self.settle()

    def ask(self, *events: Event) -> None:
        """People ask for something."""
        for event in events:
            self.put(event)
        self.settle()

    def work(self, *, worker: str = "w", queue: str = "default") -> list[str]:
        """Run all that is or becomes ready, and succeed; the step keys in order."""
        done: list[str] = []
        while keys := self.hold(worker=worker, queue=queue):
            self.succeed(*keys, worker=worker)
            done += keys
        return done

    def told(self, plan: str) -> list[list[Any]]:
        """Its history, without the times."""
        return [msgspec.json.decode(entry)[1:] for entry in self.history.get(plan, [])]

    def why(self, plan: str) -> str:
        """Why it ended as it did."""
        return msgspec.json.decode(self.records[plan][WHOLE_PLAN], type=Failure).message

    def is_clean(self) -> bool:
        """Nothing is held any more by anybody."""
        return not (self.locked or self.slots or self.limited or self.stopped)

    def _owned(self, plan: str) -> set[int]:
        keys = (read_key(key) for owned in self.owned.values() for key in owned)
        return {step for other, step, _ in keys if other == plan}

    def load(self, plan: str) -> PlanRun | Unreadable | None:
        """As the ledger does: None for what does not exist."""
        if plan not in self.states:
            return None
        if self.plan(plan) is PlanState.REJECTED:
            return refused(plan)
        definition = self.definitions[plan]
        records = dict(self.records.get(plan, {}))
        records.pop(WHOLE_PLAN, None)
        rest = records.pop(PLAN_RECORD, None)
        record = msgspec.json.decode(rest, type=PlanRecord) if rest else None
        try:
            run = PlanRun(plan, _head(definition), bytes(self.states[plan]))
            run.extend(definition.steps)
        except DefinitionError as error:
            return Unreadable(str(error), definition.parent, record.followers if record else ())
        run.rest = record
        run.records.update((step, msgspec.json.decode(one, type=StepRecord)) for step, one in records.items())
        return run

    def apply(self, commit: Commit) -> None:
        for plan, state in commit.created.items():
            assert plan not in self.states, f"{plan} created twice"
            self.states[plan] = bytearray(b"w" * len(state))
            self._write(plan, 0, state)
        ended = {write.plan for write in commit.states if self.states[write.plan][0] in ENDED}
        assert not ended, f"{ended} had ended, and changed"
        for write in commit.states:
            self._write(write.plan, write.offset, write.value)
        for plan, records in commit.records.items():
            self.records.setdefault(plan, {}).update(records)
        for corpse in commit.reaped:
            assert set(self.owned.get(corpse.incarnation, {})) == set(corpse.owned)
            self.owned.pop(corpse.incarnation, None)
            self.members.discard(corpse.incarnation)
        for timer in commit.stopped_timers:
            self.timers.pop(timer, None)
        self.timers.update(commit.timers)
        for plan, move in commit.indexed.items():
            assert self.index.get(plan, "") in ({*move.before} or {""}), (plan, move, self.index.get(plan))
            self.index[plan] = move.after
        self._rest(commit)
        for queue, entries in commit.pushed.items():
            for raw in entries:
                entry = read_entry(raw)
                plan = read_key(entry.key)[0]
                fresh = entry.extra.event is None and not entry.extra.output
                assert not fresh or self.states[plan][0] == PlanState.RUNNING, (
                    f"{plan} starts steps, and is not running"
                )
            self.queues.setdefault(queue, deque()).extend(entries)
        for queue, entries in commit.returned.items():
            self.queues.setdefault(queue, deque()).extendleft(reversed(entries))
        for queue, entries in commit.alone.items():
            self.queues.setdefault(queue, deque()).extend(entries)
        rules.check(self, commit)

    def _rest(self, commit: Commit) -> None:
        _update(self.stopped, commit.stopped)
        _update(self.locked, commit.locked)
        _update(self.limited, commit.limited)
        _update(self.rates, commit.rates)
        _update(self.repeats, commit.repeats)
        for slot, taken in commit.slots.items():
            if taken:
                self.slots.add(slot)
                self.begun.setdefault(slot.rpartition(" ")[0], []).append(self.now_ms)
            else:
                self.slots.remove(slot)
        for index, plans in commit.labelled.items():
            self.labelled.setdefault(index, {}).update((plan, ms) for ms, plan in plans)
        for plan, entries in commit.history.items():
            self.history.setdefault(plan, []).extend(entries)
        for launch in commit.launched:
            self.definitions[launch.plan] = msgspec.json.decode(launch.definition, type=Definition)
            self.put(Submitted(launch.plan, Raw(launch.definition)))
        for data in commit.told:
            event = decode_event(data)
            if isinstance(event, Ended) and event.step != WHOLE_PLAN:
                assert event not in self.ended, f"{event} is told twice"
                self.ended.add(event)
            self.put(event)

    def _write(self, plan: str, offset: int, value: bytes) -> None:
        state = self.states[plan]
        for at, byte in enumerate(value, offset):
            if at and byte == StepState.SUCCEEDED and state[at] != StepState.SUCCEEDED:
                self.succeeded[plan, at - 1] = self.succeeded.get((plan, at - 1), 0) + 1
            if at and state[at] in DONE:
                assert byte in {state[at], StepState.UNDOING}, f"step {at - 1} of {plan} was done with and moved again"
            state[at] = byte

    def skip(self, plan: str, step: int) -> None:
        self.put(Skipped(plan, step))

    def resume(self, plan: str) -> None:
        self.put(Resumed(plan))


def _comparable(commit: Commit) -> dict[str, Any]:
    """What two commits must have in common. The order of entries is that in which steps became ready, which a
    successor does not know; a ticket says no more than who asked first.
    """
    found = {one.name: getattr(commit, one.name) for one in fields(commit)}
    for name in ("pushed", "returned", "alone"):
        found[name] = {queue: sorted(entries) for queue, entries in found[name].items()}
    found["states"] = sorted(found["states"], key=lambda write: (write.plan, write.offset))
    found["locked"] = {member: ticket is None for member, ticket in commit.locked.items()}
    return found


def _update(held: dict[str, T], changes: Mapping[str, T | None]) -> None:
    """What is None goes."""
    for name, value in changes.items():
        if value is None:
            held.pop(name, None)
        else:
            held[name] = value


def _head(definition: Definition) -> Definition:
    """What travels in the event and stands in memory: the steps of a large plan are read apart."""
    return msgspec.structs.replace(definition, steps=[]) if definition.parts else definition
