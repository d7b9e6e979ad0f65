"""The peer: the same work as Huey tasks. Run by Huey's own consumer."""

from __future__ import annotations

import os
import time

from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"], results=True, store_none=True)


@huey.task()
def nothing(*_: object) -> None:
    return None


@huey.task()
def stamp() -> float:
    return time.time()


@huey.task()
def one() -> int:
    return 1


@huey.task()
def total(numbers: list[int]) -> int:
    return sum(numbers)
