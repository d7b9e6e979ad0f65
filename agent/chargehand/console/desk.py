"""What every request asks Redis with: a few clients that are kept connected, each for one request at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, LifoQueue

from chargehand.config.settings import Settings
from chargehand.console.submitting import Actions
from chargehand.executors import Executors

__all__ = ["Desk"]

_KEPT = 8  # connected and idle


class Desk:
    """For any thread. Requests run in threads (Starlette's pool), so what they ask may block."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.actions = Actions(settings)
        self._idle: LifoQueue[Executors] = LifoQueue(_KEPT)

    @contextmanager
    def executors(self, who: str = "") -> Iterator[Executors]:
        """Plans of all executors that this node's configuration names. Raises what `Executors` does.

        `who`: whose name stands by what is asked for.
        """
        try:
            one = self._idle.get_nowait()
        except Empty:
            one = Executors(self.settings)
        for name in one.names:
            one.client(name).speak_for(self.spoken(who))
        try:
            yield one
        except BaseException:
            one.close()  # who knows what is under way on its connection
            raise
        if self._idle.full():
            one.close()
        else:
            self._idle.put(one)

    def spoken(self, who: str) -> str:
        """A person's name as plans keep it."""
        return f"{who or 'console'} (console of {self.settings.node.name})"

    def close(self) -> None:
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return
