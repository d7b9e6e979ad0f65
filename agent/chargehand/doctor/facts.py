"""All that the checks look at. Shapes only: `gather` finds them out, `checks` judges."""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct

from chargehand.config.settings import Settings
from chargehand.doctor import Severity
from chargehand.health import NodeStatus
from chargehand.store.census import Census, Seen
from chargehand.store.checkup import Checkup
from chargehand.store.profile import Profile
from chargehand.store.server import Fault, Host, SentinelSays, Server

__all__ = ["LONG_MS", "Facts", "FileFault", "Found", "Silence", "SocketFacts", "error", "note", "warning"]

LONG_MS = 86_400_000  # a plan that is paused for so long is waiting for somebody who does not know


class Found(NamedTuple):
    """What a check says is wrong."""

    severity: Severity
    text: str
    evidence: list[str]
    advice: list[str]


def error(text: str, evidence: list[str] | None = None, *advice: str) -> Found:
    """Work stands still, or is lost, or will be."""
    return Found("error", text, evidence or [], list(advice))


def warning(text: str, evidence: list[str] | None = None, *advice: str) -> Found:
    """It works, and will not when the next thing fails."""
    return Found("warning", text, evidence or [], list(advice))


def note(text: str, evidence: list[str] | None = None, *advice: str) -> Found:
    """To be known. It may be as somebody wants it."""
    return Found("note", text, evidence or [], list(advice))


class Silence(Struct):
    """Why the agent was not heard."""

    kind: Literal["not-running", "not-allowed", "no-answer"]
    text: str


class SocketFacts(Struct):
    """The agent's control socket."""

    path: str
    mode: int
    owner: str
    group: str


class FileFault(Struct):
    """A file of the configuration that this user cannot use, or that others can."""

    key: str
    kind: Literal["exposed", "absent", "unreadable"]
    text: str


class Facts(Struct, kw_only=True):
    node: str
    now: float  # Unix time of this machine
    user: str
    root: bool = False
    cores: int = 1
    settings: Settings | None = None  # None: refused
    refusals: list[str] = []  # why
    closed: bool = False  # because this user may not read it
    # Redis and the executor, as they are seen from here
    server: Server | None = None
    fault: Fault | None = None  # why there is none
    fault_text: str = ""
    rights: str = ""  # what our user may not do
    hosts: list[Host] = []
    sentinels: list[SentinelSays] = []
    census: Census | None = None
    checkup: Checkup | None = None
    others: dict[str, str] = {}  # other executors of the configuration -> what is wrong with them, empty: nothing
    # this node
    agent: NodeStatus | None = None
    silence: Silence | None = None
    socket: SocketFacts | None = None
    unit_name: str = "chargehand.service"
    unit: dict[str, str] | None = None  # None: no systemd here
    privileged: dict[str, dict[str, str] | None] = {}  # units of worker groups that systemd runs
    files: list[FileFault] = []
    untrusted: list[str] = []  # files of privileged work that others can write

    @property
    def embedded(self) -> bool:
        """The executor is this node's alone, on the agent's own server."""
        settings = self.settings
        if settings is None:
            return False
        own = f"unix://{settings.agent.runtime_dir}/redis.sock"  # as a client that knows the way has it
        return settings.redis.embedded or settings.redis.url == own

    @property
    def heard(self) -> list[Seen]:
        return [one for one in self.census.members if not one.silent] if self.census is not None else []

    @property
    def workers(self) -> list[Seen]:
        """Those that take steps now."""
        return [one for one in self.heard if one.member.kind == "worker" and one.member.role != "draining"]

    @property
    def orchestrators(self) -> list[Seen]:
        return [one for one in self.heard if one.member.kind == "orchestrator"]

    @property
    def profiles(self) -> list[tuple[Seen, Profile]]:
        """Of the members that are heard."""
        known = self.checkup.profiles if self.checkup is not None else {}
        return [(one, known[one.incarnation]) for one in self.heard if one.incarnation in known]

    def serving(self, queue: str) -> list[Seen]:
        return [one for one in self.workers if queue in one.member.queues]
