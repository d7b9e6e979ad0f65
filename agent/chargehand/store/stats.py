"""How much an executor does: its active orchestrator counts, everybody reads."""

from __future__ import annotations

from msgspec import Struct

from chargehand.store.census import Census
from chargehand.store.connection import Line
from chargehand.store.counting import MINUTE_MS, ActionTotal, MinuteRecord, age_of, read_actions, read_minutes
from chargehand.store.keys import Keys

__all__ = ["ActionStats", "Minute", "QueueStats", "Stats", "Trouble", "read_stats"]


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
    running: int  # steps that these workers run, of whichever queue
    in_rate: float  # steps/s queued
    out_rate: float  # attempts/s ended, well or not


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


def read_stats(line: Line, keys: Keys, census: Census) -> Stats:
    """`census`: of the same executor, just now. Of rates that nobody has written for 5 s, and of minutes that nobody
    has counted, nothing is known: they are 0."""
    this = census.now_ms - census.now_ms % MINUTE_MS
    minutes = [this - back * MINUTE_MS for back in range(59, -1, -1)]
    records = read_minutes(line, keys, minutes)
    totals = read_actions(line.call("HGETALL", keys.actions))
    hour: dict[str, ActionTotal] = {}
    for record in records:
        for name, one in record.actions.items():
            so_far = hour.setdefault(name, ActionTotal())
            so_far.done, so_far.failed, so_far.lost = (
                so_far.done + one.done,
                so_far.failed + one.failed,
                so_far.lost + one.lost,
            )
    actions = [
        ActionStats(name, one.done, one.failed, one.lost, late.done, late.failed)
        for name, one in totals.items()
        for late in [hour.get(name, ActionTotal())]
    ]
    actions.sort(key=lambda one: (-(one.hour_done + one.hour_failed), -(one.done + one.failed), one.name))
    return Stats(
        census.now_ms,
        [_minute(ms, record) for ms, record in zip(minutes, records, strict=True)],
        [_queue(name, census) for name in census.queues],
        actions,
    )


def _minute(ms: int, record: MinuteRecord) -> Minute:
    return Minute(
        ms=ms,
        steps=record.steps,
        failed=record.failed,
        lost=record.lost,
        plans=record.plans,
        bad=record.bad,
        submitted=record.submitted,
        median_ms=age_of(record.ages, 0.5),
        p95_ms=age_of(record.ages, 0.95),
        busy=record.busy,
        behind_ms=record.behind_ms,
    )


def _queue(name: str, census: Census) -> QueueStats:
    serving = [one.member for one in census.serving(name)]
    in_rate, out_rate = census.rates.get(name, (0.0, 0.0))
    return QueueStats(
        name=name,
        waiting=census.queues[name],
        workers=len(serving),
        threads=sum(member.threads for member in serving),
        running=sum(member.busy for member in serving),
        in_rate=round(in_rate, 2),
        out_rate=round(out_rate, 2),
    )
