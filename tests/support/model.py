"""What the director should do, said a second time, as simply as it can be: one plan, one step, one thing that happened
at a time. No batches, no memory to lose, no effects; written from docs/design.md.

What is only a matter of when (which ready steps are queued, when a plan that may begin does, when a step that no worker
owns is given up) is taken from the world, and must be allowed; everything else must be as the model says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from chargehand.plan.commit import Corpse
from chargehand.plan.retry import backoff_ms
from chargehand.wire import (
    SUB_PLANS_FAILED,
    SYSTEM_EVENTS,
    Cancelled,
    Definition,
    Ended,
    Event,
    Failure,
    Finished,
    Halted,
    Policy,
    Resumed,
    Retried,
    Reverted,
    Sent,
    Skipped,
    Submitted,
    Suspension,
    child_id,
    read_key,
    step_key,
)

__all__ = ["Model", "Seen"]

_ENDED = set("SFCVHX")


@dataclass
class Seen:
    """What the world shows after a turn."""

    states: Mapping[str, str]  # plan -> its letter, and those of its steps
    began: Set[str]  # plans that have begun in this turn
    owned: Set[str]  # keys of attempts that a worker has
    attempts: Mapping[str, Mapping[int, int]]  # those that count, of the steps whose records have changed


@dataclass
class Step:
    policy: Policy
    sources: list[int]
    state: str = "w"
    attempt: int = 1
    failures: int = 0
    losses: int = 0
    due: int = 0  # its next attempt
    wakes: int = 0  # it goes on by itself; 0: it does not
    event: str = ""  # with which it goes on
    events: list[str] = field(default_factory=list)
    generation: int = 0
    children: int = 0
    ends: int = 0

    def wake(self, event: str) -> None:
        self.state, self.event, self.wakes = "q", event, 0
        self.attempt += 1

    def again(self) -> None:
        """By somebody's wish, from its beginning."""
        self.state, self.event, self.events = "w", "", []
        self.attempt, self.failures, self.losses = self.attempt + 1, 0, 0


@dataclass
class Plan:
    definition: Definition
    state: str
    steps: list[Step]
    awaits: set[str] = field(default_factory=set)

    def any(self, letters: str) -> bool:
        return any(step.state in letters for step in self.steps)

    @property
    def unbegun(self) -> bool:
        return self.state in "db"

    def ready(self, step: Step) -> bool:
        return step.state == "w" and all(self.steps[source].state in "sk" for source in step.sources)

    def undoable(self, number: int) -> bool:
        return self.steps[number].state == "s" and self.steps[number].policy.revert

    def free(self) -> set[int]:
        """Upon which nothing is built that is in use, or could not be undone."""
        free = set(range(len(self.steps)))
        for number in reversed(range(len(self.steps))):
            if self.steps[number].state in "vyu" or self.undoable(number) or number not in free:
                free -= {*self.steps[number].sources}
        return free


