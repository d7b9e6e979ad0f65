"""All that there is to be known of one plan's standing still: who owns it, what is before it, who is there to serve it.

Read in the order in which things move (queues, then owners, then states), so that a step which is in neither of the
first two has ended: its outcome waits in the inbox. Nothing here costs the server more than the plan's own size, or
a bounded look at a queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from chargehand.decoding import decode
from chargehand.plan.life import PlanState
from chargehand.plan.locks import Locks, read_member
from chargehand.plan.run import PlanRecord
from chargehand.plan.timers import limit_timer
from chargehand.store.census import Census, take_census
from chargehand.store.connection import Full, Line, Refused
from chargehand.store.keys import Keys
from chargehand.store.load import read_load
from chargehand.store.plans import PlanView, read_heads
from chargehand.store.positions import (
    FAR,
    LOOKED_AT,
    Owner,
    Place,
    read_actions,
    read_due,
    read_owners,
    read_places,
    read_results,
    read_said,
    stands,
)
from chargehand.store.recurring import RecurringView, read_recurring
from chargehand.store.subplans import read_children
from chargehand.wire import Definition

__all__ = [
    "FAR",
    "LOOKED_AT",
    "NAMED",
    "Evidence",
    "LimitWait",
    "LockWait",
    "Nowhere",
    "Other",
    "Owner",
    "Place",
    "beginning",
    "gather",
    "look_elsewhere",
]

NAMED = 5  # plans told by their names

_PAGE = 1_000  # members of a set read at once
_FEW_CHILDREN = 1_000  # sub-plans of a step that are looked through for those under way
_SEARCHED = 20_000  # plans whose ids are compared with a beginning


class Other(NamedTuple):
    """Another plan that this one has to do with."""

    plan: str
    state: str  # "" when it is gone
    label: str = ""
    since_ms: int = 0


class LockWait(NamedTuple):
    """A lock that the plan waits for."""

    name: str
    holders: list[Other]  # the first few
    held_by: int  # how many hold it
    before: list[str]  # plans that asked before


class LimitWait(NamedTuple):
    """A limit under which steps of the plan wait for room."""

    name: str  # `action:NAME` or `queue:NAME`
    standing: list[str]  # `PLAN/STEP` that have the room
    opens_ms: int = 0  # when a rate lets the next step begin; 0: its room is taken


class Evidence(NamedTuple):
    """Of a plan that exists. All ages are of Redis' TIME."""

    view: PlanView
    definition: Definition
    census: Census
    load_age: float | None = None  # seconds since the active orchestrator said that it works; None: none ever did
    full: bool = False  # Redis has no memory left
    replicas: int | None = None  # that Redis has; None: none are asked for
    min_replicas: int = 0
    awaits: Sequence[Other] = ()  # plans that it starts after
    awaited: int = 0  # how many
    locks: Sequence[LockWait] = ()
    limits: Sequence[LimitWait] = ()
    owners: dict[int, Owner] = {}  # step -> who has taken it
    places: dict[int, Place] = {}  # step -> where it stands
    looked: dict[str, int] = {}  # queue -> entries that were looked at
    whole: frozenset[str] = frozenset()  # queues that were looked through to their end
    unseen: frozenset[int] = frozenset()  # steps whose result is written and that stand as if it were not
    moved: frozenset[int] = frozenset()  # steps that stood when the plan was read, and have gone on since
    due: dict[int, int] = {}  # step -> ms when its timer rings
    said: dict[int, str] = {}  # step -> its last line
    grace_ms: int | None = None  # of a plan that is being ended: how long what runs may go on
    children: dict[int, list[Other]] = {}  # step -> the first few of its sub-plans that are under way
    parent: Other | None = None
    actions: dict[str, frozenset[str]] = {}  # worker -> what it can run, of some that serve the queues of its steps
    units: Sequence[tuple[str, Sequence[str]]] = ()  # privileged groups of this node that are not there, their queues


