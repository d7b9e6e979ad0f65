"""What stands behind an attempt of the in-process executor, in place of a worker."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chargehand.actions import Action
from chargehand.commands import CommandAction
from chargehand.context import StepContext
from chargehand.decoding import decode
from chargehand.plan.life import ENDED, PlanState, StepState
from chargehand.signature import Signature
from chargehand.store.children import ChildEnd
from chargehand.store.reports import Report
from chargehand.store.submission import Prepared
from chargehand.testing.memory import Memory
from chargehand.wire import WHOLE_PLAN, Failure, Result
from chargehand.worker.command import CommandFailed
from chargehand.worker.ending import Ending
from chargehand.worker.reporter import Reports

__all__ = ["Bench", "Stub"]

_loop: list[asyncio.AbstractEventLoop] = []
_loop_lock = threading.Lock()


class Bench:
    """One node's. Everything happens at once, so nothing waits and nothing is unavailable."""

    def __init__(self, memory: Memory, actions: Mapping[str, Action[..., Any]], node: str, *, privileged: bool) -> None:
        self._memory = memory
        self.actions = actions
        self.node = node
        self.privileged = privileged

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """One for all executors of this process, on a thread of its own: a test may run on a loop itself."""
        with _loop_lock:
            if not _loop:
                _loop.append(asyncio.new_event_loop())
                threading.Thread(target=_loop[0].run_forever, name="chargehand-testing", daemon=True).start()
            return _loop[0]

    def fetch(self, plan: str, fields: Sequence[int | str]) -> list[bytes | None]:
        return self._memory.fetch(plan, fields)

    def errands(self) -> Bench:
        return self

    def now_ms(self) -> int:
        return self._memory.now_ms

    def states(self, plans: Sequence[str]) -> list[PlanState | None]:
        return [self._memory.plan_state(plan) for plan in plans]

    def ends(self, plans: Sequence[tuple[str, PlanState]]) -> list[ChildEnd]:
        return [self._end(plan, state) for plan, state in plans]

    def _end(self, plan: str, state: PlanState) -> ChildEnd:
        last = self._memory.definitions[plan].total - 1
        (found,) = self._memory.fetch(plan, [last])
        result = decode(found, Result) if found is not None else None
        badly = state in ENDED and state is not PlanState.SUCCEEDED
        return ChildEnd(plan, state, result, first_failure(self._memory, plan) if badly else None)

    def submit(self, some: Sequence[Prepared]) -> list[str]:
        return [self._memory.submit(one) for one in some]

    def definitions(self, plans: Sequence[str]) -> list[bytes | None]:
        return [self._memory.submitted(plan) for plan in plans]

    def close(self) -> None:
        """Of errands: nothing is open."""

    def reports(self, key: str) -> Reports:
        return Reports(key, lambda reports: self._memory.report(reports.take()))

    def last_words(self, reports: Reports) -> Report | None:
        return reports.take(last=True)

    def run_command(
        self,
        command: CommandAction,
        inputs: dict[str, Any],
        variables: dict[str, str],  # noqa: ARG002 - as a worker is asked
        ending: Ending,  # noqa: ARG002
        tell: Callable[[str, str], None],  # noqa: ARG002
    ) -> dict[str, Any]:
        argv = command.argv(inputs)
        raise CommandFailed(
            "not run",
            f"no command is run here ({argv}); say what it gives: "
            f'Executor(instead={{"{command.name}": {{"exit": 0, "stdout": "", "stderr": ""}}}})',
        )


def first_failure(memory: Memory, plan: str) -> Failure | None:
    """Why a plan is not well: of the whole, or of the first step with an error that did not get over it."""
    whole = memory.failure(plan, WHOLE_PLAN)
    if whole is not None:
        return whole
    for step in sorted(memory.records.get(plan, {})):
        if step >= 0 and memory.step_state(plan, step) not in {StepState.SUCCEEDED, StepState.SKIPPED}:
            failure = memory.failure(plan, step)
            if failure is not None:
                return failure
    return None


class Stub(Action[..., Any]):
    """An action of which something else runs: its options, inputs and later phases are its own."""

    def __init__(self, original: Action[..., Any], instead: Any) -> None:
        self._original = original
        self._instead = instead if callable(instead) else lambda **_: instead
        self.function = original.function
        self.name = original.name
        self.options = original.options
        self.policy = original.policy

    @property
    def plans(self) -> bool:
        return False

    @property
    def run_signature(self) -> Signature:
        return self._original.run_signature

    def phase(self, name: str) -> Action[..., Any] | None:
        return self._original.phase(name)

    def awaits(self, context: StepContext) -> bool:  # noqa: ARG002 - whatever it does
        return inspect.iscoroutinefunction(self._instead)

    def _code(self, inputs: dict[str, Any], context: StepContext) -> Callable[[], Any]:
        original = self._original
        command = isinstance(original, CommandAction)
        context.inputs = arguments = (
            original.check(inputs, unknown_yet=lambda _: False) if command else original.run_signature.typed(inputs)
        )
        wanted = Signature(f"what runs instead of {self.name!r}", self._instead).pick(arguments)
        return lambda: self._instead(**wanted)
