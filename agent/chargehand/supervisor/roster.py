"""Which children a node has, and what brings those that run to those that are wanted.

Pure. A start, a stop, a reload, a drain and a restart are all the same question: what is wanted, what is there,
what is the next move. Asked again after every event, so that nothing is forgotten when something changes
halfway.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any

import msgspec
from msgspec import Struct

from chargehand.config.plain import to_builtins
from chargehand.config.settings import Limits, LogPattern, ProgramSettings, Settings, WorkerSettings
from chargehand.program import own_argv
from chargehand.supervisor.life import State
from chargehand.supervisor.spec import Spec

__all__ = ["Do", "Move", "Present", "next_moves", "roster", "starts_after", "unsettled", "wanted_while_drained"]

_ORCHESTRATOR_WATCHDOG = 3.0  # below the lease's ttl, so that a hung one is replaced before others take over
_WORKER_WATCHDOG = 30.0
_CONSOLE_WATCHDOG = 10.0


# -- who is wanted --------------------------------------------------------------------------------


def roster(settings: Settings, server_url: str = "") -> list[Spec]:
    """The node's children, in the order in which they are shown. `server_url`: of the embedded server."""
    plain = to_builtins(settings)
    if settings.redis.embedded:
        plain["redis"] |= {"url": server_url, "embedded": False}
    specs = []
    if settings.redis.embedded:
        specs.append(Spec(name="redis", kind="redis", ready="probe", stop_timeout=10.0))
    if settings.orchestrator.enabled:
        specs.append(_orchestrator(settings, plain))
    for group in settings.worker:
        if group.unit:
            continue  # systemd runs it
        specs += [_worker(settings, plain, group, index) for index in range(1, group.processes + 1)]
    if settings.console.enabled:
        specs.append(_console(settings, plain))
    specs += [_program(program) for program in settings.child]
    return specs


def _orchestrator(settings: Settings, plain: dict[str, Any]) -> Spec:
    own = settings.orchestrator
    return Spec(
        name="orchestrator",
        kind="orchestrator",
        argv=own_argv("orchestrator"),
        settings=_given(plain, "node", "executor", "redis", "orchestrator", "retention", "queue"),
        env=tuple(own.env.items()),
        watchdog=_ORCHESTRATOR_WATCHDOG,
        dump_time=0.1,  # others wait for it
        start_timeout=30.0,  # of silence: it pings while it waits for Redis
        stop_timeout=2.0,
        memory_max=own.memory_max or 0,
        nice=own.nice,
        limits=_limits(own.limits),
    )


def _worker(settings: Settings, plain: dict[str, Any], group: WorkerSettings, index: int) -> Spec:
    place = settings.worker.index(group)
    first = next(one for one in settings.worker if not one.unit)
    own = {key: value for key, value in plain["worker"][place].items() if key != "processes"}  # no concern of each
    submits = {"max_inbox": settings.orchestrator.max_inbox}  # its steps' sub-plans
    given = _given(plain, "node", "executor", "redis", "actions", "action", worker=[own], orchestrator=submits)
    return Spec(
        name=group.name if group.processes == 1 else f"{group.name}-{index}",
        kind="worker",
        crew=group.name,
        argv=own_argv("worker", "--group", group.name),
        settings=given,
        # Somebody on each node serves the steps that are aimed at it: the first group.
        env=(*group.env.items(), ("CHARGEHAND_NODE_QUEUE", "1" if group is first else "")),
        watchdog=_WORKER_WATCHDOG,
        start_timeout=float(group.start_timeout),
        stop_timeout=3.0,
        memory_max=group.memory_max or 0,
        nice=group.nice,
        user=group.user or "",
        group=group.group or "",
        limits=_limits(group.limits),
    )


def _console(settings: Settings, plain: dict[str, Any]) -> Spec:
    own = settings.console
    return Spec(
        name="console",
        kind="console",
        argv=own_argv("console"),
        settings=msgspec.json.encode(plain),  # it shows and checks all of them
        env=tuple(own.env.items()),
        watchdog=_CONSOLE_WATCHDOG,
        start_timeout=60.0,
        stop_timeout=3.0,
        memory_max=own.memory_max or 0,
        nice=own.nice,
        limits=_limits(own.limits),
    )


