"""A long random walk through a world: plans of every kind, workers that do anything they may, people who ask for
anything at any time, orchestrators that die between any two commits. The world checks what must hold after each commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from msgspec import Raw

from chargehand.plan.calendar import Recurrence
from chargehand.plan.life import ENDED, PlanState, StepState
from chargehand.plan.limits import Limit
from chargehand.plan.repeat import Repeat
from chargehand.wire import (
    SUB_PLANS_FAILED,
    Cancelled,
    Definition,
    Entry,
    Failure,
    Finished,
    Halted,
    Hook,
    Lock,
    Policy,
    Recurring,
    Resumed,
    Retried,
    Reverted,
    Sent,
    Skipped,
    Step,
    Suspension,
    child_id,
    encode,
    read_entry,
    read_key,
)
from support.model import Model
from support.world import World

__all__ = ["QUEUES", "Walk"]

QUEUES = ("default", "narrow", "@n")
_NARROW = {"queue:narrow": Limit(most=2)}
_POLICIES = [
    Policy("rerun", attempts=3, backoff_ms=300),
    Policy("pause", on_lost="pause", cancels=True),
    Policy("skip", attempts=2, backoff_ms=200, rescue="skip", revert=True),
    Policy("fail", attempts=2, rescue="fail"),
    Policy("undo", attempts=2, rescue="revert", revert=True),
    Policy("limited", attempts=2, limit=2, revert=True, cancels=True),
    Policy("rated", rate=(2, 500), queue="narrow"),
    Policy("reboot", reboots=True, limit=1, queue="narrow"),
    Policy("hook"),
]
_OPEN = set(PlanState) - ENDED
_HOOK = len(_POLICIES) - 1
_PLAIN = 5  # policies below this one are under no limit


class Walk:
    """`bounded`: with limits, and commits that have little room; without, what is queued follows from what happened."""

    def __init__(self, draw: Random, *, bounded: bool = True) -> None:
        self.draw = draw
        self.bounded = bounded
        if bounded:
            room, memory = draw.choice([3, 20, 500]), draw.choice([1, 5_000, 1 << 20])
            self.world = World(most=room, cache=memory, fixed=_NARROW, forgetful=draw.random() < 0.2)
        else:
            self.world = World(most=1 << 30, compared=True)
        self.world.model = Model(self.world.definitions)
        self.alive: list[str] = []
        self.past: list[Finished] = []
        self.count = 0
        self.purged: list[str] = []  # ids that may be used again
        self.sizes: dict[tuple[str, int], int] = {}  # how many sub-plans a step starts
        self.brood: dict[tuple[str, int, int], set[int]] = {}  # plan, step, generation -> numbers that were submitted
        self.hire()
        self.hire()
        self.submit()

    # -- plans ------------------------------------------------------------------------------------

    def _definition(self, *, sub_plan: bool = False) -> Definition:
        """A graph of up to 30 steps: single edges, short and long ranges; often of a few steps that end soon."""
        draw = self.draw
        total = draw.choice([0, 1, 1, 2, 5, draw.randrange(30)]) if not sub_plan else draw.randint(1, 2)
        kinds = draw.choice([[0, 0, 0, 1], [0, 0, 1, 2, 2], [0, 2, 4, 4], [2], [2, 3, 3, 4], [0, 5, 6, 7]])
        if not self.bounded:
            kinds = [kind for kind in kinds if kind < _PLAIN]
        steps = []
        for index in range(total):
            after: list[int | tuple[int, int]] = []
            if index and draw.random() < 0.7:
                after += [draw.randrange(index) for _ in range(draw.randint(0, 2))]
                if draw.random() < 0.3:
                    low = draw.randrange(index)
                    after.append((low, draw.randint(low + 1, index)))
            steps.append(Step(draw.choice(kinds), after=after, node=draw.choice([None] * 5 + ["n"])))
        now = self.world.now_ms
        rarely = draw.random() < 0.5
        return Definition(
            label=draw.choice("xyz"),
            policies=_POLICIES,
            total=total,
            steps=steps,
            labels=draw.choice([[], ["red"]]),
            start_at_ms=now + draw.randint(0, 3_000) if rarely and draw.random() < 0.2 else 0,
            start_before_ms=now + draw.randint(-100, 4_000) if rarely and draw.random() < 0.2 else 0,
            after=self._after() if rarely and draw.random() < 0.3 else [],
            after_failure=draw.choice(["fail", "run"]),
            locks=[Lock(name, draw.randint(0, 2)) for name in "abc" if draw.random() < 0.3] if rarely else [],
            busy=draw.choice(["wait", "wait", "wait", "reject"]),
            limit=draw.randint(1, 3) if self.bounded and draw.random() < 0.2 else 0,
            hooks=[Hook(draw.choice(["RP", "SFC", "dbVH"]), _HOOK)] if draw.random() < 0.1 else [],
        )

    def _after(self) -> list[str]:
        known = [*self.world.definitions]
        return list({self.draw.choice(known) for _ in range(self.draw.randint(1, 2))}) if known else []

    def submit(self) -> None:
        definition = self._definition()
        if self.draw.random() < 0.02:
            definition = Definition("bad", _POLICIES, 1, [Step(0, after=[0])])
        self.count += 1
        name = f"p{self.count}"
        if self.purged and self.draw.random() < 0.7:
            name = self.purged.pop()
        self.world.submit(name, definition, parts=definition.total > 0 and self.draw.random() < 0.2)

    def purge(self) -> None:
        """A plan that ended is forgotten, after its sub-plans, and when the plan that started it has ended."""
        world = self.world
        waited = {plan for plan in world.definitions if plan not in world.states or world.states[plan][0] not in ENDED}
        waited |= {read_key(key)[0] for owned in world.owned.values() for key in owned}
        waited |= {event.plan for _, event in world.inbox if isinstance(event, Finished)}
        parents = {one.parent[0] for one in world.definitions.values() if one.parent}
        over = [plan for plan in world.states if plan not in waited | parents | {*world.stopped}]
        over = [plan for plan in over if not (parent := world.definitions[plan].parent) or parent[0] not in waited]
        if over:
            plan = self.draw.choice(over)
            world.purge(plan)
            world.now_ms += 1  # it goes by its age: no plan of its name begins in the moment in which it ended
            self.past = [event for event in self.past if event.plan != plan]
            self.brood = {key: numbers for key, numbers in self.brood.items() if key[0] != plan}
            if "." not in plan and not plan.startswith("r"):
                self.purged.append(plan)

    def recur(self) -> None:
        name = self.draw.choice(["hourly", "daily"])
        recurrence = Recurrence("* * * * *", most=2, missed=self.draw.choice(["skip", "once", "all"]))
        record = Repeat(name, recurrence, Raw(encode(Definition("run", _POLICIES, 1, [Step(0)]))))
        what = self.draw.choice(["set", "set", "pause", "resume", "remove"])
        if what != "set" or name not in self.world.repeats:
            self.world.put(Recurring(name, what, Raw(encode(record)) if what == "set" else Raw(b"null")))

    # -- orchestrators and time -------------------------------------------------------------------

    def turn(self) -> None:
        self.world.turn(most=self.draw.randint(1, 5))

    def lost_turn(self) -> None:
        self.world.turn(apply=False, most=self.draw.randint(1, 5))

    def fail_over(self) -> None:
        self.world.forget()

    def wait(self) -> None:
        self.world.now_ms += self.draw.choice([1, 10, 100, 1_000, 2_000, self.draw.choice([10, 70_000])])

    # -- workers ----------------------------------------------------------------------------------

    def hire(self) -> None:
        worker = f"w{self.draw.randrange(10**9)}"
        self.alive.append(worker)
        self.world.register(worker)

    def kill(self) -> None:
        if len(self.alive) > 1:
            worker = self.draw.choice(self.alive)
            self.alive.remove(worker)
            boot = f"boot {self.draw.randrange(10)}"
            self.world.kill(worker, boot)
            if self.draw.random() < 0.3:
                self.world.kill(worker, boot)  # a notice repeated

    def work(self) -> None:
        self.take(self.draw.choice(self.alive), self.draw.choice(QUEUES))

    def take(self, worker: str, queue: str) -> str | None:
        key = self.world.take(worker, queue)
        if key is not None:
            self._check_children(read_entry(self.world.owned[worker][key]))
        return key

    def _check_children(self, entry: Entry) -> None:
        """A step that is told that its sub-plans have ended is told the truth."""
        if entry.extra.children is None:
            return
        plan, step, _ = read_key(entry.key)
        generation = entry.extra.generation - 1
        ids = [child_id(plan, step, number, generation) for number in self.brood[plan, step, generation]]
        states = [self.world.plan(child) for child in ids]
        assert all(state in ENDED for state in states), f"{entry.key} is told too early"
        well = states.count(PlanState.SUCCEEDED)
        assert entry.extra.children == (len(ids), well, len(ids) - well)

    def finish(self) -> None:
        worker = self.draw.choice(self.alive)
        keys = sorted(self.world.owned.get(worker, {}))
        if keys:
            self._finish(worker, self.draw.choice(keys))

    def _finish(self, worker: str, key: str) -> None:
        draw, world = self.draw, self.world
        entry = read_entry(world.owned[worker][key])
        reverts = entry.action.endswith(":revert")
        failure, suspended, children = None, None, 0
        word = draw.choices(["succeed", "fail", "suspend", "spawn"], [6, 3, 0 if reverts else 2, 0 if reverts else 1])[
            0
        ]
        if word == "spawn" and (suspended := self._spawn(entry)) is None:
            word = draw.choice(["fail", "later"])
            children = self.sizes[read_key(key)[:2]]
        if word == "later":  # it goes on to start its sub-plans
            return
        if word == "fail":
            failure = Failure("boom", "it failed", final=draw.random() < 0.2)
            if entry.extra.children is not None and draw.random() < 0.7:
                failure = Failure(SUB_PLANS_FAILED, "some of them failed")
            elif read_key(key)[0] in world.stopped and draw.random() < 0.7:
                failure = Failure("cancelled", "it was cancelled", final=True)
        elif word == "suspend":
            suspended = Suspension(draw.choice([0, 0, 100, 2_000]), draw.choice(["wake", "poll", "children", "cancel"]))
        world.finish(worker, key, failure, suspended=suspended, children=children if failure else 0)
        self.past.append(Finished(*read_key(key), failure, suspended, children if failure else 0))

    def _spawn(self, entry: Entry) -> Suspension | None:
        """Submit what has not succeeded in an earlier generation; sometimes it stops on the way there."""
        plan, step, _ = read_key(entry.key)
        world, generation = self.world, entry.extra.generation
        size = self.sizes.setdefault((plan, step), self.draw.randint(1, 4))
        if plan.count(".") > 2 or generation > 2:
            size = self.sizes[plan, step] = 0
        fresh = [number for number in range(size) if not self._has_succeeded(plan, step, number, generation)]
        for number in fresh:
            child = child_id(plan, step, number, generation)
            if child in world.definitions:
                continue
            if self.draw.random() < 0.1:
                return None
            definition = self._definition(sub_plan=True)
            locks = [*definition.locks, *([Lock(f"children {plan}.{step}", 2)] if step % 2 else [])]
            parent = {"parent": (plan, step), "locks": locks}
            world.submit(child, Definition(**{**_fields(definition), **parent}))  # type: ignore[arg-type]
        if not fresh:
            return Suspension(1)
        self.brood[plan, step, generation] = set(fresh)
        return Suspension(children=len(fresh), end=size)

    def _has_succeeded(self, plan: str, step: int, number: int, generation: int) -> bool:
        ids = (child_id(plan, step, number, earlier) for earlier in range(generation))
        return any(child in self.world.states and self.world.plan(child) is PlanState.SUCCEEDED for child in ids)

    def repeat(self) -> None:
        """A finish of the past once more; one whose event still waits would count for itself."""
        if self.past:
            event = self.draw.choice(self.past)
            if not self._waits(event):
                self.world.put(event)

    def stale(self) -> None:
        """A success of an attempt that is over by now, though its step stands again."""
        over = [event for event in self.past if event.failure is not None or event.suspended is not None]
        if over:
            event = self.draw.choice(over)
            if not self._waits(event):
                self.world.put(Finished(event.plan, event.step, event.attempt))

    def _waits(self, event: Finished) -> bool:
        return any(
            isinstance(other, Finished) and (other.plan, other.step) == (event.plan, event.step)
            for _, other in self.world.inbox
        )

    # -- people -----------------------------------------------------------------------------------

    def _anything(self, *wanted: StepState) -> tuple[str, int]:
        """A step that is in one of these states; or any step, or none, of any plan."""
        found = [*self._in_state(*wanted)]
        if found and self.draw.random() < 0.8:
            return self.draw.choice(found)
        plan = self.draw.choice([*self.world.definitions, "nobody"])
        return plan, self.draw.randrange(len(self.world.states.get(plan, b"12")) + 1) - 1

    def _anyone(self, *likely: PlanState) -> str:
        """A plan that is in one of these states; or any."""
        found = [plan for plan, states in self.world.states.items() if states[0] in likely]
        return self.draw.choice(found if found and self.draw.random() < 0.8 else [*self.world.definitions, "nobody"])

    def resume(self) -> None:
        self.world.put(Resumed(self._anyone(PlanState.PAUSED)))

    def skip(self) -> None:
        self.world.put(Skipped(*self._anything(StepState.FAILED)))

    def retry(self) -> None:
        self.world.put(Retried(*self._anything(StepState.FAILED, StepState.RETRYING)))

    def send(self) -> None:
        plan, step = self._anything(StepState.SUSPENDED)
        name = self.draw.choice(["go", "go", "children", "cancel"])
        self.world.put(Sent(plan, step, name, optional=self.draw.random() < 0.3))

    def cancel(self) -> None:
        self.world.put(Cancelled(self._anyone(*_OPEN), self.draw.choice([0, 1_000, 10_000])))

    def halt(self) -> None:
        self.world.put(Halted(self._anyone(*_OPEN)))

    def revert(self) -> None:
        self.world.put(Reverted(self._anyone(PlanState.RUNNING, PlanState.PAUSED, PlanState.FAILING)))

    def _in_state(self, *wanted: StepState) -> Iterator[tuple[str, int]]:
        for plan, states in self.world.states.items():
            yield from ((plan, step) for step, state in enumerate(states[1:]) if state in wanted)

    # -- the walk ---------------------------------------------------------------------------------

    STEPS = (
        (hire, 1),
        (submit, 2),
        (purge, 0.7),
        (recur, 0.3),
        (turn, 14),
        (lost_turn, 2),
        (fail_over, 1),
        (work, 14),
        (finish, 10),
        (repeat, 1),
        (stale, 1),
        (kill, 1),
        (wait, 3),
        (resume, 1),
        (skip, 0.5),
        (retry, 0.5),
        (send, 2),
        (cancel, 0.4),
        (halt, 0.2),
        (revert, 0.8),
    )

    def step(self) -> None:
        actions, weights = zip(*self.STEPS, strict=True)
        self.draw.choices(actions, weights)[0](self)

    def drain(self) -> None:
        """With a living worker, an orchestrator and somebody who sends what is waited for, all that can end ends."""
        world = self.world
        for _ in range(3_000):
            busy = not world.turn().empty or bool(world.inbox)
            for worker in self.alive:
                for queue in QUEUES:
                    while self.take(worker, queue) is not None:
                        pass
                for key in list(world.owned.get(worker, {})):
                    world.finish(worker, key)
                    busy = True
            if busy:
                continue
            if world.timers:
                world.now_ms = max(world.now_ms, min(world.timers.values()))
            elif suspended := [*self._in_state(StepState.SUSPENDED)]:
                for plan, step in suspended:
                    world.put(Sent(plan, step, "go"))
            else:
                return
        raise AssertionError("it goes on for ever")


def _fields(definition: Definition) -> dict[str, object]:
    return {name: getattr(definition, name) for name in definition.__struct_fields__}
