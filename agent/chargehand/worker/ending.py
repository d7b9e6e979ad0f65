"""How a running attempt is ended from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Ended", "Ending"]


class Ended(BaseException):
    """Raised inside an action's code when its attempt is ended; no `Exception`, so that code does not swallow it."""


class Ending:
    """Of one attempt: it is asked to end by itself once at most, and ended once at most, while its code runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._how: Callable[[], None] | None = None
        self._polite: Callable[[], None] | None = None
        self.asked = False
        self.kind = ""  # of the failure that it ends with; empty: it has not been ended
        self.reason = ""

    def by(self, how: Callable[[], None] | None, polite: Callable[[], None] | None = None) -> None:
        """Say how to end what runs now, and how to ask it to end (None: it looks by itself).

        `how` of None: nothing runs any more. Raises `Ended` when it was ended already.
        """
        with self._lock:
            self._how, self._polite = how, polite
            if how is None:
                return
            if self.kind:
                raise Ended
            if self.asked and polite is not None:
                polite()

    def ask(self) -> None:
        with self._lock:
            if not self.asked:
                self.asked = True
                if self._polite is not None:
                    self._polite()

    def end(self, kind: str, reason: str) -> None:
        with self._lock:
            if self.kind:
                return
            self.kind, self.reason = kind, reason
            if self._how is not None:
                self._how()
