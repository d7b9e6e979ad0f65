"""Starting the sub-plans of a step: drawn from its items as they are submitted, so there may be any number of them.

Each has an id of its own, the same whenever the step starts it, so a step that is run again after its worker died
goes on where it was. Items must be the same, in the same order, each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from msgspec.structs import replace

from chargehand.actions import Action
from chargehand.context import Cancelled, Misused, Spawn, StepContext
from chargehand.decoding import decode
from chargehand.kinds import Item
from chargehand.plan.life import PlanState
from chargehand.store import submission
from chargehand.store.children import Spawned
from chargehand.store.submission import Prepared
from chargehand.subplans import child_definition
from chargehand.wire import Definition, child_id
from chargehand.worker.ending import Ended, Ending
from chargehand.worker.errands import Errands

__all__ = ["Brood"]

T = TypeVar("T")

_TOGETHER = 100  # sub-plans submitted at once
_SIZE = 256 * 1024  # bytes of them (one alone may be larger)
_ROOM = 0.2  # seconds to wait for room in the inbox


class Brood:
    """The sub-plans that one attempt starts."""

    def __init__(
        self,
        spawn: Spawn,
        *,
        context: StepContext,
        actions: Mapping[str, Action[..., Any]],
        errands: Errands,
        ending: Ending,
        run_code: Callable[[Callable[[], T]], T],
    ) -> None:
        """`run_code` calls the author's code, so that it can be ended."""
        self._spawn = spawn
        self._context = context
        self._actions = actions
        self._errands = errands
        self._ending = ending
        self._run_code: Callable[[Callable[[], Any]], Any] = run_code
        # What an event of its sub-plans makes it start is new; a new try leaves out what has succeeded before.
        self.first = context.generation if context.children is not None else 0
        self.started = 0
        self.skipped = 0
        self.end = 0  # the highest number that may have been submitted + 1

    @property
    def record(self) -> Spawned:
        return Spawned(self.first, self.end, self.skipped)

    def start(self) -> None:
        """Submit all. Raises `Ended`, `Cancelled`, and what the items raise: `end` says what may be there then."""
        now_ms = self._errands.now_ms()
        items: Iterator[tuple[int, Item]] = self._run_code(lambda: iter(enumerate(self._spawn.items)))
        while True:
            some = self._run_code(lambda: list(islice(items, _TOGETHER)))
            if not some:
                return
            fresh = self._without_succeeded(some)
            prepared = self._run_code(partial(self._prepare, fresh, now_ms))
            self.end = some[-1][0] + 1
            for part in _by_size(prepared):
                self._submit(part)
                self.started += len(part)

    def _prepare(self, some: Sequence[tuple[int, Item]], now_ms: int) -> list[Prepared]:
        context = self._context
        prepared = []
        for at, (number, item) in enumerate(some):
            definition = child_definition(
                self._spawn,
                number,
                item,
                context=context,
                actions=self._actions,
                position=self.started + at,
                now_ms=now_ms,
            )
            definition = replace(definition, by=f"plan {context.plan}")
            name = child_id(context.plan, context.step, number, context.generation)
            prepared.append(submission.prepare(name, definition, submitted_ms=int(time.time() * 1000)))
        return prepared

    def _without_succeeded(self, some: list[tuple[int, Item]]) -> list[tuple[int, Item]]:
        """Those that have not succeeded in an earlier generation of this work."""
        context = self._context
        earlier = range(self.first, context.generation)
        if not earlier:
            return some
        ids = [child_id(context.plan, context.step, number, one) for number, _ in some for one in earlier]
        states = iter(self._errands.states(ids))
        left = [one for one in some if PlanState.SUCCEEDED not in list(islice(states, len(earlier)))]
        self.skipped += len(some) - len(left)
        return left

    def _submit(self, some: list[Prepared]) -> None:
        """Until all are submitted: while the inbox is full, whoever fills it waits."""
        while some:
            if self._ending.kind:
                raise Ended
            if self._context.cancelled:
                raise Cancelled("cancelled while it started its sub-plans")
            pairs = list(zip(some, self._errands.submit(some), strict=True))
            self._check_known([one for one, word in pairs if word == "CONFLICT"])
            some = [one for one, word in pairs if word in {"FULL", "INCOMPLETE"}]
            if some:
                time.sleep(_ROOM)

    def _check_known(self, some: list[Prepared]) -> None:
        """An earlier attempt has started these, at another time. Raises `Misused` when they were to do other work."""
        if not some:
            return
        for one, before in zip(some, self._errands.definitions([one.plan for one in some]), strict=True):
            if before is not None and _timeless(before) != _timeless(one.definition):
                raise Misused(
                    f"sub-plan {one.plan} was started by an earlier attempt, with other content: whenever a step runs, "
                    "the items that it gives to spawn(...) must be the same, in the same order"
                )


def _by_size(some: list[Prepared]) -> Iterator[list[Prepared]]:
    part: list[Prepared] = []
    size = 0
    for one in some:
        if part and size + len(one.definition) > _SIZE:
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one.definition)
    if part:
        yield part


def _timeless(definition: bytes) -> Definition:
    return replace(decode(definition, Definition), start_at_ms=0, start_before_ms=0)
