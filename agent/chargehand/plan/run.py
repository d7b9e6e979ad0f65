"""One plan in the orchestrator's memory: its definition, its states, and what follows from both.

Everything that is not in Redis (which steps are ready, how many dependencies a step still waits for)
is derived from the definition and the state string, so a plan can be dropped and read again at any time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Raw, Struct

from chargehand.plan.life import DONE, STEP_LIFE, PlanState, StepEvent, StepState
from chargehand.plan.spans import Spans
from chargehand.wire import Definition, Step

__all__ = ["DefinitionError", "More", "PlanRecord", "PlanRun", "StepRecord", "Unreadable", "check_steps", "refused"]

#: A range of dependencies up to this length is kept as single edges; a longer one is counted as a group,
#: so that a join over 10,000 steps costs one counter and not 10,000 entries.
_EXPAND = 16
_STEP = 240  # bytes in memory, measured: of a step beside its input
_EDGE = 220  # of an entry of its `after`
_STATES = frozenset(int(state) for state in StepState)
_LIFE = {int(state): row for state, row in STEP_LIFE.items()}  # `state` holds numbers
_NONE_READY: deque[int] = deque(maxlen=0)  # takes nothing, so that it stays empty
_NONE: set[int] = set()  # never added to
_WAITING = int(StepState.WAITING)
_STANDING = int(StepState.STANDING)
_SUSPENDED = int(StepState.SUSPENDED)
_RETRYING = int(StepState.RETRYING)


class DefinitionError(ValueError):
    """A definition that no orchestrator could run; the message says why."""


class More(Struct, array_like=True, omit_defaults=True):
    """What is kept of a step that was suspended, or was sent events."""

    woken: int = 0  # how often it went on after a suspension
    wake: str = ""  # the event that its timer brings
    event: tuple[str, Raw] | None = None  # with which it goes on now
    events: list[tuple[str, Raw]] = []  # kept until it is suspended
    generation: int = 0  # how often its sub-plans have all ended
    total: int = 0  # sub-plans of this generation
    end: int = 0  # the highest number of them + 1
    ok: int = 0  # of them, ended well
    bad: int = 0
    boot: str = ""  # it reboots its node: in which boot it was lost

    @property
    def left(self) -> int:
        """Sub-plans of this generation that have not ended."""
        return max(0, self.total - self.ok - self.bad)


class StepRecord(Struct, array_like=True, omit_defaults=True):
    """The sparse rest of a step: only steps that were tried more than once, or suspended, have one."""

    attempt: int = 1  # the attempt that counts now
    failures: int = 0  # since the plan was submitted or resumed
    losses: int = 0  # attempts lost with their worker
    error: str = ""  # JSON of the last `Failure`
    more: More | None = None


class Unreadable(NamedTuple):
    """A plan that was accepted and turns out to be none that could be run."""

    why: str
    parent: tuple[str, int] | None = None  # as far as its definition can be read
    followers: Sequence[str] = ()  # plans that start after this one


class PlanRecord(Struct, array_like=True, omit_defaults=True):
    """The sparse rest of a plan."""

    awaits: list[str] = []  # plans that have not ended, and that this one starts after
    followers: list[str] = []  # plans that start after this one
    grace_ms: int = 0  # of a plan that is being cancelled or reverted
    marked: bool = False  # workers were told that it is being ended
    orphaned: bool = False  # entries of steps that were given up may stand on queues
    hooks: int = 0  # that were called


class _Group:
    __slots__ = ("dependents", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.dependents: list[int] = []


def check_steps(steps: Sequence[Step], first: int, policies: int) -> None:
    """Refuse steps that refer to what does not come before them (so a cycle cannot be written down)."""
    for index, step in enumerate(steps, first):
        if not 0 <= step.policy < policies:
            raise DefinitionError(f"step {index} uses policy {step.policy}, but there are {policies}")
        for edge in step.after:
            low, high = (edge, edge + 1) if isinstance(edge, int) else edge
            if not 0 <= low < high <= index:
                raise DefinitionError(
                    f"step {index} depends on {low}..{high - 1}; a step can depend on earlier steps only"
                )


class PlanRun:
    """A plan as the director sees it. Only the director changes it, and only through `advance`."""

    __slots__ = (
        "blocked",
        "counts",
        "definition",
        "dirty",
        "edges",
        "groups",
        "id",
        "left",
        "limited",
        "policies",
        "ready",
        "records",
        "rest",
        "size",
        "spans",
        "state",
        "steps",
        "total",
        "touched",
        "waiting",
    )

    def __init__(self, plan: str, definition: Definition, state: bytes | None = None) -> None:
        self.id = plan
        self.definition = definition
        self.policies = definition.policies
        self.total = definition.total
        self.steps: list[Step] = []
        self.state = bytearray(state) if state is not None else bytearray(b"R" + b"w" * definition.total)
        self.waiting: list[int] = []  # a step: how many edges and groups it still waits for
        self.edges: dict[int, list[int]] = {}
        self.groups: dict[tuple[int, int], _Group] = {}
        self.spans: Spans[_Group] | None = None  # the groups by their steps; none in most plans
        self.records: dict[int, StepRecord] = {}
        self.rest: PlanRecord | None = None
        # Most plans in memory wait for a worker: what is empty then is shared, not held by each.
        self.ready: deque[int] = _NONE_READY
        self.blocked: dict[str, deque[int]] = {}  # a limit's name -> steps that are ready but for it
        self.limited: list[tuple[str, ...]] = []  # a policy: the limits it is under; empty: none is under any
        self.counts: dict[int, int] = {}  # steps in each state but WAITING
        self.left = definition.total
        self.dirty: set[int] = _NONE  # positions of `state` not yet committed
        self.touched: set[int] = _NONE  # steps whose record is not yet committed
        self.size = 2_500
        if len(self.state) != definition.total + 1:
            raise DefinitionError(f"{definition.total} steps, but a state string for {len(self.state) - 1}")

    # -- building ---------------------------------------------------------------------------------

    def extend(self, steps: Sequence[Step]) -> None:
        """Add the next steps of the definition (all at once, or part by part)."""
        first = len(self.steps)
        if first + len(steps) > self.total:
            raise DefinitionError(f"more steps than the {self.total} announced")
        check_steps(steps, first, len(self.policies))
        if steps is self.definition.steps and not first:
            self.steps = self.definition.steps
        else:
            self.steps.extend(steps)
        state = self.state
        for index, step in enumerate(steps, first):
            self.waiting.append(self._link(index, step.after) if step.after else 0)
            self.size += _STEP + len(step.input) + _EDGE * len(step.after)
            now = state[index + 1]
            if now == StepState.WAITING:
                if not self.waiting[index]:
                    self.begin((index,))
                continue
            if now not in _STATES:
                raise DefinitionError(f"step {index} has the unknown state {now!r}")
            self.counts[now] = self.counts.get(now, 0) + 1
            if now in DONE:
                self.left -= 1

    def _link(self, index: int, after: Iterable[int | tuple[int, int]]) -> int:
        state = self.state
        waits = 0
        for edge in after:
            if isinstance(edge, int):
                low, high = edge, edge + 1
            else:
                low, high = edge
            if high - low <= _EXPAND:
                for source in range(low, high):
                    if state[source + 1] not in DONE:
                        self.edges.setdefault(source, []).append(index)
                        waits += 1
                continue
            group = self.groups.get((low, high))
            if group is None:
                left = high - low - sum(state.count(done, low + 1, high + 1) for done in DONE)
                group = self.groups[low, high] = _Group(left)
                self.spans = self.spans or Spans(self.total)
                self.spans.add(low, high, group)
            if group.left:
                group.dependents.append(index)
                waits += 1
        return waits

    @property
    def whole(self) -> bool:
        return len(self.steps) == self.total

    # -- reading ----------------------------------------------------------------------------------

    @property
    def plan_state(self) -> PlanState:
        return PlanState(self.state[0])

    def kept(self, step: int) -> StepRecord:
        """What is known of a step's attempts; a fresh record when there was nothing to keep."""
        return self.records.get(step) or StepRecord()

    def attempt(self, step: int) -> int:
        record = self.records.get(step)
        return record.attempt if record else 1

    @property
    def record(self) -> PlanRecord:
        """The sparse rest of the plan; made when it is asked for."""
        if self.rest is None:
            self.rest = PlanRecord()
        return self.rest

    def count(self, state: StepState) -> int:
        """Steps in this state; not for WAITING."""
        return self.counts.get(state, 0)

    @property
    def standing(self) -> int:
        """Steps that are on a queue or owned by a worker."""
        return self.counts.get(_STANDING, 0)

    @property
    def moving(self) -> bool:
        """Something of it can go on without anybody's doing: it stands, waits for an event, a timer or a limit."""
        count = self.counts.get
        return bool(count(_STANDING) or count(_SUSPENDED) or count(_RETRYING) or self.blocked)

    def in_state(self, *states: StepState) -> list[int]:
        """The steps in these states."""
        found: list[int] = []
        for state in states:
            at = self.state.find(state, 1)
            while at > 0:
                found.append(at - 1)
                at = self.state.find(state, at + 1)
        return sorted(found)

    # -- changing ---------------------------------------------------------------------------------

    def set_plan(self, state: PlanState) -> None:
        self.state[0] = state
        self.change(0)

    def change(self, position: int) -> None:
        """A byte of `state` is to be committed."""
        if self.dirty is _NONE:
            self.dirty = set()
        self.dirty.add(position)

    def settled(self) -> None:
        """What has changed is in the commit."""
        self.dirty = self.touched = _NONE
        if not self.ready:
            self.ready = _NONE_READY

    def note(self, step: int, record: StepRecord) -> None:
        self.records[step] = record
        if self.touched is _NONE:
            self.touched = set()
        self.touched.add(step)

    def advance(self, step: int, event: StepEvent) -> bool:
        """Move one step by the table. False: the event says nothing to the state it is in."""
        before = self.state[step + 1]
        after = _LIFE[before][event]
        if after is None:
            return False
        self.state[step + 1] = after
        if self.dirty is _NONE:
            self.dirty = set()
        self.dirty.add(step + 1)
        counts = self.counts
        if before != _WAITING:
            counts[before] -= 1
        if after != _WAITING:
            counts[after] = counts.get(after, 0) + 1
        if after in DONE:
            self.left -= 1
            self._release(step)
        elif after == _WAITING:  # a new attempt: everything it depends on has finished
            self.begin((step,))
        return True

    def begin(self, steps: Iterable[int]) -> None:
        """They can be queued."""
        if self.ready is _NONE_READY:
            self.ready = deque()
        self.ready.extend(steps)

    def _release(self, step: int) -> None:
        for dependent in self.edges.pop(step, ()):
            self._satisfy(dependent)
        if self.spans is None:
            return
        for group in self.spans.at(step):
            group.left -= 1
            if not group.left:
                for dependent in group.dependents:
                    self._satisfy(dependent)

    def _satisfy(self, step: int) -> None:
        self.waiting[step] -= 1
        if not self.waiting[step]:
            self.begin((step,))


_NO_STEPS = Definition(label="", policies=[], total=0)


def refused(plan: str) -> PlanRun:
    """A plan that was refused: it has ended, whatever it is."""
    return PlanRun(plan, _NO_STEPS, bytes([PlanState.REJECTED]))
