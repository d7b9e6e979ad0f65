"""Where the in-process executor keeps its plans, in place of Redis; the real director decides on them.

Nothing here is ever lost, so what the director itself remembers (locks, limits) is not kept a second time.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import islice

import msgspec
from msgspec import Raw

from chargehand.decoding import decode
from chargehand.plan.books import PLAN_RECORD
from chargehand.plan.commit import Commit
from chargehand.plan.director import Director, named
from chargehand.plan.life import PlanState, StepState
from chargehand.plan.run import PlanRecord, PlanRun, StepRecord
from chargehand.store.reports import Report
from chargehand.store.submission import Prepared
from chargehand.store.work import Finish
from chargehand.wire import (
    HALTED,
    WHOLE_PLAN,
    Definition,
    Entry,
    Event,
    Failure,
    Step,
    Submitted,
    decode_event,
    encode,
    read_entry,
    read_key,
)

__all__ = ["Memory"]

_BATCH = 400  # events of one turn, as the orchestrator reads them
_ENOUGH = 1 << 40  # bytes of plans that the director keeps: all
_CHECK = "x "  # how the timers begin that ask which steps workers own


class Memory:
    """`now_ms` stands still unless somebody moves it."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.definitions: dict[str, Definition] = {}
        self.states: dict[str, bytearray] = {}
        self.records: dict[str, dict[int, bytes]] = {}
        self.outputs: dict[str, dict[str, bytes]] = {}
        self.said: dict[str, list[tuple[int, str, str]]] = {}  # plan -> (step, kind, text)
        self.progress: dict[str, dict[int, list[tuple[float, str]]]] = {}  # plan -> step -> all that it said, in order
        self.timers: dict[str, int] = {}
        self._submitted: dict[str, bytes] = {}
        self._ready: deque[bytes] = deque()
        self._inbox: deque[tuple[str, Event]] = deque()
        self._stopped: dict[str, int] = {}
        self._events = 0
        self._heap: list[tuple[int, str]] = []  # of the timers, with some that were stopped or moved since
        self._director = Director(_ENOUGH)

    # -- what clients and workers do --------------------------------------------------------------

    def submit(self, prepared: Prepared) -> str:
        """OK, KNOWN or CONFLICT, as submit.lua says."""
        known = self._submitted.get(prepared.plan)
        if known is not None:
            return "KNOWN" if known == prepared.definition else "CONFLICT"
        definition = decode(prepared.definition, Definition)
        if prepared.parts:
            steps = [step for part in prepared.parts for step in decode(part, list[Step])]
            definition = msgspec.structs.replace(definition, steps=steps, parts=0)
        self._submitted[prepared.plan] = prepared.definition
        self._accept(prepared.plan, definition)
        return "OK"

    def submitted(self, plan: str) -> bytes | None:
        return self._submitted.get(plan)

    def _accept(self, plan: str, definition: Definition) -> None:
        self.definitions[plan] = definition
        self.put(Submitted(plan, Raw(encode(definition)), definition.after))

    def put(self, event: Event) -> None:
        self._events += 1
        self._inbox.append((f"{self.now_ms}-{self._events}", event))

    def take(self) -> Entry | None:
        """The next step that is ready; those of plans that are being ended are dropped."""
        while self._ready:
            entry = read_entry(self._ready.popleft())
            mark = self._stopped.get(read_key(entry.key)[0])
            if mark is None or (entry.despite and mark != HALTED):
                return entry
        return None

    def finish(self, one: Finish) -> None:
        outputs = self.outputs.setdefault(one.plan, {})
        if one.result is not None:
            outputs[one.field] = encode(one.result)
        if one.gone:
            outputs.pop(one.gone, None)
        self.report(one.report)
        self.put(one.event)

    def report(self, report: Report | None) -> None:
        if report is None:
            return
        plan, _, _ = read_key(report.key)
        for entry in report.entries:
            step, _, _, kind, payload = decode(entry)
            if kind == "progress":
                fraction, message = payload
                self.progress.setdefault(plan, {}).setdefault(step, []).append((fraction, message))
            else:
                self.said.setdefault(plan, []).append((step, kind, payload))

    def fetch(self, plan: str, fields: Sequence[int | str]) -> list[bytes | None]:
        outputs = self.outputs.get(plan, {})
        return [outputs.get(str(field)) for field in fields]

    def plan_state(self, plan: str) -> PlanState | None:
        """None: not accepted yet, or unknown."""
        state = self.states.get(plan)
        return PlanState(state[0]) if state else None

    def step_state(self, plan: str, step: int) -> StepState:
        state = self.states.get(plan, b"")
        return StepState(state[step + 1]) if len(state) > step + 1 else StepState.WAITING

    def failure(self, plan: str, step: int) -> Failure | None:
        """The last error of a step; of the plan itself with `WHOLE_PLAN`."""
        record = self.records.get(plan, {}).get(step)
        if record is not None and step != WHOLE_PLAN:
            record = decode(record, StepRecord).error.encode()
        return decode(record, Failure) if record else None

    # -- what the orchestrator does ---------------------------------------------------------------

    def settle(self) -> None:
        """Let the director decide until there is nothing to decide on."""
        while self._inbox or self._director.eager or self._is_due():
            self._turn()

    def next_timer_ms(self) -> int | None:
        """When the next one is due; None: there is none."""
        while self._heap and self.timers.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _is_due(self) -> bool:
        following = self.next_timer_ms()
        return following is not None and following <= self.now_ms

    def _due(self) -> list[str]:
        found = []
        while self._is_due():
            found.append(heapq.heappop(self._heap)[1])
        return list(dict.fromkeys(found))

    def _turn(self) -> None:
        events: list[tuple[str, Event | None]] = list(islice(self._inbox, _BATCH))
        due = self._due()  # the director stops each of them
        found = named((event for _, event in events if event is not None), due, ())
        for plan in found.plans:
            if plan not in self._director.plans and len(self.states.get(plan, b"")) > 1:
                self._director.adopt(self._load(plan))
        # Between two turns nobody has a step in hand.
        owned: dict[str, set[int]] = {timer[2:]: set() for timer in due if timer.startswith(_CHECK)}
        commit, covered = self._director.decide(events, now_ms=self.now_ms, due=due, owned=owned)
        for _ in range(covered):
            self._inbox.popleft()
        self._apply(commit)

    def _load(self, plan: str) -> PlanRun:
        run = PlanRun(plan, self.definitions[plan], bytes(self.states[plan]))
        run.extend(self.definitions[plan].steps)
        for step, record in self.records.get(plan, {}).items():
            if step == PLAN_RECORD:
                run.rest = decode(record, PlanRecord)
            elif step != WHOLE_PLAN:
                run.records[step] = decode(record, StepRecord)
        return run

    def _apply(self, commit: Commit) -> None:
        for plan, state in commit.created.items():
            self.states[plan] = bytearray(state)
        for write in commit.states:
            self.states[write.plan][write.offset : write.offset + len(write.value)] = write.value
        for plan, records in commit.records.items():
            self.records.setdefault(plan, {}).update(records)
        for timer in commit.stopped_timers:
            self.timers.pop(timer, None)
        self.timers.update(commit.timers)
        for timer, at in commit.timers.items():
            heapq.heappush(self._heap, (at, timer))
        for plan, grace_ms in commit.stopped.items():
            if grace_ms is None:
                self._stopped.pop(plan, None)
            else:
                self._stopped[plan] = grace_ms
        self._ready.extend(_entries(commit.pushed))
        self._ready.extendleft(reversed(_entries(commit.returned)))
        self._ready.extend(_entries(commit.alone))
        for launch in commit.launched:
            self._accept(launch.plan, decode(launch.definition, Definition))
        for event in commit.told:
            self.put(decode_event(event))


def _entries(queues: dict[str, list[bytes]]) -> list[bytes]:
    return [entry for entries in queues.values() for entry in entries]
