"""The threads that take and run steps.

One thread at a time has the lead: it takes. It starts the first step itself, so an idle hop needs no hand-off
between threads, and passes the lead on before it runs it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from chargehand.store.connection import Dialer, Full, Line, Refused, Unavailable
from chargehand.store.keys import Keys
from chargehand.store.membership import Gone
from chargehand.store.work import give_back, take, wait_for_bell
from chargehand.worker.finisher import Finisher
from chargehand.worker.hand import Hand, Held
from chargehand.worker.pace import Paces
from chargehand.worker.running import run_attempt
from chargehand.worker.workshop import Workshop

__all__ = ["Crew", "Standing", "queue_order"]

log = logging.getLogger("chargehand.worker")

_BELL = 1.0  # seconds: a waiting thread looks at its queues so often even if no bell rings


class Standing:
    """As whom this worker takes steps now. It changes when Redis says that the old one is gone."""

    def __init__(self, incarnation: str) -> None:
        self.first = incarnation
        self.incarnation = incarnation
        self.serving = threading.Event()  # registered, and allowed to take
        self.draining = False
        self._times = 0

    def serve(self) -> None:
        """Registered: steps may be taken, unless this worker drains."""
        if not self.draining:
            self.serving.set()

    def drain(self) -> None:
        self.draining = True
        self.serving.clear()

    def renew(self) -> None:
        self.serving.clear()
        self._times += 1
        self.incarnation = f"{self.first}.{self._times}"


def queue_order(queues: Sequence[str] | dict[str, int], draw: random.Random) -> list[str]:
    """The queues in the order to look at them: as written, or drawn by weight without putting back."""
    if not isinstance(queues, dict):
        return list(queues)
    # Efraimidis and Spirakis: the largest u^(1/w) first is a draw by weight.
    return sorted(queues, key=lambda name: draw.random() ** (1 / queues[name]), reverse=True)


class Crew:
    def __init__(
        self,
        *,
        dialer: Dialer,
        keys: Keys,
        hand: Hand,
        finisher: Finisher,
        standing: Standing,
        shop: Workshop,
        queues: Sequence[str] | dict[str, int],
        threads: int,
        compare: Callable[[Line], None],
        gone: Callable[[str], None],
        watch: Callable[[Held], None],
    ) -> None:
        self._dialer = dialer
        self._keys = keys
        self._hand = hand
        self._finisher = finisher
        self._standing = standing
        self._shop = shop
        self._queues = queues
        self._size = threads
        self._compare = compare
        self._gone = gone
        self._watch = watch
        self.lead = threading.Lock()
        self.compare_due = threading.Event()
        self._line: Line | None = None
        self._running = 0
        self._count = threading.Lock()
        self._paces = Paces()
        self._draw = random.Random()

    @property
    def busy(self) -> int:
        return self._running

    def start(self) -> None:
        for number in range(self._size):
            threading.Thread(target=self._work, name=f"step-{number + 1}", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._standing.serving.wait()
            with self.lead:
                held = self._next()
                if held is not None:
                    with self._count:
                        self._running += 1
            if held is not None:
                try:
                    self._run(held)
                finally:
                    with self._count:
                        self._running -= 1

    # -- taking -----------------------------------------------------------------------------------

    def _next(self) -> Held | None:
        """The next step to run; None after a while without one. Called with the lead."""
        held = self._hand.start_next()
        if held is not None:
            return held
        if not self._standing.serving.is_set():
            return None
        if self._hand.alone:
            self._hand.wait_for_less(_BELL)
            return None
        try:
            if self._line is None:
                self._line = self._dialer.line()
                self.compare_due.set()
            if self.compare_due.is_set():
                self.compare_due.clear()
                self._compare(self._line)
                return self._hand.start_next()
            self._take(self._line)
        except Gone as gone:
            self._gone(str(gone))
        except (Unavailable, Full, Refused) as error:
            self._lose_line(error)
        return self._hand.start_next()

    def _take(self, line: Line) -> None:
        queues = queue_order(self._queues, self._draw)
        free = self._size - self._running
        taken = take(
            line,
            self._keys,
            self._standing.incarnation,
            queues,
            free=free,
            prefetch=0 if self._hand.suspect else self._paces.depth(time.monotonic(), self._size),
            idle=not len(self._hand),
        )
        if taken.entries:
            self._hand.add(taken.entries)
            if not self._paces.may_wait((entry.action for _, entry in taken.entries[free:]), time.monotonic()):
                self.give_back(line, leave=free)  # they are for whoever can start them
        elif taken.drain:
            self._hand.wait_for_less(_BELL)
        else:
            wait_for_bell(line, self._keys, queues, _BELL)

    def give_back(self, line: Line, leave: int = 0) -> None:
        """Return what has not started, but for the first `leave` steps."""
        left = self._hand.unstarted(leave)
        if left:
            steps = [(held.queue, held.entry) for held in left if held.queue is not None]
            give_back(line, self._keys, self._standing.incarnation, steps)

    def _lose_line(self, error: Exception) -> None:
        log.debug("taking waits: %s", error)
        if self._line is not None:  # it may be only this connection: a new one is tried at once
            self._line.close()
            self._line = None
        else:
            time.sleep(0.2)  # the heart reports the outage; here it is enough not to spin

    # -- running ----------------------------------------------------------------------------------

    def _run(self, held: Held) -> None:
        entry = held.entry
        incarnation = self._standing.incarnation
        self._watch(held)
        begun = time.monotonic()
        ended = run_attempt(held, self._shop, incarnation)
        now = time.monotonic()
        self._paces.ran(entry.action, now - begun, now)
        if held.lost:
            return
        failure = ended.event.failure
        if failure is not None:
            log.info("step failed: %s %s: %s: %s", entry.key, entry.action, failure.kind, failure.message)
        held.finishing = True
        self._finisher.put(incarnation, ended)
