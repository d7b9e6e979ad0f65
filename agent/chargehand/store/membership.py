"""Being known to the executor: registering, heartbeats, leaving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from chargehand.store.connection import Line
from chargehand.store.keys import Keys
from chargehand.store.scripts import BEAT
from chargehand.wire import encode

__all__ = [
    "BEAT_EVERY",
    "CLAIM_MS",
    "SILENT_MS",
    "Beat",
    "Gone",
    "Member",
    "NodeNameTaken",
    "beat",
    "leave",
    "register",
]

BEAT_EVERY = 2.0  # seconds
SILENT_MS = 8_000  # a member is dead when its beat is older (and its orchestrator has been there to hear it)
CLAIM_MS = 10_000  # a node name is free again when none of its members has beaten for so long


class Member(Struct, omit_defaults=True):
    """Who a process is and how busy; shown by `status`, read by nobody that decides."""

    kind: str  # orchestrator or worker
    node: str
    child: str  # its name on the node
    pid: int
    started_ms: int
    version: str
    role: str = ""  # orchestrator: active or passive
    since_ms: int = 0  # of the role
    epoch: int = 0
    threads: int = 1
    share: int = 0  # of an active orchestrator: percent of the last minute that it was busy
    behind: float = 0.0  # of an active orchestrator: seconds that the oldest event had waited
    busy: int = 0
    queues: list[str] = []
    degraded: str = ""
    running: list[str] = []  # step keys, those that began first ahead: the first 50
    for_ms: list[int] = []  # each of `running`: how long it had run when this was written
    boot: str = ""  # boot id of its node: a step that reboots it has succeeded when this is another one
    format: int = 1


class Gone(Exception):
    """This incarnation is not registered: it was reaped, or the data is from another time."""


class NodeNameTaken(Exception):
    """Another machine beats under this node's name. The argument is that machine's id."""


class Beat(NamedTuple):
    now_ms: int  # Redis' TIME
    owned: frozenset[str]  # step keys
    stopped: Mapping[str, int]  # those of them whose plan is being ended -> how long they may go on, ms


def register(line: Line, keys: Keys, incarnation: str, member: Member, machine: str) -> Beat:
    """Become known; the first heartbeat. Raises `NodeNameTaken`."""
    return _beat(line, keys, incarnation, member, machine, first=True)


def beat(line: Line, keys: Keys, incarnation: str, member: Member, machine: str) -> Beat:
    """Raises `Gone`, `NodeNameTaken`."""
    return _beat(line, keys, incarnation, member, machine, first=False)


def _beat(line: Line, keys: Keys, incarnation: str, member: Member, machine: str, *, first: bool) -> Beat:
    names = [keys.members, keys.beats, keys.node(member.node), keys.own(incarnation), keys.stopped]
    reply = line.call(*BEAT(names, incarnation, encode(member), machine, CLAIM_MS, "1" if first else "0"))
    if reply[0] == b"GONE":
        raise Gone(incarnation)
    if reply[0] == b"TAKEN":
        raise NodeNameTaken(reply[1].decode())
    stopped = {key.decode(): int(grace) for key, grace in zip(reply[3][::2], reply[3][1::2], strict=True)}
    return Beat(reply[1], frozenset(key.decode() for key in reply[2]), stopped)


def leave(line: Line, keys: Keys, incarnation: str) -> None:
    """For a member that owns nothing."""
    line.batch(
        [
            ("HDEL", keys.members, incarnation),
            ("ZREM", keys.beats, incarnation),
            ("UNLINK", keys.profile(incarnation)),
        ]
    )
