"""Reading and submitting for a step: it cannot go on without an answer, so it waits through outages."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from chargehand.store.connection import Dialer, Full, Line, Unavailable

__all__ = ["Reader"]

log = logging.getLogger("chargehand.worker")

T = TypeVar("T")

_AGAIN = 0.2  # seconds between tries while Redis is away


class Reader:
    """A connection that is made when it is needed. Not for two threads at once."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._line: Line | None = None

    def ask(self, question: Callable[[Line], T]) -> T:
        """Ask until there is an answer, so it must bear being asked twice. Raises `Refused`."""
        while True:
            try:
                if self._line is None:
                    self._line = self._dialer.line()
                return question(self._line)
            except (Unavailable, Full) as error:
                log.debug("a step waits for Redis: %s", error)
                self.close()
            except BaseException:
                self.close()  # the step is ended: what was asked is not read any more
                raise
            time.sleep(_AGAIN)

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
