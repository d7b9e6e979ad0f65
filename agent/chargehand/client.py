"""Submitting plans and waiting for them, from Python.

    with Client(settings) as client:
        plan = client.plan("nightly")
        plan.add(patch, host="db-1")
        run = client.submit(plan)
        print(client.wait(run))

What is waited for is the plan's state in Redis, whichever orchestrator brings it about. A request that was not
answered is made again under the same plan id, which is the same plan.
"""

from __future__ import annotations

import getpass
import hashlib
import math
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from chargehand import why
from chargehand.actions import Action
from chargehand.config.quantities import parse_rate
from chargehand.config.settings import Settings
from chargehand.decoding import decode
from chargehand.plan.life import ENDED, PlanState
from chargehand.plan.limits import Limit
from chargehand.planner import Plan
from chargehand.requests import NotPossible, Requests, no_plan
from chargehand.store import evidence, searching, submission
from chargehand.store import plans as reading
from chargehand.store.census import Census, take_census
from chargehand.store.connection import Dialer, Full, Line, Unavailable, Unconfirmed
from chargehand.store.history import Moment, read_history
from chargehand.store.keys import Keys
from chargehand.store.moves import Moves
from chargehand.store.plans import PlanView, ResultView
from chargehand.store.queues import QueueView, read_queues
from chargehand.store.searching import Wanted
from chargehand.store.stats import Stats, Trouble, read_stats
from chargehand.store.submission import Prepared
from chargehand.store.subplans import ChildrenView, read_children
from chargehand.store.troubles import read_troubles
from chargehand.store.watching import LOOK, SAID, Change, Follower
from chargehand.why import Answer
from chargehand.wire import Definition

__all__ = ["Client", "NotPossible", "SubmitRefused", "WaitTimeout", "hear", "plan_id", "time_left"]

T = TypeVar("T")

_LOOK_EVERY = 5.0  # seconds: one who waits looks at the plan's state so often, whatever is heard

_BEGINNINGS = 11  # plans that are told of when several begin as somebody wrote
_ENDED_WORDS = frozenset(reading.PLAN_WORDS[state] for state in ENDED)
_DECIDING = 0.05  # seconds: not every decision is told on the plan's channel
_PERSIST = 30.0  # seconds that a submission is tried again while Redis is away
_REMEMBER = 1_000  # plans


class SubmitRefused(Exception):
    """The executor did not take the plan. The message says why and what to do."""


class WaitTimeout(Exception):
    """The plan did not end in the time given; it goes on."""


def plan_id(executor: str, key: str | None = None) -> str:
    """A new plan id; with an idempotency key, always the same one for that executor and key."""
    if key is None:
        return f"{int(time.time() * 1000):011x}{secrets.token_hex(5)}"
    return "k" + hashlib.sha256(f"{executor}\0{key}".encode()).hexdigest()[:24]


