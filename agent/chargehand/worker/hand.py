"""What a worker has in hand: steps taken from Redis and not yet finished there.

Redis decides who owns a step; this is the worker's picture of it, compared on each beat.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable

from chargehand.wire import Entry
from chargehand.worker.ending import Ending

__all__ = ["Hand", "Held"]


class Held:
    """One step in hand."""

    __slots__ = (
        "cancelled",
        "ended",
        "ending",
        "entry",
        "finishing",
        "force_at",
        "lost",
        "queue",
        "resting",
        "started",
        "taken",
    )

    def __init__(self, queue: str | None, entry: Entry) -> None:
        self.queue = queue  # where it came from; None: it was found to be ours, we do not know how
        self.entry = entry
        self.taken = time.monotonic()
        self.started: float | None = None  # monotonic
        self.finishing = False  # it has run; its result is on the way
        self.resting = False  # it has asked for a reboot that is under way: nothing is to be waited for here
        self.lost = False  # no longer ours: whatever comes of it is dropped
        self.cancelled = False  # its plan is: it has been asked to end by itself
        self.force_at = math.inf  # monotonic: a cancelled one is ended then
        self.ended = False  # its time was over, and it was told so
        self.ending: Ending | None = None  # how to end what runs

    def end(self, kind: str, reason: str) -> None:
        """End the attempt, if it runs."""
        if self.ending is not None:
            self.ending.end(kind, reason)

    def cancel(self, grace_ms: int) -> bool:
        """Ask it to end by itself within this time, counted from the first asking. False: it was asked before."""
        first = not self.cancelled
        self.cancelled = True
        self.force_at = min(self.force_at, time.monotonic() + grace_ms / 1000)
        if first and self.ending is not None:
            self.ending.ask()
        return first


class Hand:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._less = threading.Condition(self._lock)
        self._held: dict[str, Held] = {}
        self._waiting: deque[Held] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, taken: Iterable[tuple[str | None, Entry]]) -> list[Held]:
        """Those that were not in hand yet."""
        fresh = []
        with self._lock:
            for queue, entry in taken:
                if entry.key not in self._held:
                    held = self._held[entry.key] = Held(queue, entry)
                    self._waiting.append(held)
                    fresh.append(held)
        return fresh

    def start_next(self) -> Held | None:
        """The next step that nobody has started; it counts as started now."""
        with self._lock:
            while self._waiting:
                held = self._waiting.popleft()
                if not held.lost:
                    held.started = time.monotonic()
                    return held
        return None

    def put_down(self, key: str) -> None:
        """Its result is recorded, or was stale."""
        with self._less:
            self._held.pop(key, None)
            self._less.notify_all()

    def unstarted(self, leave: int = 0) -> list[Held]:
        """Take out of hand what has not started and has a queue to go back to, but for the first `leave`."""
        with self._less:
            waiting = [held for held in self._waiting if not held.lost]
            left = [held for held in waiting[leave:] if held.queue is not None]
            self._waiting = deque(held for held in waiting if held not in left)
            for held in left:
                self._held.pop(held.entry.key, None)
            self._less.notify_all()
        return left

    def withdraw(self, held: Held) -> bool:
        """Nobody shall start it: its end is on the way. False: somebody has, or it is not in hand any more."""
        with self._lock:
            if held not in self._waiting or held.lost:
                return False
            self._waiting.remove(held)
            held.finishing = True
        return True

    def lose(self, held: Held) -> bool:
        """It is no longer ours. False: it had left our hand by itself (and may be in it again)."""
        with self._less:
            if self._held.get(held.entry.key) is not held:
                return False
            del self._held[held.entry.key]
            held.lost = True
            self._less.notify_all()
        return True

    def wait_for_less(self, seconds: float) -> None:
        """Return when something has left the hand, or after `seconds`."""
        with self._less:
            self._less.wait(seconds)

    def all(self) -> list[Held]:
        with self._lock:
            return list(self._held.values())

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def resting(self) -> int:
        """How many wait for the node's next boot, which none of this process will see."""
        return sum(held.resting for held in self.all())

    @property
    def suspect(self) -> bool:
        """A step is in hand that was lost with a worker before."""
        with self._lock:
            return any(held.entry.suspect for held in self._held.values())

    @property
    def alone(self) -> bool:
        """A step is in hand that runs with nothing beside it."""
        with self._lock:
            return any(held.entry.extra.alone for held in self._held.values())
