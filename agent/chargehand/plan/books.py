"""The director's books: plans in memory, locks and limits, and the commit that this turn writes.

Everything that changes a plan goes through here, so that what is in memory and what is committed are one.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec
from msgspec import Raw

from chargehand.decoding import decode
from chargehand.plan.commit import Commit, Launch
from chargehand.plan.life import ENDED, ENDING, PLAN_LIFE, PlanEvent, PlanState, StepEvent, StepState
from chargehand.plan.limits import Limits
from chargehand.plan.locks import Locks
from chargehand.plan.run import More, PlanRun, StepRecord
from chargehand.plan.timers import wake_timer
from chargehand.plan.undo import Undo
from chargehand.wire import (
    WHOLE_PLAN,
    Definition,
    Event,
    Extra,
    Failure,
    Policy,
    Step,
    encode,
    step_key,
    write_entry,
)

__all__ = ["ALONE_AFTER", "CACHE", "LEFT_OVER", "MAX_EFFECTS", "MAX_SIZE", "PLAN_RECORD", "Books"]

MAX_EFFECTS = 500  # a commit: Redis runs it in about a millisecond
MAX_SIZE = 256 * 1024  # bytes a commit
ALONE_AFTER = 2  # a step lost so often runs with nothing beside it
LEFT_OVER = 5_000  # ms: a successor looks after this time for what the last commit had no room for
PLAN_RECORD = -2  # stands for a step number: the `PlanRecord`
CACHE = 64 * 1024 * 1024  # bytes of plans kept in memory: two of 100,000 steps, or 20,000 small ones

_RUNNING = int(PlanState.RUNNING)


class Books:
    """Plans are bounded in bytes: the least recently used go first."""

    def __init__(self, cache: int, most: int, locks: Locks, limits: Limits) -> None:
        self.plans: OrderedDict[str, PlanRun] = OrderedDict()
        self.eager: OrderedDict[str, None] = OrderedDict()  # plans with steps that could be queued now
        self.locks = locks
        self.limits = limits
        self.opened: dict[str, None] = dict.fromkeys(limits.waited_for())  # limits that may have room
        self.undos: dict[str, Undo] = {}  # of plans that are being reverted, and of which nothing stands any more
        self.commit = Commit()
        self.touched: dict[str, PlanRun] = {}
        self.over: list[str] = []  # plans that had ended when they were loaded: to be looked at in this turn alone
        self.asked: set[str] = set()  # plans that were to be loaded for this turn
        self.now = 0
        self.accepting = False  # a new plan's hooks are called once it is known in which state it begins
        self._cache = cache
        self._most = most  # effects a commit
        self._size = 0

    def begin(self, now_ms: int) -> Commit:
        """A turn begins."""
        self.commit = Commit()
        self.touched = {}
        self.now = now_ms
        return self.commit

    def adopt(self, run: PlanRun) -> None:
        """Take a plan that was loaded from Redis."""
        self.plans[run.id] = run
        self._size += run.size
        if run.state[0] in ENDED:
            self.over.append(run.id)
        run.limited = self.limits.table(run.policies)
        if run.ready and run.state[0] == _RUNNING:
            self.eager[run.id] = None

    def forget(self, plan: str) -> None:
        """Drop a plan from memory; it can be loaded again."""
        run = self.plans.pop(plan, None)
        self.undos.pop(plan, None)
        if run is not None:
            self._size -= run.size

    def trim(self) -> None:
        """Drop the plans that were used least lately, when there are too many.

        Never one that has something to do, nor one of this turn: the next turn is likely about it too, and one that is
        larger than all that is to be kept would be read again for each turn.
        """
        for plan in self.over:
            self.forget(plan)
        self.over.clear()
        if self._size <= self._cache:
            return
        for plan in list(self.plans):
            if plan not in self.eager and plan not in self.touched:
                self.forget(plan)
            if self._size <= self._cache:
                return

    def known(self, plan: str) -> PlanRun | None:
        """The plan, to be changed in this turn; None when it is not there, or has ended."""
        run = self.plans.get(plan)
        if run is not None and run.state[0] in ENDED:  # a timer that outlived it, a late event
            return None
        if run is not None:
            self.plans.move_to_end(plan)
            self.touched[plan] = run
        return run

    def move_step(self, run: PlanRun, step: int, event: StepEvent) -> bool:
        """Move a step by the table of its life. False: the event says nothing to the state it is in."""
        suspended = event is StepEvent.CANCELLED and run.state[step + 1] == StepState.SUSPENDED
        if not run.advance(step, event):
            return False
        if suspended:
            self.commit.stop(wake_timer(run.id, step, run.attempt(step)))
        self.commit.count(1)
        if run.ready and run.state[0] == _RUNNING:
            self.eager[run.id] = None
        if self.limits.used and event not in {StepEvent.SUSPENDED, StepEvent.WOKEN, StepEvent.LOST}:
            self._leave_slots(run, step)
        return True

    def move_plan(self, run: PlanRun, event: PlanEvent) -> bool:
        """Move a plan by the table of its life. False: the event says nothing to the state it is in."""
        before = run.plan_state
        after = PLAN_LIFE[before][event]
        if after is None:
            return False
        self.commit.move(run.id, chr(before), chr(after), self.now)
        run.set_plan(after)
        self.commit.announced[run.id] = chr(after)
        self.commit.count(1)
        if after is not PlanState.SUCCEEDED:
            self.history(run, "plan", after.name.lower())
        if run.definition.hooks and not self.accepting:
            self.call_hooks(run)
        return True

    def ask_plan(self, run: PlanRun, event: PlanEvent, what: str, by: str) -> bool:
        """As `move_plan`, and history says who asked for it."""
        if PLAN_LIFE[run.plan_state][event] is None:
            return False
        self.history(run, "asked", what, by)
        return self.move_plan(run, event)

    def keep(self, run: PlanRun) -> None:
        """Its `PlanRecord` has changed."""
        self.touched[run.id] = run
        self.commit.records.setdefault(run.id, {})[PLAN_RECORD] = encode(run.record)
        self.commit.count(20 * len(run.record.followers) + 40)

    def explain(self, plan: str, failure: Failure) -> None:
        """Keep why a plan ended as it did."""
        self.commit.records.setdefault(plan, {})[WHOLE_PLAN] = encode(failure)
        self.commit.count(len(failure.message))

    def refuse(self, plan: str, why: str, *, before: str = "") -> None:
        """It cannot be run at all. `before`: letters of the states that it may be indexed under."""
        commit = self.commit
        commit.move(plan, before, chr(PlanState.REJECTED), self.now)
        commit.announced[plan] = chr(PlanState.REJECTED)
        self.explain(plan, Failure(kind="refused", message=why, final=True))

    def history(self, run: PlanRun, *what: object) -> None:
        """Note for people what happened beyond the success of steps."""
        entry = encode((self.now, *what))
        self.commit.history.setdefault(run.id, []).append(entry)
        self.commit.count(len(entry))

    def tell(self, event: Event) -> None:
        """Put an event into the inbox: for a plan that is perhaps not in memory now."""
        data = encode(event)
        self.commit.told.append(data)
        self.commit.count(len(data))

    def launch(self, launch: Launch) -> None:
        """Submit a plan."""
        self.commit.launched.append(launch)
        self.commit.count(2 * len(launch.definition))

    def call_hooks(self, run: PlanRun) -> None:
        """Start the hooks of the state that the plan is in: each a plan of its own."""
        letter = chr(run.plan_state)
        for hook in run.definition.hooks:
            if letter not in hook.states:
                continue
            policy = run.policies[hook.policy]
            given = decode(hook.input)
            given |= {"plan": run.id, "state": run.plan_state.name.lower()}
            definition = Definition(
                label=policy.action, policies=[policy], total=1, steps=[Step(0, Raw(encode(given)))], labels=["hook"]
            )
            run.record.hooks += 1
            self.keep(run)
            plan = f"{run.id}.hook.{run.record.hooks}-{self.now}"
            meta = encode({"by": f"plan {run.id}", "submitted_ms": self.now})
            self.launch(Launch(plan, encode(definition), meta))

    def policy(self, run: PlanRun, step: int) -> Policy:
        return run.policies[run.steps[step].policy]

    def entry(self, run: PlanRun, step: int) -> tuple[str, bytes]:
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
            total, ok, bad = decode(event[1])
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

    def stand(self, run: PlanRun, step: int, *, first: bool = False) -> None:
        """Put a step that has begun before onto its queue (`first`: to its front)."""
        queue, entry = self.entry(run, step)
        losses = run.kept(step).losses
        where = self.commit.returned if first else self.commit.pushed
        self.commit.push(self.commit.alone if losses >= ALONE_AFTER else where, queue, entry)

    def count_done(self, run: PlanRun, step: int) -> None:
        """An attempt has succeeded."""
        definition = run.steps[step]
        policy = run.policies[definition.policy]
        queue = policy.queue if definition.node is None else f"@{definition.node}"
        done = self.commit.done.get(queue)
        if done is None:
            done = self.commit.done[queue] = {}
        action = policy.action
        done[action] = done.get(action, 0) + 1

    def count_attempt(self, run: PlanRun, step: int, how: str) -> None:
        """An attempt has ended otherwise; `how`: a word of RAN."""
        definition = run.steps[step]
        policy = run.policies[definition.policy]
        queue = policy.queue if definition.node is None else f"@{definition.node}"
        self.commit.ran.append((policy.action, queue, how))

    def wake(self, run: PlanRun, step: int, name: str, data: Raw) -> None:
        """A suspended step goes on: the same action, the next attempt, and why. Of an ending plan only to cancel."""
        if run.plan_state in ENDING and name != "cancel":
            return
        if not self.move_step(run, step, StepEvent.WOKEN):
            return
        record = run.kept(step)
        more = record.more or More()
        more = msgspec.structs.replace(more, woken=more.woken + 1, event=(name, data))
        self.commit.stop(wake_timer(run.id, step, record.attempt))
        run.note(step, msgspec.structs.replace(record, attempt=record.attempt + 1, more=more))
        self.stand(run, step)

    @property
    def full(self) -> bool:
        """The commit has no room for much more."""
        return self.commit.effects >= self._most or self.commit.size >= MAX_SIZE

    @property
    def busy(self) -> bool:
        """The commit has no room for more events: what they have made ready needs some too, up to half of it."""
        needed = min(len(self.eager), self._most // 2)
        return self.commit.effects + needed >= self._most or self.commit.size >= MAX_SIZE

    def _leave_slots(self, run: PlanRun, step: int) -> None:
        slot = f"{run.id}/{step}"
        for name in self.limits.leave(slot):
            self.commit.slots[f"{name} {slot}"] = False
            self.commit.count()
            if self.limits.first(name) is not None:
                self.opened[name] = None

    def limits_of(self, run: PlanRun, step: int) -> tuple[str, ...]:
        """The names of the limits that a step is under."""
        if not run.limited:
            return ()
        definition = run.steps[step]
        names = run.limited[definition.policy]
        return names if definition.node is None else tuple(name for name in names if name.startswith("action:"))

    def leave_lines(self, plan: str) -> None:
        """It waits for no limit any more."""
        for name in self.limits.waited_for():
            if self.limits.waits(name, plan):
                self.leave_line(name, plan)

    def leave_line(self, name: str, plan: str) -> None:
        self.limits.go(name, plan)
        self.commit.limited[f"{name} {plan}"] = None
        self.commit.count()