def _program(program: ProgramSettings) -> Spec:
    pattern = program.ready.log if isinstance(program.ready, LogPattern) else ""
    role = program.role
    return Spec(
        name=program.name,
        kind="program",
        argv=tuple(program.argv),
        env=tuple(program.env.items()),
        ready="log" if pattern else str(program.ready),
        ready_pattern=pattern,
        role_active=(role and role.active) or "",
        role_passive=(role and role.passive) or "",
        last_words=program.last_words,
        watchdog=float(program.watchdog or 0),
        start_timeout=float(program.start_timeout),
        stop_timeout=float(program.stop_timeout),
        stop_signal=signal.Signals[program.stop_signal],
        after=tuple(program.after),
        directory=program.directory,
        memory_max=program.memory_max or 0,
        nice=program.nice,
        user=program.user or "",
        group=program.group or "",
        limits=_limits(program.limits),
    )


def _given(plain: dict[str, Any], *sections: str, **more: Any) -> bytes:
    """The settings that concern a child: it is replaced when these change."""
    return msgspec.json.encode({section: plain[section] for section in sections} | more)


def _limits(limits: Limits) -> tuple[tuple[str, int], ...]:
    return tuple((name, value) for name, value in msgspec.structs.asdict(limits).items() if value is not None)


def wanted_while_drained(specs: Sequence[Spec]) -> list[Spec]:
    """A drained node runs nothing of the executor; its server, its console and the other programs go on."""
    return [spec for spec in specs if not spec.member]


# -- what is next ---------------------------------------------------------------------------------


class Present(Struct, frozen=True):
    """A child as it is."""

    key: int  # which one: two of a name stand side by side while one replaces the other
    spec: Spec
    state: State
    stale: bool = False  # to be replaced although its spec has not changed
    drained: bool = False  # has finished what ran, or its time for that is over


class Do(Enum):
    START = auto()  # a child with this spec
    DRAIN = auto()  # finish what runs; an orchestrator hands the lease over
    END = auto()  # for good


class Move(Struct, frozen=True):
    do: Do
    key: int = -1
    spec: Spec | None = None


_ENDING = {State.STOPPING, State.CLOSING, State.STOPPED}


def next_moves(wanted: Sequence[Spec], present: Sequence[Present], *, notices_settled: bool = True) -> list[Move]:
    """The moves that are right now. `notices_settled`: nobody needs a living child for its death notice any more.

    - what is not wanted drains, then ends; orchestrators drain first (the lease goes to another node before
      anything else) and end last of ours, so that they hand on the workers' death notices
    - what changed is replaced, one child at a time: the new one is READY before the old one drains; a program
      that cannot run beside itself ends first
    - what is READY already is never ended for a successor that is not
    """
    names = {spec.name: spec for spec in wanted}
    places: dict[str, list[Present]] = {}
    for one in present:
        if one.state is not State.STOPPED:
            places.setdefault(one.spec.name, []).append(one)
    successors = {
        spec.name: next(
            (one for one in places.get(spec.name, []) if one.spec == spec and not one.stale and not _retiring(one)),
            None,
        )
        for spec in wanted
    }
    moves: list[Move] = []
    replacing = any(
        one is not None and one.state is not State.READY and any(_serves(old) for old in places[name])
        for name, one in successors.items()
    )
    for spec in wanted:
        here = places.get(spec.name, [])
        successor = successors[spec.name]
        old = [one for one in here if one is not successor]
        serving = any(_serves(one) for one in old)
        if successor is None and old and not spec.overlaps:
            moves += [Move(Do.END, one.key) for one in old if one.state not in _ENDING]
            continue
        if serving and (successor is None or successor.state is not State.READY):
            if successor is None and not replacing:
                moves.append(Move(Do.START, spec=spec))
            replacing = True
        elif successor is None:
            moves.append(Move(Do.START, spec=spec))
        for one in old:
            if _serves(one):
                if successor is not None and successor.state is State.READY:
                    moves.append(_retire(one))
            elif one.state not in _ENDING and (one.state is not State.DRAINING or one.drained):
                moves.append(Move(Do.END, one.key))
    ready = {name for name, one in successors.items() if one is not None and one.state is State.READY}
    waiting = {spec.crew for spec in wanted} - {spec.crew for spec in wanted if spec.name in ready} - {""}
    unwanted = [
        one
        for one in present
        # A group of another size has other names: its old processes serve until one of the new ones does.
        if one.spec.name not in names and not (_serves(one) and one.spec.crew in waiting)
    ]
    return moves + _leave(unwanted, notices_settled=notices_settled)


