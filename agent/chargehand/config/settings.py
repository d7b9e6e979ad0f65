"""The typed, frozen settings that everything else reads. Values only: loading is `load.py`.

A key that a struct does not know is refused by the loader, with its place in the files; what travels between our own
processes may have more keys, of another version's (`greeting.py`). Two structs stand where the loader does not look
inside, and refuse it themselves.

Durations are `Duration` (a float, seconds), sizes are `Size` (an int, bytes). In TOML both are
strings with a unit (`"5s"`, `"1GiB"`); a bare number is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

__all__ = [
    "ActionSettings",
    "ActionsSettings",
    "AgentSettings",
    "ConsoleSettings",
    "Duration",
    "ExecutorAddress",
    "ExecutorSettings",
    "HookSettings",
    "LeaseSettings",
    "Limits",
    "LockSettings",
    "LogPattern",
    "NodeSettings",
    "OrchestratorSettings",
    "Parameter",
    "ProgramSettings",
    "QueueSettings",
    "Rate",
    "RedisAddress",
    "RedisSettings",
    "RetentionSettings",
    "RetrySettings",
    "RolePatterns",
    "Settings",
    "Size",
    "WorkerSettings",
]

#: Names stand in Redis keys, unit names and file names.
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]


class Duration(float):
    """Seconds. Written in TOML as `500ms`, `5s`, `2m`, `1h`, `30d`."""


class Size(int):
    """Bytes. Written in TOML as `64KiB`, `512MiB`, `1GiB`."""


class Rate(str):
    """How many in a time: `10/s`, `100/m`."""

    __slots__ = ()


class NodeSettings(Struct, frozen=True):
    name: Name = ""  # the loader puts the host name here


class ExecutorSettings(Struct, frozen=True):
    name: Name = "default"


class RedisAddress(Struct, frozen=True):
    """What every `[redis]` and `[[executors]]` can say of a server and the way to it."""

    url: str | None = None  # redis:// rediss:// unix:// redis+sentinel:// redis+cluster://
    username: str | None = None
    password_file: str | None = None
    sentinel_username: str | None = None
    sentinel_password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    timeout: Duration = Duration(1)  # of one request
    min_replicas: Annotated[int, Meta(ge=0, le=10)] = 0  # that have a write before it counts as done


class RedisSettings(RedisAddress, frozen=True):
    embedded: bool = False  # the agent runs a server of its own; true when there is no url


class ExecutorAddress(RedisAddress, frozen=True, kw_only=True):
    """`[[executors]]`: one of those that clients choose from. Without a url it is on the Redis of `[redis]`."""

    name: Name
    enabled: bool = True


class LeaseSettings(Struct, frozen=True):
    ttl: Duration = Duration(5)
    renew: Duration = Duration(1)


class Limits(Struct, frozen=True):
    """Resource limits of a child (setrlimit); what is not set stays as the agent has it."""

    nofile: Annotated[int, Meta(ge=16)] | None = None  # open files
    nproc: Annotated[int, Meta(ge=1)] | None = None  # processes and threads of its user
    core: Size | None = None
    stack: Size | None = None
    memlock: Size | None = None
    file_size: Size | None = None
    address_space: Size | None = None


Nice = Annotated[int, Meta(ge=-20, le=19)]


class OrchestratorSettings(Struct, frozen=True):
    enabled: bool = True
    threads: int = 1  # only 1 is accepted: an orchestrator decides in one thread
    lease: LeaseSettings = LeaseSettings()
    max_inbox: Annotated[int, Meta(ge=100)] = 100_000  # events; submissions are refused above it
    memory_max: Size | None = None  # above it, it is replaced
    nice: Nice = 0
    env: dict[str, str] = {}
    limits: Limits = Limits()


class WorkerSettings(Struct, frozen=True):
    name: Name
    queues: list[Name] | dict[Name, Annotated[int, Meta(ge=1, le=1000)]] = field(
        default_factory=lambda: ["default"]
    )  # a list: strict order; a table: weights
    threads: Annotated[int, Meta(ge=1, le=500)] = 5
    processes: Annotated[int, Meta(ge=1, le=100)] = 1
    start_timeout: Duration = Duration(90)  # until READY: the import of its modules counts
    memory_max: Size | None = None  # of each process: above it, another takes its place and it drains
    nice: Nice = 0
    user: str | None = None  # runs as this user; the agent needs the capability for it
    group: str | None = None
    unit: bool = False  # the agent does not run it: chargehand-worker@NAME.service does, with the rights of root
    env: dict[str, str] = {}
    limits: Limits = Limits()
    enabled: bool = True


class QueueSettings(Struct, frozen=True):
    """`[[queue]]`: what holds for all steps of a queue, whichever worker runs them."""

    name: Name
    limit: Annotated[int, Meta(ge=1)] | None = None  # most of its steps that stand at once
    rate: Rate | None = None  # most that begin in a time
    enabled: bool = True


class RetrySettings(Struct, frozen=True):
    attempts: Annotated[int, Meta(ge=1, le=1000)] = 1  # in all, the first included
    backoff: Duration = Duration(1)  # before the second attempt; doubles, with jitter
    max_backoff: Duration = Duration(60)


class Parameter(Struct, frozen=True):
    """One typed parameter of an action declared in TOML."""

    type: Literal["string", "integer", "number", "boolean"] = "string"
    pattern: str | None = None  # string: the whole value must match
    choices: list[Any] | None = None
    minimum: float | None = None  # integer, number
    maximum: float | None = None
    default: Any = None  # none: the parameter is required


class LockSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """A lock that several plans may hold at once. One that a plan holds alone is a name."""

    name: str
    most: Annotated[int, Meta(ge=0)] = 1  # holders at once; 0: any number that share it, none of them alone


class HookSettings(Struct, frozen=True):
    """What runs when a plan comes into a state. An action without further inputs is a name."""

    action: Name
    inputs: dict[str, Any] = {}


class ActionSettings(Struct, frozen=True):
    """An action that is a command: an argv list, never a shell string."""

    name: Name
    argv: Annotated[list[str], Meta(min_length=1)]
    params: dict[str, Parameter] = {}
    queue: Name = "default"
    timeout: Duration | None = None
    retry: RetrySettings = RetrySettings()
    on_lost: Literal["rerun", "pause"] = "rerun"
    exclusive: bool = False
    rescue: Literal["pause", "skip", "fail", "revert"] = "pause"  # when a step has failed for good
    limit: Annotated[int, Meta(ge=1)] | None = None  # most of its steps that stand at once, over all plans
    rate: Rate | None = None  # most that begin in a time
    reboots: bool = False  # it reboots its node, and is finished by the node's next boot
    singleton: bool | Literal["reject"] = False  # one plan with a step of it at a time; others wait, or are refused
    locks: list[str | LockSettings] = []  # that a plan with a step of it holds
    hooks: dict[str, Name | HookSettings] = {}  # plan state, or "ended" -> what then runs
    labels: list[str] = []  # what people may look for; every plan with a step of it has them
    privileged: bool = False  # runs in a group with unit = true, and only there
    env: dict[str, str] = {}
    enabled: bool = True


class RetentionSettings(Struct, frozen=True):
    """How long ended plans are kept."""

    succeeded: Duration = Duration(30 * 86_400)
    failed: Duration = Duration(365 * 86_400)
    cancelled: Duration = Duration(90 * 86_400)  # halted and reverted ones too
    rejected: Duration = Duration(30 * 86_400)
    most: Annotated[int, Meta(ge=0)] = 1_000_000  # ended plans in all; the oldest go first


class ActionsSettings(Struct, frozen=True):
    path: list[str] = field(default_factory=lambda: ["/etc/chargehand/actions"])
    modules: list[str] = []


class LogPattern(Struct, frozen=True, forbid_unknown_fields=True):
    """READY when a line of its output matches this regular expression."""

    log: str


class RolePatterns(Struct, frozen=True):
    """For a program that only logs what it is: regular expressions that set its role when a line matches."""

    active: str | None = None
    passive: str | None = None


class ProgramSettings(Struct, frozen=True):
    """`[[child]]`: any other program that the agent runs."""

    name: Name
    argv: Annotated[list[str], Meta(min_length=1)]
    ready: Literal["notify", "running"] | LogPattern = "running"
    role: RolePatterns | None = None
    after: list[Name] = []  # children that must be READY first: names here, worker groups, "orchestrator", "redis"
    start_timeout: Duration = Duration(90)  # until READY; then it is killed and started again
    stop_timeout: Duration = Duration(10)  # from its stop signal to SIGKILL
    stop_signal: str = "SIGTERM"
    watchdog: Duration | None = None  # with ready = "notify": the longest silence between two WATCHDOG=1
    last_words: bool = False  # the agent reads its output, so that its last line stands in the status when it ends
    directory: str = "/"  # where it runs
    memory_max: Size | None = None  # above it, it is stopped and started again
    nice: Nice = 0
    user: str | None = None
    group: str | None = None
    env: dict[str, str] = {}
    limits: Limits = Limits()
    enabled: bool = True


class ConsoleSettings(Struct, frozen=True):
    """`[console]`: pages, REST and metrics; a child of its own."""

    enabled: bool = False
    listen: list[str] = field(default_factory=lambda: ["127.0.0.1:8460"])  # ADDRESS:PORT, or unix:/path
    tokens_file: str | None = None  # of `chargehand console token`: who may read, who may act
    proxies: list[str] = []  # that say who asks: an address, a network, or unix:USER for one on this node
    user_header: str | None = None  # in which they say it
    actors: list[str] = []  # of those whom a proxy names: who may act; the others read
    session: Duration = Duration(12 * 3600)  # how long a browser is known
    memory_max: Size | None = None  # above it, it is replaced
    nice: Nice = 0
    env: dict[str, str] = {}
    limits: Limits = Limits()


class AgentSettings(Struct, frozen=True):
    ready_timeout: Duration = Duration(10)  # READY without Redis after this long; below TimeoutStartSec
    stop_timeout: Duration = Duration(25)  # what running steps get at a stop; below TimeoutStopSec
    shutdown_timeout: Duration = Duration(10)  # the same when the whole system goes down
    # The loader appends -NAME to both for /etc/chargehand/NAME.toml, as chargehand@NAME.service does.
    state_dir: str = "/var/lib/chargehand"
    runtime_dir: str = "/run/chargehand"


class Settings(Struct, frozen=True):
    node: NodeSettings = NodeSettings()
    executor: ExecutorSettings = ExecutorSettings()
    redis: RedisSettings = RedisSettings()
    executors: list[ExecutorAddress] = []
    agent: AgentSettings = AgentSettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    console: ConsoleSettings = ConsoleSettings()
    worker: list[WorkerSettings] = field(default_factory=lambda: [WorkerSettings(name="worker")])
    queue: list[QueueSettings] = []
    retention: RetentionSettings = RetentionSettings()
    actions: ActionsSettings = ActionsSettings()
    action: list[ActionSettings] = []
    child: list[ProgramSettings] = []
