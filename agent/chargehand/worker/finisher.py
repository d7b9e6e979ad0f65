"""Sending results. Whoever has one and finds nobody sending sends all that there are.

When idle that is one result in one round trip on the thread that has it; under load results gather while a
batch is on its way. A result stays here until Redis has answered: an unanswered one is sent again, and the
second time is stale or recorded, never both. What an attempt said last is told before its result, for then it
still is this worker's to tell.
"""

from __future__ import annotations

import logging
import threading

from chargehand.store.connection import Dialer, Full, Line, Refused, Unavailable
from chargehand.store.keys import Keys
from chargehand.store.reports import report
from chargehand.store.work import Finish, finish
from chargehand.worker.hand import Hand

__all__ = ["Finisher"]

log = logging.getLogger("chargehand.worker")

_BATCH = 100  # results
_SIZE = 256 * 1024  # bytes of results in one batch (one result alone may be larger)


class Finisher:
    def __init__(self, dialer: Dialer, keys: Keys, hand: Hand) -> None:
        self._dialer = dialer
        self._keys = keys
        self._hand = hand
        self._line: Line | None = None
        self._lock = threading.Lock()  # the buffer
        self._sending = threading.Lock()  # one batch at a time
        self._buffer: list[tuple[str, Finish]] = []  # (incarnation it was taken by, result)

    @property
    def left(self) -> int:
        return len(self._buffer)

    def put(self, incarnation: str, one: Finish) -> None:
        with self._lock:
            self._buffer.append((incarnation, one))
        self.flush()

    def flush(self) -> bool:
        """Send what there is, unless somebody else is at it. False: Redis did not take it; call again later."""
        # After letting go of `_sending`, look again: one may have been put in by a thread that found it taken.
        while self._buffer:
            if not self._sending.acquire(blocking=False):
                return True
            try:
                self._send()
            except (Unavailable, Full, Refused) as error:
                log.debug("results wait: %s", error)
                if self._line is not None:
                    self._line.close()
                    self._line = None
                return False
            finally:
                self._sending.release()
        return True

    def _send(self) -> None:
        with self._lock:
            incarnation = self._buffer[0][0]
            batch: list[Finish] = []
            size = 0
            for owner, one in self._buffer[:_BATCH]:
                if owner != incarnation or (batch and size + one.size > _SIZE):
                    break
                batch.append(one)
                size += one.size
        if self._line is None:
            self._line = self._dialer.line()
        said = [one.report for one in batch if one.report is not None]
        if said:
            try:
                report(self._line, self._keys, incarnation, said)
            except (Full, Refused) as error:  # the result counts more
                log.debug("not told: %s", error)
        recorded = finish(self._line, self._keys, incarnation, batch)
        with self._lock:
            del self._buffer[: len(batch)]
        for one, fresh in zip(batch, recorded, strict=True):
            self._hand.put_down(one.key)
            if not fresh:
                log.warning("stale: the result of %s is not ours to give any more", one.key)
