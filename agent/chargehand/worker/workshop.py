"""What a worker has for its attempts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from chargehand.actions import Action
from chargehand.store.connection import Dialer
from chargehand.store.keys import Keys
from chargehand.store.work import outputs
from chargehand.worker.command import Runner
from chargehand.worker.reader import Reader
from chargehand.worker.reporter import Reporter

__all__ = ["Workshop"]


class Workshop:
    """Thread-safe."""

    def __init__(
        self,
        *,
        dialer: Dialer,
        keys: Keys,
        actions: Mapping[str, Action[..., Any]],
        runner: Runner,
        reporter: Reporter,
        node: str,
        privileged: bool,
        max_inbox: int,
    ) -> None:
        """`privileged`: this worker runs privileged actions and no others."""
        self.dialer = dialer
        self.keys = keys
        self.actions = actions
        self.runner = runner
        self.reporter = reporter
        self.node = node
        self.privileged = privileged
        self.max_inbox = max_inbox
        self._reader = Reader(dialer)
        self._reading = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()

    def fetch(self, plan: str, fields: Sequence[int | str]) -> list[bytes | None]:
        """Of a plan's outputs. Not for code that may be ended."""
        with self._reading:
            return self._reader.ask(lambda line: outputs(line, self.keys, plan, fields))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where `async def` runs."""
        with self._loop_lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="async", daemon=True).start()
            return self._loop
