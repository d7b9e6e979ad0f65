"""What `chargehand top` shows, in as many lines as the terminal has. Pure.

a head       the lease, plans, the inbox, the last minute, what is degraded
four tables  members, queues, the busiest actions, the latest failures: each gets its share of what is left
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from chargehand.cli import overview
from chargehand.cli.columns import Said
from chargehand.cli.times import lasting
from chargehand.store.census import Census, Seen
from chargehand.store.stats import Stats, Trouble

__all__ = ["Seconds", "Snapshot", "screen", "share_out"]

#: Lines that a table has before any other gets more than its own: members, queues, actions, failures.
_FIRST = (7, 4, 4, 4)
_DEGRADED = 3  # lines, where the screen is short

#: A point in time, Unix time.
Seconds = float


class Snapshot(NamedTuple):
    """What is known. `at`: when it was. `silence`: why nothing newer is, since `since`; empty while all is well."""

    census: Census | None = None
    stats: Stats | None = None
    troubles: Sequence[Trouble] = ()
    at: Seconds = 0.0
    silence: str = ""
    since: Seconds = 0.0


def screen(executor: str, seen: Snapshot, now: datetime, *, width: int | None, height: int | None) -> list[Said]:
    """At most `height` lines. `height`, `width` None: all there is to show."""
    head = [_title(executor, now, width)]
    if seen.silence:
        head += _silence(seen, now, width)
    census, stats = seen.census, seen.stats
    if census is None or stats is None:
        return [*head, *([] if seen.silence else [["asking Redis"]])][:height]
    head += overview.lease_line(census, width)
    head += overview.passive_line(census, width)
    head += overview.plans_line(census, width)
    head += overview.inbox_line(census, width)
    head += overview.minute_line(stats.minutes, width)
    degraded = list(overview.degraded_lines(census, width))
    if height is not None and len(degraded) > _DEGRADED and len(head) + len(degraded) > height // 3:
        hidden = len(degraded) - _DEGRADED + 1
        degraded = [*degraded[: _DEGRADED - 1], [(f"         … {hidden} lines more", "red")]]
    head += degraded
    tables = [
        overview.member_rows(census, width, members=_notable_members(census)),
        overview.queue_rows(census, width, names=_notable_queues(census)),
        overview.action_rows(stats.actions, width),
        overview.trouble_rows(seen.troubles, now, width),
    ]
    tables = [table for table in tables if len(table) > 1]
    if height is None:
        return [line for part in [head, *tables] for line in [*part, [""]]][:-1]
    return _fitted(head, tables, height)


def _fitted(head: list[Said], tables: list[list[Said]], height: int) -> list[Said]:
    left = height - len(head)
    apart = left - len(tables) >= sum(map(len, tables))  # there is room for an empty line before each
    shares = share_out(left - len(tables) * apart, [len(table) for table in tables])
    lines = list(head)
    for table, share in zip(tables, shares, strict=True):
        if share < 2:  # a title alone says nothing
            continue
        lines += [[""]] * apart
        if share >= len(table):
            lines += table
        else:
            lines += [*table[: share - 1], [(f"… {len(table) - share + 1} more", "dim")]]
    return lines[:height]


def share_out(room: int, wanted: Sequence[int]) -> list[int]:
    """How many lines each gets: its first ones, then one more in turn, none more than it wants."""
    shares = [0] * len(wanted)
    for limits in ([*_FIRST], [*wanted]):
        moving = True
        while moving:
            moving = False
            for at, want in enumerate(wanted):
                if shares[at] < min(want, limits[at]) and sum(shares) < room:
                    shares[at] += 1
                    moving = True
    return shares


def _notable_queues(census: Census) -> list[str]:
    """First those that nobody serves, then the longest, then by name."""
    return sorted(census.queues, key=lambda name: (bool(census.serving(name)), -census.queues[name], name))


def _notable_members(census: Census) -> list[Seen]:
    """A node with something to tell before the others: what is cut off at the end is what is well."""
    active = census.active
    order = {one.member.node: 3 for one in census.members}
    for one in census.members:
        rank = 0 if one.silent else 1 if one is active else 2 if one.member.degraded else 3
        order[one.member.node] = min(order[one.member.node], rank)
    return sorted(census.members, key=lambda one: (order[one.member.node], one.member.node))


def _title(executor: str, now: datetime, width: int | None) -> Said:
    left, right = f"chargehand top  executor {executor}  {now:%H:%M:%S}", "q leaves"
    gap = (width or 0) - len(left) - len(right)
    return [(left, "bold"), " " * gap + right if gap > 1 else ""]


def _silence(seen: Snapshot, now: datetime, width: int | None) -> list[Said]:
    since = datetime.fromtimestamp(seen.since).astimezone()
    text = f"does not answer since {since:%H:%M:%S} ({lasting(now.timestamp() - seen.since)}): {seen.silence}"
    if seen.census is not None:
        text += "; what follows was known before"
    return overview.folded("Redis", [(word, "bold red") for word in text.split(" ")], width, between=" ")