class Model:
    """`definitions`: what was submitted, whole."""

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self.definitions = definitions
        self.plans: dict[str, Plan] = {}
        self.over: set[str] = set()
        self.now = 0
        self.seen = Seen({}, set(), set(), {})

    def turn(self, now_ms: int, corpses: Iterable[Corpse], events: Iterable[Event | None], seen: Seen) -> None:
        """The director has decided on these: deaths first, then what is due, then events. Raises `AssertionError`."""
        self.now, self.seen = now_ms, seen
        for name, plan in self._open():
            if seen.states[name][0] == "X" and plan.definition.parts and _malformed(plan.definition):
                plan.state = "X"  # its steps were read now, and are none
        for corpse in corpses:
            for key in corpse.owned:
                self._lose(*read_key(key))
        for name, plan in self._open():
            self._due(name, plan)
        for event in events:
            self._happen(event)
        for name, plan in self._open():
            self._observe(name, plan, seen.states[name])
            self._settle(plan)
            found = plan.state + "".join(step.state for step in plan.steps)
            shown = seen.states[name].replace("d", "b", 1) if plan.unbegun else seen.states[name]
            assert shown == found[: len(shown)], f"{name} is {shown}, and is to be {found}"
            for number, attempt in seen.attempts.get(name, {}).items():
                assert attempt == plan.steps[number].attempt, f"step {number} of {name} is at attempt {attempt}"

            if plan.state in _ENDED:
                self.over.add(name)

    def forget(self, name: str) -> None:
        """It was purged."""
        del self.plans[name]
        self.over.discard(name)

    def _open(self) -> list[tuple[str, Plan]]:
        """Those that had not ended before this turn; the others never change, as the world sees to."""
        return [(name, plan) for name, plan in self.plans.items() if name not in self.over]

    # -- beginning --------------------------------------------------------------------------------

    def _submit(self, event: Submitted) -> None:
        if event.plan in self.plans:
            return
        definition = self.definitions[event.plan]
        leaders = [self.plans.get(other) for other in definition.after]
        plan = self.plans[event.plan] = Plan(definition, "R", [])
        if not all(leaders) or (_malformed(definition) and not definition.parts):
            plan.state = "X"
            return
        plan.steps = [
            Step(definition.policies[step.policy], [source for edge in step.after for source in _range(edge)])
            for step in definition.steps
        ]
        if definition.start_at_ms or definition.start_before_ms or definition.after or definition.locks:
            plan.state = "b"
        for other, leader in zip(definition.after, leaders, strict=True):
            if leader is not None and leader.state not in _ENDED:
                plan.awaits.add(other)
            elif leader is not None and leader.state != "S" and definition.after_failure == "fail":
                plan.state = "F"
        self._begin(event.plan, plan)

    def _begin(self, name: str, plan: Plan) -> None:
        """It begins if it may, and if it did; its locks are looked at in tests/support/rules.py."""
        definition = plan.definition
        if not plan.unbegun:
            return
        if 0 < definition.start_before_ms < self.now:
            plan.state = "F"
        elif plan.awaits or definition.start_at_ms > self.now:
            return
        elif name in self.seen.began:
            plan.state = "R"
        elif definition.busy == "reject" and self.seen.states[name][0] == "F":
            plan.state = "F"

    def _due(self, name: str, plan: Plan) -> None:
        self._begin(name, plan)
        for step in plan.steps if plan.state not in _ENDED else ():
            if step.state in "ry" and step.due <= self.now:
                step.state = "w" if step.state == "r" else "v"
                step.attempt += 1
            elif step.state == "z" and 0 < step.wakes <= self.now and plan.state not in "cv":
                step.wake("wake")

    # -- what happens -----------------------------------------------------------------------------

    def _happen(self, event: Event | None) -> None:
        if isinstance(event, Submitted):
            self._submit(event)
            return
        plan = self.plans.get(getattr(event, "plan", ""))
        if plan is None or plan.state in _ENDED:
            return
        number = getattr(event, "step", -1)
        step = plan.steps[number] if 0 <= number < len(plan.steps) else None
        match event:
            case Ended(step=-1) if event.other in plan.awaits:
                plan.awaits.discard(event.other)
                if event.state != "S" and plan.definition.after_failure == "fail" and plan.unbegun:
                    plan.state = "F"
                self._begin(event.plan, plan)
            case Cancelled() if plan.state in "dbPRf":
                self._stop(plan, "c" if plan.state in "Rf" else "C")
            case Reverted() if plan.state in "RPf":
                self._stop(plan, "v")
            case Halted():
                plan.state = "H"
                for one in plan.steps:
                    one.state = {"q": "c", "z": "c", "r": "c", "v": "u", "y": "u"}.get(one.state, one.state)
            case Resumed() if plan.state == "P":
                plan.state = "R"
                for one in plan.steps:
                    if one.state == "f":
                        one.again()
            case Skipped() if step is not None and plan.state in "RP" and step.state == "f":
                step.state, plan.state = "k", "R"
            case Retried() if step is not None and plan.state in "RP" and step.state in "fr":
                step.again()
                plan.state = "R"
            case Sent() if step is not None and event.name not in SYSTEM_EVENTS:
                if step.state == "z":
                    if plan.state not in "cv":
                        step.wake(event.name)
                elif step.state in "wqr" and not event.optional and len(step.events) < 100:
                    step.events.append(event.name)
            case Ended() if step is not None:
                if event.other in _children(event.plan, event.step, step.generation, event.other):
                    step.ends += 1
                    self._children_ended(plan, step)
            case Finished() if step is not None and step.attempt == event.attempt and step.state in "qv":
                self._finish(plan, step, event)

    def _finish(self, plan: Plan, step: Step, event: Finished) -> None:
        if event.failure is not None:
            self._fail(plan, step, event.failure, step_key(event.plan, event.step, event.attempt))
        elif event.suspended is not None:
            if step.state == "q":
                self._suspend(plan, step, event.suspended)
        elif step.state == "v":
            step.state = "V"
        else:
            step.state = "c" if plan.state == "c" and step.event == "cancel" else "s"

    def _suspend(self, plan: Plan, step: Step, how: Suspension) -> None:
        told, step.state, step.event = step.event == "cancel", "z", ""
        step.children = max(step.children, how.children)
        if plan.state in "cv":
            self._cancel_suspended(step, told=told)
        elif step.events:
            step.wake(step.events.pop(0))
        elif not self._children_ended(plan, step) and how.wake_ms:
            step.wakes = self.now + how.wake_ms

    def _children_ended(self, plan: Plan, step: Step) -> bool:
        if step.state != "z" or not step.children or step.ends < step.children:
            return False
        if plan.state in "cv":
            self._cancel_suspended(step, told=False)
            return True
        step.wake("children")
        step.generation, step.children, step.ends = step.generation + 1, 0, 0
        return True

    def _fail(self, plan: Plan, step: Step, failure: Failure, key: str) -> None:
        step.failures += 1
        undoing = step.state == "v"
        if plan.state in "cv" and not undoing:
            step.state = "c" if failure.kind == "cancelled" else "f"
        elif failure.final or step.failures >= step.policy.attempts or (plan.state != "R" and not undoing):
            self._give_up(plan, step, step.policy.rescue)
        else:
            step.state, step.due = "y" if undoing else "r", self.now + backoff_ms(step.policy, step.failures, key)
            if failure.kind == SUB_PLANS_FAILED:
                step.event = ""

    def _lose(self, name: str, number: int, attempt: int) -> None:
        plan = self.plans[name]
        step = plan.steps[number]
        if plan.state in _ENDED or step.attempt != attempt or step.state not in "qv":
            return
        undoing, policy = step.state == "v", step.policy
        if plan.state in "cv" and not undoing:
            step.state = "f"
        elif policy.reboots and not undoing:
            step.attempt += 1
        elif policy.on_lost == "pause":
            self._give_up(plan, step, "pause")
        elif step.losses == 2 or (plan.state != "R" and not undoing):
            self._give_up(plan, step, policy.rescue)
        else:
            step.attempt, step.losses = step.attempt + 1, step.losses + 1

    def _give_up(self, plan: Plan, step: Step, rescue: str) -> None:
        if step.state == "v":
            step.state = "u"
            return
        step.state = "k" if rescue == "skip" else "f"
        if rescue == "fail" and plan.state == "R":
            plan.state = "f"
        elif rescue == "revert" and plan.state in "RPf":
            self._stop(plan, "v")

    def _stop(self, plan: Plan, state: str) -> None:
        plan.state = state
        for step in plan.steps:
            if step.state == "r":
                step.state = "c"
            elif step.state == "z":
                self._cancel_suspended(step, told=False)

    def _cancel_suspended(self, step: Step, *, told: bool) -> None:
        if step.ends < step.children and not told:
            return  # until they have ended
        if step.policy.cancels and not told:
            step.wake("cancel")
        else:
            step.state = "c"

    # -- the end of a turn ------------------------------------------------------------------------

    def _observe(self, name: str, plan: Plan, shown: str) -> None:
        """What is a matter of when."""
        pairs = [*enumerate(zip(plan.steps, shown[1:], strict=False))]
        for number, (step, state) in pairs:
            if step.state == "w" and state == "q":
                assert plan.state == "R", f"step {number} of {name} is queued, and the plan is {plan.state}"
                assert plan.ready(step), f"step {number} of {name} is queued, and not ready"
                step.state = "q"
            elif step.state == "q" and state == "c" and plan.state in "cv":
                assert step.event != "cancel", f"step {number} of {name} was told to cancel, and is given up"
                assert step_key(name, number, step.attempt) not in self.seen.owned
                step.state = "c"
        for number, (step, state) in pairs:
            if step.state == "s" and state == "v":
                assert plan.state == "v", f"step {number} of {name} is undone, and the plan is {plan.state}"
                assert not plan.any("qzr"), f"step {number} of {name} is undone while others go on"
                assert plan.undoable(number), f"step {number} of {name} has nothing to undo"
                assert number in plan.free(), f"step {number} of {name} is undone, and is still in use"
                step.state, step.attempt, step.failures, step.losses = "v", step.attempt + 1, 0, 0

    def _settle(self, plan: Plan) -> None:
        if plan.state == "R" and not plan.any("qzr") and not _malformed(plan.definition):
            if all(step.state in "sk" for step in plan.steps):
                plan.state = "S"
            elif not any(plan.ready(step) for step in plan.steps):
                plan.state = "F" if plan.definition.parent else "P"
        elif plan.state in "fc" and not plan.any("qz"):
            plan.state = plan.state.upper()
        elif plan.state == "v" and not plan.any("qzrvy") and not any(map(plan.undoable, plan.free())):
            plan.state = "F" if plan.any("u") else "V"


def _range(edge: int | tuple[int, int]) -> Iterable[int]:
    return (edge,) if isinstance(edge, int) else range(*edge)


def _malformed(definition: Definition) -> bool:
    return any(
        source >= at for at, step in enumerate(definition.steps) for edge in step.after for source in _range(edge)
    )


def _children(plan: str, step: int, generation: int, like: str) -> set[str]:
    """The ids of a step's sub-plans of a generation, up to the number that `like` has."""
    number = like.removeprefix(f"{plan}.{step}.").partition(".")[0]
    return {child_id(plan, step, int(number), generation)} if number.isdecimal() else set()
