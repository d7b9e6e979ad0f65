"""How much an executor does: its active orchestrator counts, everybody reads."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["ActionStats", "Minute", "QueueStats", "Stats", "Trouble"]


class Minute(Struct, array_like=True):
    """What was done in one minute."""

    ms: int  # its beginning, ms of Redis' TIME
    steps: int = 0  # finished well
    failed: int = 0  # attempts that failed
    lost: int = 0  # attempts lost with their worker
    plans: int = 0  # ended, succeeded
    bad: int = 0  # ended otherwise, or paused
    submitted: int = 0  # accepted
    median_ms: int = 0  # from submission to end, of the plans that ended
    p95_ms: int = 0
    busy: int = 0  # percent of the time that the orchestrator was busy
    behind_ms: int = 0  # the most that an event waited in the inbox


class QueueStats(Struct):
    """One queue now. Rates are of the last minute."""

    name: str
    waiting: int
    workers: int  # that serve it and are heard
    threads: int
    running: int
    in_rate: float  # steps/s queued
    out_rate: float  # steps/s finished


class ActionStats(Struct):
    """One action, since the executor's data began and in the last hour."""

    name: str
    done: int  # steps in all
    failed: int  # attempts in all
    lost: int
    hour_done: int = 0
    hour_failed: int = 0


class Trouble(Struct):
    """Failures that have the same cause."""

    cause: str  # the error's kind and message, its numbers and names left out
    action: str
    count: int  # of the latest failures that are looked at
    last_ms: int
    plans: list[str]  # the latest few
    example: str  # one of the messages as it is
    nodes: list[str] = []


class Stats(Struct):
    now_ms: int
    minutes: list[Minute]  # the last 60, the oldest first; those without anything are there too
    queues: list[QueueStats]
    actions: list[ActionStats]  # the busiest first