class Client(Requests):
    """Not for two threads at once."""

    def __init__(self, settings: Settings, actions: Mapping[str, Action[..., Any]] | None = None) -> None:
        self._settings = settings
        self._actions = actions or {}
        self._dialer = Dialer(settings.redis, settings.executor.name)
        self._keys = Keys(settings.executor.name)
        self._line: Line | None = None
        self._asked = {}
        self._sent: dict[str, Prepared] = {}  # the latest, should Redis lose them while we wait
        self._by = f"{getpass.getuser()}@{socket.gethostname()}"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def plan(self, label: str, **options: Any) -> Plan:
        """A plan to be filled; the options are those of `Plan`."""
        return Plan(label, self._actions, **options)

    def definition(self, plan: Plan) -> Definition:
        """A plan as it travels. Times from now on count by Redis' clock, as they are waited for by it."""
        from_now = any(isinstance(one, int | float | str) for one in (plan.start_at, plan.start_before))
        return plan.definition(self._by, now_ms=self._ask(submission.now_ms) if from_now else None)

    def submit(self, plan: Plan, *, key: str | None = None) -> str:
        """Submit and return the plan id. Raises `SubmitRefused`, `Unavailable`."""
        return self.submit_all([plan], keys=[key])[0]

    def submit_all(self, plans: Iterable[Plan], *, keys: Iterable[str | None] = ()) -> list[str]:
        """Submit many plans in few round trips; each is accepted or refused by itself, the first refusal is raised."""
        now = int(time.time() * 1000)
        wanted = list(keys)
        prepared: list[Prepared] = []
        for index, plan in enumerate(plans):
            key = wanted[index] if index < len(wanted) else None
            name = plan_id(self._settings.executor.name, key)
            prepared.append(submission.prepare(name, self.definition(plan), submitted_ms=now))
        until = time.monotonic() + _PERSIST
        for at in range(0, len(prepared), 100):
            self._send(prepared[at : at + 100], until)
        self._sent.update((one.plan, one) for one in prepared[-_REMEMBER:])
        while len(self._sent) > _REMEMBER:
            del self._sent[next(iter(self._sent))]
        return [one.plan for one in prepared]

    def _send(self, some: list[Prepared], until: float) -> None:
        while True:
            try:
                line = self._connected()
                for one in some:
                    if one.parts:
                        submission.upload(line, self._keys, one)
                words = submission.submit(line, self._keys, some, max_inbox=self._settings.orchestrator.max_inbox)
                break
            except Unavailable as error:
                self.close()
                if time.monotonic() > until:
                    raise _lasting(error, some) from error
                time.sleep(0.2)  # Redis is away; the same ids again are the same plans
            except Full as full:
                raise SubmitRefused(f"{full}: it takes new plans again when there is room") from full
        for one, word in zip(some, words, strict=True):
            if word == "CONFLICT":
                raise SubmitRefused(f"plan {one.plan} exists with other content: use another --key")
            if word == "FULL":
                most = self._settings.orchestrator.max_inbox
                raise SubmitRefused(
                    f"the inbox holds {most:,} events that no orchestrator has dealt with: "
                    "is one active? (chargehand status)"
                )
            if word == "INCOMPLETE":
                raise SubmitRefused(f"plan {one.plan}: its parts expired before it was submitted; submit it again")

    def wait(self, plan: str, timeout: float | None = None) -> PlanState:
        """Return the state in which the plan ended or paused. Raises `WaitTimeout`; goes on through outages.

        Paused is what it still is when all is decided that anybody had asked for by then: whoever waits for a plan that
        was just resumed, here or elsewhere, does not hear of the pause before.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._wait(plan, until)
            except Unavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def _wait(self, plan: str, until: float) -> PlanState:
        with self._listening(plan) as ears:
            while True:
                state = self.look(plan)
                if state is not None:
                    return state
                hear(ears, min(self.patience(plan), time_left(plan, until)), state_only=True)

    def decided(self, plan: str, timeout: float) -> bool:
        """Wait until the orchestrator has decided on what this client asked of a plan. False: it has not, in that time.

        timeout: seconds. Raises `Unavailable`.
        """
        if plan not in self._asked:
            return True
        until = time.monotonic() + timeout
        with self._listening(plan) as ears:
            while self._undecided(plan):
                left = until - time.monotonic()
                if left <= 0:
                    return False
                hear(ears, min(_DECIDING, left), state_only=True)
        return True

    def look(self, plan: str) -> PlanState | None:
        """The state in which a plan has ended or is paused; None: it goes on. Submits again what Redis has lost."""
        awaited = plan in self._asked
        undecided = self._undecided(plan)  # before the state is read: what was decided shows in it
        state = self._ask(lambda line: submission.plan_state(line, self._keys, plan))
        if state is PlanState.PAUSED:
            if undecided:
                return None
            latest = None if awaited else self._ask(lambda line: submission.latest(line, self._keys))
            if latest is not None:  # somebody may have asked for something
                self._decide_first(plan, latest)
                return self.look(plan)
        if state is None and not self._ask(lambda line: submission.exists(line, self._keys, plan)):
            self._again(plan)
        return state if state in ENDED or state is PlanState.PAUSED else None

    def patience(self, plan: str) -> float:
        """Seconds until one who waits looks at a plan again, when nothing is heard of it."""
        return _DECIDING if plan in self._asked else _LOOK_EVERY

    def _again(self, plan: str) -> bool:
        """Submit a plan of ours once more, under the same id. False: it is not ours."""
        if plan not in self._sent:
            return False
        self._send([self._sent[plan]], time.monotonic() + _PERSIST)
        return True

    def watch(self, plan: str, *, past: int | None = None, timeout: float | None = None) -> Iterator[Change]:
        """What happens to a plan and what its steps say, as it happens, until it has ended or is paused.

        past: how much of what was said before to begin with; None: all that is kept (the last 10,000 messages or so).
        Goes on through outages and failovers. Raises `NotPossible` when there is no such plan, `WaitTimeout`.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        follower = self.follower(plan, past=past)
        while not follower.over:
            try:
                with self._listening(plan) as ears:
                    while not follower.over:
                        yield from self.news(follower)
                        if not follower.over and not follower.behind:
                            hear(ears, min(LOOK, time_left(plan, until)), state_only=False)
            except Unavailable:
                time.sleep(min(0.2, time_left(plan, until)))

    def follower(self, plan: str, *, past: int | None = None) -> Follower:
        """Where one who watches a plan stands, for `news`."""
        return Follower(self._keys, plan, past=past)

    def news(self, follower: Follower) -> list[Change]:
        """What has happened since a follower asked last. Raises `NotPossible` when there is no such plan."""
        changes = list(follower.changes(self._ask(lambda line: line.batch(follower.questions()))))
        if not follower.exists and not self._again(follower.plan):
            raise NotPossible(no_plan(follower.plan))
        return changes

    @contextmanager
    def _listening(self, plan: str) -> Iterator[Line]:
        ears = self._dialer.line()
        try:
            ears.call("SUBSCRIBE", self._keys.plan_channel(plan))
            yield ears
        finally:
            ears.close()

    def children(
        self, plan: str, step: int, *, state: str | None = None, first: int = 0, most: int = 100
    ) -> ChildrenView:
        """The sub-plans of a step: how many are in which state, and those in `state` from the `first`-th on.

        For each item that the step started a sub-plan for, the latest one. Raises `NotPossible`.
        """
        if self.read(plan, steps=False) is None:
            raise NotPossible(no_plan(plan))
        return self._ask(lambda line: read_children(line, self._keys, plan, step, state=state, first=first, most=most))

    def read(self, plan: str, *, steps: bool = True, results: bool = True) -> PlanView | None:
        """All about a plan; None when there is none of that id. With its steps it says what holds it up.

        results: False: without what its steps have left (see `results`), which may be much.
        """
        view = self._ask(lambda line: reading.read_plan(line, self._keys, plan, steps=steps, results=results))
        if view is not None and steps and view.state not in _ENDED_WORDS:
            found = self._ask(lambda line: evidence.gather(line, self._keys, view, far=0))
            view.waits = why.reasons(found) if found is not None else []
        return view

    def results(self, plan: str, steps: Iterable[int]) -> dict[int, ResultView]:
        """What these steps have left: of those that have succeeded."""
        return self._ask(lambda line: reading.read_results(line, self._keys, plan, list(steps)))

    def why(self, plan: str, view: PlanView | None = None) -> Answer:
        """Where a plan stands and why it does not go on. `plan`: its id, or the beginning of one that no other has.

        view: the plan with its steps as it was read a moment ago, so that it need not be read again.
        It never raises `Unavailable`: the answer then says that Redis cannot be reached.
        """
        try:
            return self._ask(lambda line: self._why(line, plan, view))
        except Unavailable as error:
            return why.unreachable(plan, str(error))

    def _why(self, line: Line, plan: str, view: PlanView | None = None) -> Answer:
        settings = self._settings
        view = view or reading.read_plan(line, self._keys, plan, results=False)
        if view is None:
            elsewhere = evidence.look_elsewhere(line, self._keys, plan)
            answer = why.nowhere(plan, elsewhere, settings.executor.name)
            if answer.causes[0].kind != "no-plan":
                return answer
            found = evidence.beginning(line, self._keys, plan, _BEGINNINGS)
            if len(found) != 1:
                return why.several(plan, found) if found else answer
            view = reading.read_plan(line, self._keys, found[0], results=False)
            if view is None:
                return answer
        units = [
            (f"chargehand-worker@{group.name}.service", list(group.queues)) for group in settings.worker if group.unit
        ]
        seen = evidence.gather(line, self._keys, view, min_replicas=settings.redis.min_replicas, units=units)
        return why.explain(seen) if seen is not None else self._why(line, plan)

    def search(
        self,
        *,
        state: str | Iterable[str] | None = None,
        action: str = "",
        labels: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        most: int = 50,
        children: bool = False,
        by: str = "",
        text: str = "",
        longer_than: float | None = None,
        oldest_first: bool = False,
    ) -> list[PlanView]:
        """Plans that meet all of it, at most `most`, without their steps.

        state: a word, as in a view, or several. action: what was asked for. labels: all of them. since, until: of the
        submission, with their time zone. by: in the name of who submitted it. text: in the label or one of the labels.
        longer_than: in its state for so many seconds. Of an action or a label, the latest submissions come first; else
        those under way, then those that ended, each by when they came into their state; the other way round with
        `oldest_first`. Sub-plans are left out unless `children`.
        """
        words = None if state is None else {state} if isinstance(state, str) else set(state)
        states = words if words is None else frozenset(one for one in PlanState if reading.PLAN_WORDS[one] in words)
        before = None if longer_than is None else self._ask(submission.now_ms) - round(longer_than * 1000)
        wanted = Wanted(
            states,
            action,
            tuple(labels),
            0 if since is None else int(since.timestamp() * 1000),
            None if until is None else int(until.timestamp() * 1000),
            children,
            by,
            text,
            before,
            oldest_first,
            words is not None and "submitted" in words,
        )
        return self._ask(lambda line: list(islice(searching.search(line, self._keys, wanted), most)))

    def export(
        self, states: Iterable[PlanState], *, since_ms: int = 0, until_ms: int | None = None
    ) -> Iterator[PlanView]:
        """Whole plans that entered one of these states within these times, the oldest of each state first.

        Times are ms of Redis' TIME. Raises `Unavailable`: what came before that is whole.
        """
        line = self._dialer.line()
        try:
            for state in states:
                until = until_ms if until_ms is not None else int(time.time() * 1000) + 60_000
                for plan in searching.in_state(line, self._keys, state, since_ms, until):
                    view = reading.read_plan(line, self._keys, plan)
                    if view is not None:  # it may have gone meanwhile
                        yield view
        finally:
            line.close()

    def moves(self) -> Moves:
        """Where one who follows all plans from now on stands, for `moved`."""
        return Moves(self._ask(submission.now_ms))

    def moved(self, moves: Moves) -> list[PlanView]:
        """Plans that have come into another state since it was asked last, without their steps, in their order."""
        found = moves.moves(self._ask(lambda line: line.batch(moves.questions(self._keys))))
        plans = list(dict.fromkeys(move.plan for move in found))
        heads = {view.plan: view for view in self._ask(lambda line: reading.read_heads(line, self._keys, plans))}
        return [
            msgspec.structs.replace(heads[move.plan], state=move.state, since_ms=move.ms)
            for move in found
            if move.plan in heads
        ]

    def census(self) -> Census:
        """Who is there now: members, lease, queues."""
        return self._ask(lambda line: take_census(line, self._keys, self._settings.executor.name))

    def stats(self, census: Census | None = None) -> Stats:
        """What the executor does: of the last 60 minutes, its queues, its actions. Statistics, not accounting.

        `census`: one that was just taken.
        """
        seen = census or self.census()
        return self._ask(lambda line: read_stats(line, self._keys, seen))

    def queues(self, *names: str, most: int = 1) -> list[QueueView]:
        """These queues from near, or all that are known: each with its first `most` steps, its workers, its limit."""
        census = self.census()
        limits = {
            one.name: Limit(one.limit or 0, *(parse_rate(one.rate) if one.rate else (0, 0)))
            for one in self._settings.queue
        }
        wanted = names or tuple(census.queues)
        return self._ask(lambda line: read_queues(line, self._keys, census, limits, wanted, most))

    def troubles(self, most: int = 200) -> list[Trouble]:
        """The failures of the newest `most` plans that are paused, failed or rejected, by cause, the latest first."""
        return self._ask(lambda line: read_troubles(line, self._keys, most))

    def history(self, plan: str) -> Sequence[Moment]:
        """What happened to a plan, in order. Raises `NotPossible` when there is no such plan."""
        found = self._ask(lambda line: read_history(line, self._keys, plan))
        if found is None:
            raise NotPossible(no_plan(plan))
        return found

    def output(self, plan: str, step: int = -1) -> Any:
        """The output of a step (default: the last one). Raises `LookupError` when there is none."""
        view = self.read(plan)
        if view is None:
            raise LookupError(f"there is no plan {plan}")
        result = view.steps[step].result
        if result is None:
            raise LookupError(f"step {step} of plan {plan} has no output (it is {view.steps[step].state})")
        return decode(result.output)

    def list(self, *, state: str | None = None, most: int = 50, children: bool = False) -> list[PlanView]:
        """The newest plans: those under way first, then those that ended; in one state (a word, as in a view) only.

        Sub-plans are left out unless `children`.
        """
        return self.search(state=state, most=most, children=children)

    def _ask(self, question: Callable[[Line], T]) -> T:
        """Ask; once more on a new connection when the one we had has ended since."""
        if self._line is not None:
            try:
                return question(self._line)
            except Unavailable:
                self.close()
        return question(self._connected())

    def _connected(self) -> Line:
        if self._line is None:
            self._line = self._dialer.line()
        return self._line


def time_left(plan: str, until: float) -> float:
    """Seconds that are left of the time given. Raises `WaitTimeout` when none are."""
    left = until - time.monotonic()
    if left <= 0:
        raise WaitTimeout(f"plan {plan} has not ended in the time given; it goes on")
    return left


def hear(ears: Line, seconds: float, *, state_only: bool) -> None:
    """Return when there is news of the plan that `ears` listens to, or after that time."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and ears.ready(left):
        if ears.read()[2] != SAID or not state_only:
            return


def _lasting(error: Unavailable, plans: list[Prepared]) -> Unavailable:
    """The same, for whoever has waited long enough; of plans that may run all the same, which they are."""
    if not isinstance(error, Unconfirmed):
        return error
    which = f"plan {plans[0].plan}" + (f" and {len(plans) - 1} more" if len(plans) > 1 else "")
    return Unconfirmed(f"{error} have {which}: a failover would lose it; submit it again, under the same key")
