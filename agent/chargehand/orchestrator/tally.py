"""What the active orchestrator counts of what it decides, for statistics. Pure: time is an argument.

    add, waited   with each commit that was confirmed, and each event that was read: nearly nothing is done here
    page          once a second: what is to be written

What a page holds is not lost when it could not be written: totals and minutes are written whole, the next time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from chargehand.plan.commit import Commit
from chargehand.plan.life import ENDED, PlanState
from chargehand.store.counting import ACTIONS, MINUTE_MS, ActionTotal, Flow, Kept, MinuteRecord, Page, age_class

__all__ = ["SAMPLE", "WINDOW", "Tally"]

SAMPLE = 100  # plans a second whose time from submission to end is looked at
WINDOW = 60.0  # seconds that rates are taken over
_AT_ONCE = 400  # totals in one write
_ROOM = 100  # actions that make room at once
_QUEUES = 1_000  # that are told of

_WELL = chr(PlanState.SUCCEEDED)
_BADLY = {chr(state) for state in (*ENDED, PlanState.PAUSED)} - {_WELL}


class Tally:
    """`now`: boot time, seconds."""

    def __init__(self, now: float) -> None:
        self._begun = now
        self._ran: Counter[tuple[str, str, str]] = Counter()  # since the last page, as the next four
        self._queued: dict[str, int] = {}
        self._states: Counter[str] = Counter()
        self._submitted = 0
        self._behind_ms = 0
        self._closed: list[tuple[str, str, int]] = []
        self._minute = 0
        self._record = MinuteRecord()
        self._totals: dict[str, ActionTotal] | None = None  # None: nobody has told yet what stands
        self._changed: dict[str, None] = {}
        self._gone: set[str] = set()  # actions that are to go
        self._slices: deque[tuple[float, dict[str, tuple[int, int]]]] = deque()  # (end, queue -> in and out)
        self._flows: dict[str, tuple[int, int]] = {}  # the sum of those; and queues that hold something

    # -- counting ---------------------------------------------------------------------------------

    def add(self, commit: Commit) -> None:
        """Redis has it."""
        ran = self._ran
        for queue, actions in commit.done.items():
            for action, count in actions.items():
                ran[action, queue, "done"] += count
        if commit.ran:
            ran.update(commit.ran)
        queued = self._queued
        for where in (commit.pushed, commit.returned, commit.alone):
            for queue, entries in where.items():
                queued[queue] = queued.get(queue, 0) + len(entries)
        self._submitted += len(commit.created)
        self._states.update(commit.announced.values())
        if commit.closed and len(self._closed) < SAMPLE:
            self._closed += commit.closed[: SAMPLE - len(self._closed)]

    def waited(self, behind_ms: int) -> None:
        """An event had waited in the inbox for so long."""
        self._behind_ms = max(self._behind_ms, behind_ms)

    # -- telling ----------------------------------------------------------------------------------

    @property
    def closed(self) -> list[tuple[str, str, int]]:
        """Plans that have ended since the last page: (id, label, when), some of them."""
        return self._closed

    @property
    def queues(self) -> list[str]:
        """Queues that it knows of."""
        return [*self._flows, *(queue for queue in self._queued if queue not in self._flows)]

    @property
    def begun(self) -> bool:
        return self._totals is not None

    def begin(self, minute: int, kept: Kept) -> None:
        """Go on from what stands. `minute`: the one that `kept.minute` is of."""
        self._minute, self._record = minute, kept.minute
        self._totals = kept.actions
        self._flows = dict.fromkeys(kept.queues, (0, 0)) | self._flows

    def page(
        self, now: float, now_ms: int, *, busy: int, submitted: Mapping[str, int], held: Mapping[str, int]
    ) -> Page:
        """What to write at boot time `now`, when Redis' TIME is `now_ms`. Only after `begin`.

        busy: percent of the orchestrator's time. submitted: when the `closed` plans were, ms. held: steps that wait
        on each of the `queues`.
        """
        assert self._totals is not None
        minute = now_ms - now_ms % MINUTE_MS
        if minute != self._minute:
            self._minute, self._record = minute, MinuteRecord()
        record = self._record
        record.busy = busy
        record.behind_ms = max(record.behind_ms, self._behind_ms)
        record.submitted += self._submitted
        record.plans += self._states[_WELL]
        record.bad += sum(count for letter, count in self._states.items() if letter in _BADLY)
        for plan, _, ended in self._closed:
            if plan in submitted:
                age = age_class(ended - submitted[plan])
                record.ages[age] = record.ages.get(age, 0) + 1
        self._count_actions(record)
        flow = self._flow(now, held)
        self._ran, self._queued, self._states = Counter(), {}, Counter()
        self._submitted, self._behind_ms, self._closed = 0, 0, []
        self._make_room()
        changed = {name: self._totals[name] for name in list(self._changed)[:_AT_ONCE]}
        return Page(minute, record, changed, flow, sorted(self._gone)[:_AT_ONCE])

    def written(self, page: Page) -> None:
        """It stands in Redis."""
        for name in page.actions:
            self._changed.pop(name, None)
        self._gone.difference_update(page.gone_actions)

    def _count_actions(self, record: MinuteRecord) -> None:
        assert self._totals is not None
        for (action, _, how), count in self._ran.items():
            if how == "left":
                continue
            if how == "done":
                record.steps += count
            else:
                setattr(record, how, getattr(record, how) + count)
            for totals in (self._totals, record.actions):
                total = totals.setdefault(action, ActionTotal())
                setattr(total, how, getattr(total, how) + count)
            self._changed[action] = None
            self._gone.discard(action)
        if len(record.actions) > ACTIONS:
            record.actions = dict(sorted(record.actions.items(), key=_busiest)[: ACTIONS - _ROOM])

    def _make_room(self) -> None:
        """The least busy actions go, never one that has just run."""
        assert self._totals is not None
        over = len(self._totals) - ACTIONS
        if over <= 0:
            return
        idle = [pair for pair in self._totals.items() if pair[0] not in self._changed]
        for name, _ in sorted(idle, key=_busiest, reverse=True)[: over + _ROOM]:
            del self._totals[name]
            self._gone.add(name)

    def _flow(self, now: float, held: Mapping[str, int]) -> Flow:
        fresh: dict[str, tuple[int, int]] = {queue: (count, 0) for queue, count in self._queued.items()}
        for (_, queue, _), count in self._ran.items():
            came, went = fresh.get(queue, (0, 0))
            fresh[queue] = (came, went + count)
        self._slices.append((now, fresh))
        self._sum(fresh, 1)
        while self._slices[0][0] <= now - WINDOW:
            self._begun, old = self._slices.popleft()
            self._sum(old, -1)
        kept = {queue: flow for queue, flow in self._flows.items() if any(flow) or held.get(queue)}
        if len(kept) > _QUEUES:
            kept = dict(sorted(kept.items(), key=lambda pair: -sum(pair[1]))[:_QUEUES])
        self._flows = kept
        return Flow(round(now - self._begun, 1), kept)

    def _sum(self, some: Mapping[str, tuple[int, int]], sign: int) -> None:
        for queue, (came, went) in some.items():
            before = self._flows.get(queue, (0, 0))  # of one that was left out for lack of room less than all
            self._flows[queue] = (max(0, before[0] + sign * came), max(0, before[1] + sign * went))


def _busiest(pair: tuple[str, ActionTotal]) -> int:
    return -pair[1].all
