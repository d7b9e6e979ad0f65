"""What the actions of `counted_actions` have noted, and what must stand in Redis when all is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from support.faults import nothing_left
from support.programs import until, written

__all__ = ["Log", "Note", "nothing_held"]


class Note(NamedTuple):
    """A start or an end."""

    starts: bool
    text: str
    at: float  # Unix time


class Log:
    """The file that actions write to; `path` is what they are given."""

    def __init__(self, path: Path) -> None:
        self.file = path
        self.path = str(path)

    @property
    def notes(self) -> list[Note]:
        """In order."""
        return [Note(word[0] == "+", word[1:], float(at)) for word, at in map(str.split, written(self.file))]

    @property
    def started(self) -> list[str]:
        return [note.text for note in self.notes if note.starts]

    @property
    def words(self) -> list[str]:
        """`+TEXT` and `-TEXT`, in order."""
        return [f"{'+' if note.starts else '-'}{note.text}" for note in self.notes]

    def most(self, among: Callable[[str], bool] = lambda _: True) -> int:
        """The most that were there at once."""
        there = most = 0
        for note in self.notes:
            if among(note.text):
                there += 1 if note.starts else -1
                most = max(most, there)
        return most

    def until_started(self, count: int) -> None:
        until(f"{count} have started", lambda: len(self.started) >= count, timeout=60)

    def once_each(self, texts: Iterable[str]) -> None:
        """Each of these started once and ended once, and nothing else did."""
        wanted = sorted(texts)
        assert sorted(self.started) == wanted
        assert sorted(note.text for note in self.notes if not note.starts) == wanted


def nothing_held(line: Line, keys: Keys, *queues: str, ended: Iterable[str] = ()) -> None:
    """As `nothing_left`; and nobody holds or waits for a lock or for room, nothing is being ended, no timer runs.

    `ended`: plans that were halted or cancelled with steps on queues, which stay marked.
    """
    for queue in queues or ("default",):
        nothing_left(line, keys, queue=queue)
    for name, command, key in (
        ("lock", "ZCARD", keys.locks),
        ("slot of a limit", "SCARD", keys.slots),
        ("plan waiting for room", "ZCARD", keys.limited),
    ):
        assert line.call(command, key) == 0, f"a {name} is left"
    assert {plan.decode() for plan in line.call("HKEYS", keys.stopped)} <= set(ended), "a plan is being ended"
    until("no timer is left", lambda: line.call("ZCARD", keys.timers) == 0)
