"""What one attempt asks of the place where plans are kept, besides taking and finishing: outputs, and its sub-plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chargehand.plan.life import PlanState
from chargehand.store import submission
from chargehand.store.children import ChildEnd, child_ends, child_states
from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.submission import Prepared
from chargehand.store.work import outputs
from chargehand.worker.reader import Reader

__all__ = ["Errands", "RedisErrands"]


class Errands(Protocol):
    """Every question is answered, however long that takes. Not for two threads at once."""

    def now_ms(self) -> int:
        """Redis' TIME."""
        ...

    def fetch(self, plan: str, fields: Sequence[int | str]) -> list[bytes | None]:
        """Of a plan's outputs."""
        ...

    def states(self, plans: Sequence[str]) -> list[PlanState | None]: ...

    def ends(self, plans: Sequence[tuple[str, PlanState]]) -> list[ChildEnd]: ...

    def submit(self, some: Sequence[Prepared]) -> list[str]:
        """One word a plan: OK, KNOWN, CONFLICT, FULL, INCOMPLETE."""
        ...

    def definitions(self, plans: Sequence[str]) -> list[bytes | None]:
        """As they were submitted, large ones without their steps."""
        ...

    def close(self) -> None: ...


class RedisErrands:
    """`max_inbox`: submissions find the inbox full above it."""

    def __init__(self, reader: Reader, keys: Keys, max_inbox: int) -> None:
        self._reader = reader
        self._keys = keys
        self._max_inbox = max_inbox

    def now_ms(self) -> int:
        return self._reader.ask(submission.now_ms)

    def fetch(self, plan: str, fields: Sequence[int | str]) -> list[bytes | None]:
        return self._reader.ask(lambda line: outputs(line, self._keys, plan, fields))

    def states(self, plans: Sequence[str]) -> list[PlanState | None]:
        return self._reader.ask(lambda line: child_states(line, self._keys, plans))

    def ends(self, plans: Sequence[tuple[str, PlanState]]) -> list[ChildEnd]:
        return self._reader.ask(lambda line: child_ends(line, self._keys, plans))

    def submit(self, some: Sequence[Prepared]) -> list[str]:
        def send(line: Line) -> list[str]:
            for one in some:
                if one.parts:
                    submission.upload(line, self._keys, one)
            return submission.submit(line, self._keys, some, max_inbox=self._max_inbox)

        return self._reader.ask(send)

    def definitions(self, plans: Sequence[str]) -> list[bytes | None]:
        return self._reader.ask(lambda line: line.batch([("LINDEX", self._keys.plan(plan), 0) for plan in plans]))

    def close(self) -> None:
        self._reader.close()
