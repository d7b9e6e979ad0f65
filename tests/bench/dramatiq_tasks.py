"""Dramatiq's side of the bench. Run by `dramatiq` itself."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.counting import URL, count

dramatiq.set_broker(RedisBroker(url=URL))


@dramatiq.actor(queue_name="bench")
def nothing() -> None:
    count()


send = nothing.send


def chain(length: int) -> None:
    """`length` tasks, each after the one before."""
    dramatiq.pipeline([nothing.message_with_options(args=(), pipe_ignore=True) for _ in range(length)]).run()
