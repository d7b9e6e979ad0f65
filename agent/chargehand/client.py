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
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

from chargehand.actions import Action
from chargehand.config.settings import Settings
from chargehand.plan.life import ENDED, PlanState
from chargehand.planner import Plan
from chargehand.store import plans as reading
from chargehand.store import submission
from chargehand.store.connection import Dialer, Full, Line, Unavailable
from chargehand.store.keys import Keys
from chargehand.store.plans import PlanView
from chargehand.store.submission import Prepared
from chargehand.wire import Resumed, Skipped

__all__ = ["Client", "SubmitRefused", "WaitTimeout", "plan_id"]

T = TypeVar("T")

_PERSIST = 30.0  # seconds that a submission is tried again while Redis is away
_REMEMBER = 1_000  # plans
_LOOK = 5.0  # seconds: a waiting client looks at the state so often, whatever it hears


class SubmitRefused(Exception):
    """The executor did not take the plan. The message says why and what to do."""


class WaitTimeout(Exception):
    """The plan did not end in the time given; it goes on."""


def plan_id(executor: str, key: str | None = None) -> str:
    """A new plan id; with an idempotency key, always the same one for that executor and key."""
    if key is None:
        return f"{int(time.time() * 1000):011x}{secrets.token_hex(5)}"
    return "k" + hashlib.sha256(f"{executor}\0{key}".encode()).hexdigest()[:24]


class Client:
    """Not for two threads at once."""

    def __init__(self, settings: Settings, actions: Mapping[str, Action[..., Any]] | None = None) -> None:
        self._settings = settings
        self._actions = actions or {}
        self._dialer = Dialer(settings.redis, settings.executor.name)
        self._keys = Keys(settings.executor.name)
        self._line: Line | None = None
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

    def plan(self, label: str) -> Plan:
        return Plan(label, self._actions)

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
            prepared.append(submission.prepare(name, plan.definition(self._by), submitted_ms=now))
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
            except Unavailable:
                self.close()
                if time.monotonic() > until:
                    raise
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
        """Return the state in which the plan ended or paused. Raises `WaitTimeout`; goes on through outages."""
        until = time.monotonic() + timeout if timeout is not None else None
        while True:
            try:
                return self._wait(plan, until)
            except Unavailable:
                if until is not None and time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def _wait(self, plan: str, until: float | None) -> PlanState:
        line = self._dialer.line()
        ears = self._dialer.line()
        try:
            ears.call("SUBSCRIBE", self._keys.plan_channel(plan))
            while True:
                state = submission.plan_state(line, self._keys, plan)
                if state is not None and (state in ENDED or state is PlanState.PAUSED):
                    return state
                if state is None and plan in self._sent and not submission.exists(line, self._keys, plan):
                    # Redis lost its data since: the same plan again, under the same id.
                    self._send([self._sent[plan]], time.monotonic() + _PERSIST)
                left = _LOOK if until is None else min(_LOOK, until - time.monotonic())
                if left <= 0:
                    raise WaitTimeout(f"plan {plan} has not ended in the time given; it goes on")
                if ears.ready(left):
                    ears.read()
        finally:
            line.close()
            ears.close()

    def read(self, plan: str, *, steps: bool = True) -> PlanView | None:
        """All about a plan; None when there is none of that id."""
        return self._ask(lambda line: reading.read_plan(line, self._keys, plan, steps=steps))

    def list(self, *, state: str | None = None, most: int = 50) -> list[PlanView]:
        return self._ask(lambda line: reading.listing(line, self._keys, state=state, most=most))

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
                for plan in reading.in_state(line, self._keys, state, since_ms, until):
                    view = reading.read_plan(line, self._keys, plan)
                    if view is not None:  # it may have gone meanwhile
                        yield view
        finally:
            line.close()

    def resume(self, plan: str) -> None:
        """Run the failed steps of a paused plan again."""
        submission.ask(self._connected(), self._keys, Resumed(plan, self._by))

    def skip(self, plan: str, steps: Iterable[int]) -> None:
        """Let a paused plan go on without these steps, which failed."""
        submission.ask(self._connected(), self._keys, *(Skipped(plan, step, self._by) for step in steps))

    def output(self, plan: str, step: int = -1) -> Any:
        """The output of a step (default: the last one). Raises `LookupError` when there is none."""
        view = self.read(plan)
        if view is None:
            raise LookupError(f"there is no plan {plan}")
        result = view.steps[step].result
        if result is None:
            raise LookupError(f"step {step} of plan {plan} has no output (it is {view.steps[step].state})")
        import msgspec  # noqa: PLC0415 - small, and only here

        return msgspec.json.decode(result.output)

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
