"""Celery's side of the bench. Run by `celery worker` itself."""

from __future__ import annotations

from celery import Celery
from celery import chain as celery_chain

from bench.counting import URL, count

app = Celery("bench", broker=URL)
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True


@app.task
def nothing() -> None:
    count()


send = nothing.delay


def chain(length: int) -> None:
    """`length` tasks, each after the one before."""
    celery_chain(*(nothing.si() for _ in range(length))).apply_async()
