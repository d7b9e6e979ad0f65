"""How a peer's tasks tell that many of them have run: once in a thousand, so that telling costs nothing."""

from __future__ import annotations

import os
import threading

import redis

__all__ = ["STEP", "URL", "count"]

URL = os.environ.get("BENCH_REDIS", "")
STEP = 1_000  # tasks for each entry of the list `done`

_lock = threading.Lock()
_ran = 0


def count() -> None:
    """A task has run, in the one process of its worker."""
    global _ran  # noqa: PLW0603 - a counter of this process
    with _lock:
        _ran += 1
        full = _ran % STEP == 0
    if full:
        redis.Redis.from_url(URL).lpush("done", "1")
