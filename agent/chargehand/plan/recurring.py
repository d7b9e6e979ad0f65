"""Recurring plans: set, paused, resumed, removed; and their runs, submitted when they are due."""

from __future__ import annotations

import msgspec

from chargehand.decoding import decode
from chargehand.plan.books import Books
from chargehand.plan.commit import Launch
from chargehand.plan.repeat import Repeat
from chargehand.plan.timers import repeat_timer
from chargehand.wire import Recurring, encode

__all__ = ["Repeats"]


class Repeats:
    """Their records are read when an event or a timer names them."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._known: dict[str, Repeat] = {}

    def begin(self, known: dict[str, Repeat]) -> None:
        """A turn begins; the records of those that it is about."""
        self._known = known

    def recur(self, event: Recurring) -> None:
        known = self._known.get(event.name)
        if event.what == "set":
            try:
                found = decode(event.record, Repeat)
                self._store(found.begun(self._books.now))
            except (msgspec.MsgspecError, ValueError):
                return  # the client checks before it sends
        elif known is None:
            return
        elif event.what == "remove":
            self._known.pop(event.name)
            self._books.commit.repeats[event.name] = None
            self._books.commit.stop(repeat_timer(event.name))
            self._books.commit.count()
        elif event.what in {"pause", "resume"}:
            self._store(
                known.paused_at(self._books.now) if event.what == "pause" else known.resumed_at(self._books.now)
            )

    def due(self, name: str) -> None:
        known = self._known.get(name)
        if known is None or known.paused:
            return
        due, after = known.due(self._books.now)
        for at_ms in due:
            plan = known.plan_id(at_ms)
            meta = encode({"by": f"recurring {name}", "submitted_ms": self._books.now})
            self._books.launch(Launch(plan, bytes(known.definition), meta))
        self._store(after)

    def _store(self, record: Repeat) -> None:
        data = encode(record)
        self._known[record.name] = record
        self._books.commit.repeats[record.name] = data
        self._books.commit.count(len(data))
        timer = repeat_timer(record.name)
        if record.next_ms and not record.paused:
            self._books.commit.timers[timer] = record.next_ms
        else:
            self._books.commit.stop(timer)
