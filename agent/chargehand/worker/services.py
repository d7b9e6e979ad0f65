"""What stands behind the context of an attempt on a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from chargehand.context import SubPlan
from chargehand.decoding import decode
from chargehand.plan.asking import word
from chargehand.plan.life import PlanState
from chargehand.store.children import Spawned, read_spawned
from chargehand.store.reports import Report
from chargehand.wire import child_id, spawned_field
from chargehand.worker.errands import Errands
from chargehand.worker.hand import Held
from chargehand.worker.reporter import Reports

if TYPE_CHECKING:
    from chargehand.worker.workshop import Shop

__all__ = ["AttemptServices"]

_TOGETHER = 100  # sub-plans read at once


class AttemptServices:
    """Of one attempt; what it needs is made when it is needed."""

    __slots__ = ("_errands", "_held", "_plan", "_reports", "_shop", "_step", "spawned")

    def __init__(self, shop: Shop, held: Held, plan: str, step: int) -> None:
        self._shop = shop
        self._held = held
        self._plan = plan
        self._step = step
        self._errands: Errands | None = None
        self._reports: Reports | None = None
        self.spawned: Spawned | None = None  # which sub-plans the step has, as far as it is known

    @property
    def cancelled(self) -> bool:
        return self._held.cancelled

    def progress(self, fraction: float, message: str) -> None:
        self.reports.progress(fraction, message)

    def say(self, text: str) -> None:
        self.reports.say("say", text)

    def results(self, *, failed: bool) -> Iterator[SubPlan]:
        if self.spawned is None:
            self.spawned = self.read_spawned(self.errands.fetch)
        spawned = self.spawned
        if spawned is None:
            return
        generations = range(self._held.entry.extra.generation, spawned.first - 1, -1)
        for first in range(0, spawned.end, _TOGETHER):
            numbers = range(first, min(first + _TOGETHER, spawned.end))
            yield from self._results(numbers, generations, failed=failed)

    def _results(self, numbers: range, generations: range, *, failed: bool) -> list[SubPlan]:
        ids = [child_id(self._plan, self._step, number, one) for number in numbers for one in generations]
        known = iter(zip(ids, self.errands.states(ids), strict=True))
        wanted: list[tuple[int, str, PlanState]] = []
        for number in numbers:
            # Each number counts as what became of it last.
            latest = next(((plan, state) for plan, state in [*islice(known, len(generations))] if state), None)
            if latest is not None and not (failed and latest[1] is PlanState.SUCCEEDED):
                wanted.append((number, *latest))
        ends = self.errands.ends([(plan, state) for _, plan, state in wanted])
        return [
            SubPlan(
                number,
                plan,
                word(state),
                decode(end.result.output) if end.result is not None else None,
                f"{end.error.kind}: {end.error.message}" if end.error is not None else "",
            )
            for (number, plan, state), end in zip(wanted, ends, strict=True)
        ]

    def read_spawned(self, fetch: Callable[[str, Sequence[int | str]], list[bytes | None]]) -> Spawned | None:
        return read_spawned(fetch(self._plan, [spawned_field(self._step)])[0])

    @property
    def reports(self) -> Reports:
        if self._reports is None:
            self._reports = self._shop.reports(self._held.entry.key)
        return self._reports

    @property
    def errands(self) -> Errands:
        """This attempt's own: its code may be ended in the middle of a request."""
        if self._errands is None:
            self._errands = self._shop.errands()
        return self._errands

    def close(self) -> Report | None:
        """The attempt has ended. What it said last."""
        if self._errands is not None:
            self._errands.close()
        return self._shop.last_words(self._reports) if self._reports is not None else None
