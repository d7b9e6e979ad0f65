"""What Redis would hold, for the pure tests: applies commits exactly as commit.lua does, and checks as it goes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec

from chargehand.plan.books import PLAN_RECORD
from chargehand.plan.commit import Commit, Corpse
from chargehand.plan.director import Director, named
from chargehand.plan.life import DONE, ENDED, PlanState, StepState
from chargehand.plan.limits import Limit, Limits
from chargehand.plan.locks import Locks
from chargehand.plan.repeat import Repeat
from chargehand.plan.run import PlanRecord, PlanRun, StepRecord
from chargehand.wire import (
    WHOLE_PLAN,
    Definition,
    Died,
    Event,
    Failure,
    Finished,
    Raw,
    Resumed,
    Skipped,
    Submitted,
    decode_event,
    encode,
    read_entry,
    read_key,
)


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
    most: int = 500  # effects a commit
    cache: int = 1 << 20  # bytes of plans in the director's memory
    _next: int = 1

    def __post_init__(self) -> None:
        self.forget()

    # -- what others do ---------------------------------------------------------------------------

    def put(self, event: Event | None) -> None:
        self.inbox.append((f"{self._next}-0", event))
        self._next += 1

    def submit(self, plan: str, definition: Definition) -> None:
        self.definitions[plan] = definition
        self.put(Submitted(plan, Raw(encode(definition)), definition.after))

    def register(self, worker: str) -> None:
        self.members.add(worker)

    def take(self, worker: str, queue: str) -> str | None:
        waiting = self.queues.get(queue)
        if worker not in self.members or not waiting:
            return None
        while waiting:
            raw = waiting.popleft()
            entry = read_entry(raw)
            if entry.despite or read_key(entry.key)[0] not in self.stopped:
                break
        else:
            return None
        self.started(entry.key)
        self.owned.setdefault(worker, {})[entry.key] = raw
        return entry.key

    def started(self, key: str) -> None:
        """Invariant 2: a step starts only after every step it depends on has succeeded, or was skipped."""
        plan, step, _ = read_key(key)
        for edge in self.definitions[plan].steps[step].after:
            low, high = (edge, edge + 1) if isinstance(edge, int) else edge
            for source in range(low, high):
                assert self.states[plan][source + 1] in DONE, (plan, step, source)
        self.runs[plan] = self.runs.get(plan, 0) + 1

    def finish(self, worker: str, key: str, failure: Failure | None) -> bool:
        if self.owned.get(worker, {}).pop(key, None) is None:
            return False
        plan, step, attempt = read_key(key)
        self.put(Finished(plan, step, attempt, failure))
        return True

    def kill(self, worker: str) -> None:
        self.put(Died(worker))

    # -- what the orchestrator does ---------------------------------------------------------------

    def forget(self) -> None:
        """The orchestrator died, or its commit was not confirmed: a successor starts with empty memory."""
        self.director = Director(
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

    def turn(self, *, apply: bool = True, most: int = 100) -> None:
        events = self.inbox[:most]
        due = [timer for timer, at in self.timers.items() if at <= self.now_ms]
        dead = {event.incarnation for _, event in events if isinstance(event, Died)}
        corpses = [Corpse(name, tuple(self.owned.get(name, {}))) for name in sorted(dead & self.members)]
        found = named((event for _, event in events if event is not None), due, corpses)
        for plan in sorted(found.plans - set(self.director.plans)):
            if plan in self.states and len(self.states[plan]) > 1:
                self.director.adopt(self.load(plan))
        repeats = {
            name: msgspec.json.decode(self.repeats[name], type=Repeat) for name in found.repeats if name in self.repeats
        }
        # A check is told what is owned once every event is handled that was there when it was looked.
        checks = {timer[2:] for timer in due if timer.startswith("x ")}
        if self.inbox:
            due, checks = [timer for timer in due if not timer.startswith("x ")], set()
        owned = {plan: self._owned(plan) for plan in checks}
        commit, covered = self.director.decide(
            events, now_ms=self.now_ms, due=due, corpses=corpses, owned=owned, repeats=repeats
        )
        if apply:
            self.apply(commit)
            del self.inbox[:covered]
        else:
            self.forget()

    def _owned(self, plan: str) -> set[int]:
        keys = (read_key(key) for owned in self.owned.values() for key in owned)
        return {step for other, step, _ in keys if other == plan}

    def load(self, plan: str) -> PlanRun:
        run = PlanRun(plan, self.definitions[plan], bytes(self.states[plan]))
        run.extend(self.definitions[plan].steps)
        for step, record in self.records.get(plan, {}).items():
            if step == PLAN_RECORD:
                run.rest = msgspec.json.decode(record, type=PlanRecord)
            elif step != WHOLE_PLAN:
                run.records[step] = msgspec.json.decode(record, type=StepRecord)
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
        self.check_places()

    def _rest(self, commit: Commit) -> None:
        for held, changes in (
            (self.stopped, commit.stopped),
            (self.locked, commit.locked),
            (self.limited, commit.limited),
            (self.rates, commit.rates),
            (self.repeats, commit.repeats),
        ):
            for name, value in changes.items():
                if value is None:
                    held.pop(name, None)  # type: ignore[attr-defined]
                else:
                    held[name] = value  # type: ignore[index]
        for slot, taken in commit.slots.items():
            assert taken or slot in self.slots
            self.slots.add(slot) if taken else self.slots.discard(slot)
        for plan, entries in commit.history.items():
            self.history.setdefault(plan, []).extend(entries)
        for launch in commit.launched:
            self.definitions[launch.plan] = msgspec.json.decode(launch.definition, type=Definition)
            self.put(Submitted(launch.plan, Raw(launch.definition)))
        for event in commit.told:
            self.put(decode_event(event))

    def _write(self, plan: str, offset: int, value: bytes) -> None:
        state = self.states[plan]
        for at, byte in enumerate(value, offset):
            if at and byte == StepState.SUCCEEDED and state[at] != StepState.SUCCEEDED:
                self.succeeded[plan, at - 1] = self.succeeded.get((plan, at - 1), 0) + 1
            if at and state[at] in DONE:
                assert byte in {state[at], StepState.UNDOING}, f"step {at - 1} of {plan} was done with and moved again"
            state[at] = byte

    def check_places(self) -> None:
        """A step that stands is in exactly one place: a queue, an owner, or the unread inbox."""
        places: dict[tuple[str, int], int] = {}
        for waiting in self.queues.values():
            for raw in waiting:
                plan, step, _ = read_key(read_entry(raw).key)
                places[plan, step] = places.get((plan, step), 0) + 1
        for owned in self.owned.values():
            for key in owned:
                plan, step, _ = read_key(key)
                places[plan, step] = places.get((plan, step), 0) + 1
        assert all(count == 1 for count in places.values()), places

    def skip(self, plan: str, step: int) -> None:
        self.put(Skipped(plan, step))

    def resume(self, plan: str) -> None:
        self.put(Resumed(plan))