class Nowhere(NamedTuple):
    """What there is under an id that no plan has."""

    now_ms: int
    moving_to: str = ""  # the executor that the plan was withdrawn for
    arrived: bool = False  # and it has been brought there
    parts: int = 0  # of a definition that is on its way
    parts_left: float = 0.0  # seconds until they go
    recurring: RecurringView | None = None


def gather(
    line: Line,
    keys: Keys,
    view: PlanView,
    *,
    far: int = FAR,
    min_replicas: int = 0,
    units: Sequence[tuple[str, Sequence[str]]] = (),
) -> Evidence | None:
    """About a plan as it was read a moment ago; None when it has gone since.

    far: how deep queues are looked into; 0: not at all. units: the privileged groups of this node, with their queues.
    """
    plan = view.plan
    head, rest, grace = line.batch(
        [
            ("LINDEX", keys.plan(plan), 0),
            ("HGET", keys.records(plan), "rest"),
            ("HGET", keys.stopped, plan),
        ]
    )
    if head is None:
        return None
    definition = decode(head, Definition)
    awaits = decode(rest, PlanRecord).awaits if rest and view.state == "waiting" else []
    standing = list(islice(filter(stands, view.steps), LOOKED_AT))
    places, looked, whole = read_places(line, keys, plan, standing, far) if far else ({}, {}, frozenset[str]())
    census = take_census(line, keys, "")
    load = read_load(line, keys)
    owners = read_owners(line, keys, plan, standing, census)
    unseen, moved = read_results(line, keys, plan, standing) if far else (frozenset(), frozenset())
    return Evidence(
        view=view,
        definition=definition,
        census=census,
        load_age=max(0, load.now_ms - load.at_ms) / 1000 if load is not None else None,
        full=bool(far) and _full(line),
        replicas=_replicas(line, keys, min_replicas) if min_replicas else None,
        min_replicas=min_replicas,
        awaits=_others(line, keys, awaits[:NAMED]),
        awaited=len(awaits),
        locks=_locks(line, keys, plan, definition) if view.state == "waiting" and not awaits else [],
        limits=_limits(line, keys, plan, definition) if view.state == "running" else [],
        owners=owners,
        places=places,
        looked=looked,
        whole=whole,
        unseen=unseen,
        moved=moved,
        due=read_due(line, keys, plan, view.steps),
        said=read_said(line, keys, plan) if far and standing else {},
        grace_ms=int(grace) if grace is not None else None,
        children=_children(line, keys, view) if far else {},
        parent=_others(line, keys, [view.parent[0]])[0] if view.parent else None,
        actions=read_actions(line, keys, standing, census) if far else {},
        units=units,
    )


def look_elsewhere(line: Line, keys: Keys, plan: str) -> Nowhere:
    """Where it may be that has no plan of its own here."""
    time, parts, left, moving, arrived = line.batch(
        [
            ("TIME",),
            ("LLEN", keys.parts(plan)),
            ("PTTL", keys.parts(plan)),
            ("LINDEX", keys.moving(plan), 0),
            ("LLEN", keys.moving(plan)),
        ]
    )
    repeats = read_recurring(line, keys, plan)
    return Nowhere(
        now_ms=int(time[0]) * 1000 + int(time[1]) // 1000,
        moving_to=moving.decode() if moving is not None else "",
        arrived=arrived == 1,
        parts=parts,
        parts_left=max(0, left) / 1000,
        recurring=repeats[0] if repeats else None,
    )


def beginning(line: Line, keys: Keys, text: str, most: int) -> list[str]:
    """Plans whose ids begin like this, of those that came into their states last; at most `most`."""
    start = text.encode()
    found = (one.decode() for one in islice(_latest(line, keys), _SEARCHED) if text and one.startswith(start))
    return list(dict.fromkeys(islice(found, most)))