def unsettled(names: Sequence[str], wanted: Sequence[Spec], present: Sequence[Present]) -> list[str]:
    """Of these children those that are not yet what is wanted: just the one that is, READY; or none where none is."""
    aims = {spec.name: [(spec, State.READY, False)] for spec in wanted}
    there: dict[str, list[tuple[Spec, State, bool]]] = {}
    for one in present:
        if one.state is not State.STOPPED:
            there.setdefault(one.spec.name, []).append((one.spec, one.state, one.stale))
    return [name for name in names if there.get(name, []) != aims.get(name, [])]


def _serves(one: Present) -> bool:
    return one.state is State.READY


def _leave(unwanted: Sequence[Present], *, notices_settled: bool) -> list[Move]:
    """What is wanted no more drains at once, and ends in the reverse of the order of starts."""
    left = [one for one in unwanted if one.state is not State.STOPPED]
    ranks = _ranks([one.spec for one in left])
    last = max(ranks.values(), default=0)
    handing_over = any(
        one.spec.kind == "orchestrator"
        and (one.state is State.READY or (one.state is State.DRAINING and not one.drained))
        for one in left
    )
    moves = []
    for one in left:
        if one.state is State.READY and one.spec.member:
            if one.spec.kind == "orchestrator" or not handing_over:
                moves.append(Move(Do.DRAIN, one.key))
        elif one.state in _ENDING or (one.state is State.DRAINING and not one.drained):
            continue
        elif ranks[one.spec.name] == last and (one.spec.kind != "orchestrator" or notices_settled):
            moves.append(Move(Do.END, one.key))
    return moves


def _retiring(one: Present) -> bool:
    return one.state is State.DRAINING or one.state in _ENDING


def _retire(one: Present) -> Move:
    return Move(Do.DRAIN if one.state is State.READY and one.spec.member else Do.END, one.key)


#: The rest stand between them: a program may be what running steps need, so it outlives them, unless it says that
#: it comes after one of ours. The orchestrator hands on the workers' death notices.
_RANK = {"redis": 0, "program": 1, "orchestrator": 1000, "worker": 2000, "console": 3000}


def _ranks(specs: Sequence[Spec]) -> dict[str, int]:
    """The higher, the earlier it ends. A child ranks above all that it comes after."""
    found: dict[str, int] = {}

    def rank(spec: Spec) -> int:
        if spec.name not in found:
            found[spec.name] = _RANK[spec.kind]  # also what ends a circle, which the configuration refuses
            earlier = [one for name in spec.after for one in specs if answers_to(one, name)]
            found[spec.name] = max([_RANK[spec.kind], *(rank(one) + 1 for one in earlier)])
        return found[spec.name]

    for spec in specs:
        rank(spec)
    return found


def answers_to(spec: Spec, name: str) -> bool:
    """True when `name` means this child: its own name, or its worker group's."""
    return name in {spec.name, spec.crew}


def starts_after(spec: Spec, wanted: Mapping[str, Spec]) -> set[str]:
    """Names of the children that it waits for when it starts: those it names, and the node's own server."""
    names = {one.name for one in wanted.values() for name in spec.after if answers_to(one, name)}
    if spec.own and "redis" in wanted:
        names.add("redis")
    return names - {spec.name}
