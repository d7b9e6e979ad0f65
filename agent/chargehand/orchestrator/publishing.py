"""What the active orchestrator tells everybody once a second: how busy the executor is, and what it has counted."""

from __future__ import annotations

from chargehand.orchestrator.tally import Tally
from chargehand.store.connection import Line
from chargehand.store.counting import MINUTE_MS, old_minutes, read_kept, submitted, write_page
from chargehand.store.keys import Keys
from chargehand.store.load import measure

__all__ = ["Publisher"]


class Publisher:
    """Of one reign. The counts go on from what its predecessor wrote."""

    def __init__(self, line: Line, keys: Keys, token: str, tally: Tally) -> None:
        self._line = line
        self._keys = keys
        self._token = token
        self._tally = tally
        self._minute = 0

    def publish(self, now: float, now_ms: int, *, busy: int) -> None:
        """`now`: boot time; `now_ms`: Redis' TIME. `busy`: percent of the orchestrator's time.

        Raises `Full`: it is written the next time.
        """
        line, keys, tally = self._line, self._keys, self._tally
        minute = now_ms - now_ms % MINUTE_MS
        if not tally.begun:
            tally.begin(minute, read_kept(line, keys, minute))
        old = old_minutes(line, keys, minute) if minute != self._minute else []
        load, held = measure(line, keys, share=busy, also=tally.queues)
        page = tally.page(now, now_ms, busy=busy, submitted=submitted(line, keys, tally.closed), held=held)
        page = page._replace(gone_minutes=old)
        write_page(line, keys, self._token, load, page)
        tally.written(page)
        self._minute = minute