def _latest(line: Line, keys: Keys) -> Iterator[bytes]:
    yield from line.call("HSCAN", keys.pending, "0", "COUNT", _PAGE)[1][::2]
    for at in range(0, _SEARCHED, _PAGE):
        pages = line.batch([("ZRANGE", keys.index(chr(one)), at, at + _PAGE - 1, "REV") for one in PlanState])
        if not any(pages):
            return
        for page in pages:
            yield from page


# -- the whole executor ---------------------------------------------------------------------------


def _replicas(line: Line, keys: Keys, wanted: int) -> int:
    """How many have within 200 ms what is written now: one that is frozen is connected all the same."""
    with suppress(Full):
        line.call("SET", keys.mark, "", "PX", 1_000)
    found: int = line.call("WAIT", wanted, 200)
    return found


def _full(line: Line) -> bool:
    """False also where the server does not say."""
    try:
        told = line.call("INFO", "memory").decode().split("\r\n")
    except Refused:
        return False
    found = dict(one.split(":", 1) for one in told if ":" in one)
    most = int(found.get("maxmemory", 0))
    return 0 < most <= int(found.get("used_memory", 0))


# -- other plans ----------------------------------------------------------------------------------


def _others(line: Line, keys: Keys, plans: Sequence[str]) -> list[Other]:
    views = {view.plan: view for view in read_heads(line, keys, plans)} if plans else {}
    return [
        Other(plan, view.state, view.label, view.since_ms or view.submitted_ms)
        if (view := views.get(plan)) is not None
        else Other(plan, "")
        for plan in plans
    ]


def _locks(line: Line, keys: Keys, plan: str, definition: Definition) -> list[LockWait]:
    wanted = {lock.name for lock in definition.locks}
    members: list[tuple[str, int]] = []
    for at in range(0, line.call("ZCARD", keys.locks) if wanted else 0, _PAGE):
        found = line.call("ZRANGE", keys.locks, at, at + _PAGE - 1, "WITHSCORES")
        for member, ticket in zip(found[::2], found[1::2], strict=True):
            if read_member(member.decode())[1].name in wanted:
                members.append((member.decode(), int(float(ticket))))
    locks = Locks(members)
    waits = []
    for name in sorted(wanted):
        holders, before = locks.ahead_of(plan, name)
        if holders:
            waits.append(LockWait(name, _others(line, keys, holders[:NAMED]), len(holders), before))
    return waits


def _limits(line: Line, keys: Keys, plan: str, definition: Definition) -> list[LimitWait]:
    names = list(
        dict.fromkeys(
            name for policy in definition.policies for name in (f"action:{policy.action}", f"queue:{policy.queue}")
        )
    )
    ranks = line.batch([("ZRANK", keys.limited, f"{name} {plan}") for name in names])
    waited = [name for name, rank in zip(names, ranks, strict=True) if rank is not None]
    if not waited:
        return []
    slots, *opens = line.batch(
        [("SMEMBERS", keys.slots), *(("ZSCORE", keys.timers, limit_timer(name)) for name in waited)]
    )
    standing: dict[str, list[str]] = {name: [] for name in waited}
    for slot in slots:
        name, _, step = slot.decode().rpartition(" ")
        if name in standing:
            standing[name].append(step)
    return [
        LimitWait(name, sorted(standing[name]), int(float(at or 0))) for name, at in zip(waited, opens, strict=True)
    ]


def _children(line: Line, keys: Keys, plan: PlanView) -> dict[int, list[Other]]:
    state = "cancelling" if plan.state in {"cancelling", "reverting"} else "running"
    waiting = [step for step in plan.steps if step.state == "suspended" and step.children is not None]
    found: dict[int, list[Other]] = {}
    for step in waiting[:NAMED]:
        if step.children is not None and step.children.total <= _FEW_CHILDREN:
            views = read_children(line, keys, plan.plan, step.index, state=state, first=0, most=NAMED).plans
            found[step.index] = [Other(view.plan, view.state, view.label, view.since_ms) for view in views]
    return found
