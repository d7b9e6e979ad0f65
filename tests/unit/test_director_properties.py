"""Random graphs, random orders of everything, and a director that dies between any two commits.

Each example is a long random walk: workers take, finish, fail and die, events come twice, commits are lost,
plans are resumed; then the world is drained, and everything that must hold is looked at. The world checks
what must hold at each commit (tests/support/world.py).
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from chargehand.plan.life import DONE, PlanState, StepState
from chargehand.wire import Definition, Failure, Finished, Policy, Step, read_key
from support.world import World


def definition(draw: Random) -> Definition:
    """A graph of up to 40 steps: single edges, short and long ranges."""
    total = draw.choice([0, 1, 1, 2, 5, draw.randrange(40), draw.randrange(40)])
    policies = [
        Policy("rerun", attempts=draw.randint(1, 3), backoff_ms=draw.randint(1, 500)),
        Policy("pause", on_lost="pause"),
        Policy("skip", rescue="skip"),
        Policy("fail", attempts=draw.randint(1, 2), rescue="fail"),
    ]
    kinds = draw.choice([[0, 0, 0, 1], [0, 0, 1, 2, 2], [0, 0, 0, 0, 2, 3]])
    steps = []
    for index in range(total):
        after: list[int | tuple[int, int]] = []
        if index and draw.random() < 0.7:
            after += [draw.randrange(index) for _ in range(draw.randint(0, 2))]
            if draw.random() < 0.3:
                low = draw.randrange(index)
                after.append((low, draw.randint(low + 1, index)))
        steps.append(Step(draw.choice(kinds), after=after))
    return Definition(label="random", policies=policies, total=total, steps=steps)


class Walk:
    def __init__(self, draw: Random) -> None:
        self.draw = draw
        self.world = World(most=draw.choice([3, 20, 500]), cache=draw.choice([1, 5_000, 1 << 20]))
        self.alive: list[str] = []
        self.plans: list[str] = []
        self.past: list[Finished] = []
        self.hire()
        self.hire()
        self.submit()

    def hire(self) -> None:
        worker = f"w{len(self.world.members) + self.draw.randrange(10**9)}"
        self.alive.append(worker)
        self.world.register(worker)

    def submit(self) -> None:
        plan = f"p{len(self.plans)}"
        self.plans.append(plan)
        self.world.submit(plan, definition(self.draw))

    def turn(self) -> None:
        self.world.turn(most=self.draw.randint(1, 5))

    def lost_turn(self) -> None:
        self.world.turn(apply=False, most=self.draw.randint(1, 5))

    def fail_over(self) -> None:
        self.world.forget()

    def work(self) -> None:
        self.world.take(self.draw.choice(self.alive), "default")

    def finish(self) -> None:
        worker = self.draw.choice(self.alive)
        keys = sorted(self.world.owned.get(worker, {}))
        if keys:
            key = self.draw.choice(keys)
            fails = self.draw.random() < 0.3
            failure = Failure("boom", "it failed", final=self.draw.random() < 0.2) if fails else None
            self.world.finish(worker, key, failure)
            self.past.append(Finished(*read_key(key), failure))

    def repeat(self) -> None:
        """A finish of the past once more; one whose event still waits would count for itself."""
        if self.past:
            event = self.draw.choice(self.past)
            if all(event != waiting for _, waiting in self.world.inbox):
                self.world.put(event)

    def stale(self) -> None:
        """A success of an attempt that is over by now, though its step stands again."""
        retried = [event for event in self.past if event.failure is not None]
        if retried:
            event = self.draw.choice(retried)
            waits = any(
                isinstance(other, Finished) and (other.plan, other.step) == (event.plan, event.step)
                for _, other in self.world.inbox
            )
            if not waits:
                self.world.put(Finished(event.plan, event.step, event.attempt))

    def kill(self) -> None:
        if len(self.alive) > 1:
            worker = self.draw.choice(self.alive)
            self.alive.remove(worker)
            self.world.kill(worker)
            if self.draw.random() < 0.3:
                self.world.kill(worker)  # a notice repeated

    def wait(self) -> None:
        self.world.now_ms += self.draw.randint(1, 2_000)

    def resume(self) -> None:
        self.world.resume(self.draw.choice(self.plans))

    def skip(self) -> None:
        plan = self.draw.choice(self.plans)
        if plan in self.world.states and len(self.world.states[plan]) > 1:
            self.world.skip(plan, self.draw.randrange(len(self.world.states[plan]) + 1) - 1)

    STEPS = (
        (hire, 1),
        (submit, 1),
        (turn, 12),
        (lost_turn, 2),
        (fail_over, 1),
        (work, 10),
        (finish, 9),
        (repeat, 1),
        (stale, 1),
        (kill, 1),
        (wait, 3),
        (resume, 1),
        (skip, 1),
    )

    def step(self) -> None:
        actions, weights = zip(*self.STEPS, strict=True)
        self.draw.choices(actions, weights)[0](self)

    def drain(self) -> None:
        """With a living worker and an orchestrator, every plan ends or is paused."""
        world = self.world
        for _ in range(3_000):
            world.now_ms += 1_000
            world.turn()
            for worker in self.alive:
                while world.take(worker, "default") is not None:
                    pass
                for key in list(world.owned.get(worker, {})):
                    world.finish(worker, key, None)
            if not world.inbox and not world.timers and not world.director.eager:
                return
        raise AssertionError("it goes on for ever")


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_order_is_kept_and_every_plan_ends(seed: int) -> None:
    walk = Walk(Random(seed))
    for _ in range(250):
        walk.step()
    walk.drain()

    world = walk.world
    assert all(count == 1 for count in world.succeeded.values())
    for plan in walk.plans:
        state = PlanState(world.states[plan][0])
        assert world.index[plan] == chr(state)
        if state is PlanState.PAUSED:
            failed = [at - 1 for at, byte in enumerate(world.states[plan]) if at and byte == StepState.FAILED]
            assert failed
            assert all(b"message" in world.records[plan][step] for step in failed)
        elif state is PlanState.FAILED:
            assert StepState.FAILED in world.states[plan][1:]
            assert StepState.STANDING not in world.states[plan][1:]
        else:
            assert state is PlanState.SUCCEEDED
            assert all(byte in DONE for byte in world.states[plan][1:])
