"""The table of checks, and what comes of them. docs/doctor.md has a row for each.

A check looks at facts and yields what is wrong; one that yields nothing has passed. One that has nothing to look at
(no Redis, no systemd, another kind of set-up) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from chargehand.config.settings import Settings
from chargehand.doctor import Finding, executor, node, redis
from chargehand.doctor.facts import Facts, Found
from chargehand.doctor.gather import gather

__all__ = ["CHECKS", "EXIT", "Check", "examine", "exit_code", "judge"]


class Check(NamedTuple):
    name: str
    passed: str  # what is so when it finds nothing
    looks: Callable[[Facts], Iterable[Found]]
    applies: Callable[[Facts], object]


def _always(facts: Facts) -> bool:  # noqa: ARG001 - the shape of `applies`
    return True


def _configured(facts: Facts) -> bool:
    return facts.settings is not None


def _server(facts: Facts) -> bool:
    return facts.server is not None


def _informed(facts: Facts) -> bool:
    return facts.server is not None and bool(facts.server.info)


def _executor(facts: Facts) -> bool:
    return facts.checkup is not None


def _systemd(facts: Facts) -> bool:
    return facts.unit is not None


CHECKS = (
    # Redis
    Check("redis-reachable", "Redis answers", redis.reachable, _configured),
    Check("redis-rights", "the Redis user may do all that is needed", redis.rights, _server),
    Check("redis-visible", "Redis tells all that is looked at", redis.visible, _server),
    Check("redis-latency", "Redis answers fast enough for the lease", redis.latency, _server),
    Check("redis-version", "Redis is new enough", redis.version, _informed),
    Check("redis-persistence", "Redis keeps its data", redis.persistence, _informed),
    Check("redis-eviction", "Redis evicts nothing", redis.eviction, _informed),
    Check("redis-memory", "Redis has room", redis.memory, _informed),
    Check("redis-clients", "Redis takes more connections", redis.clients, _informed),
    Check("redis-replicas", "replicas are as configured", redis.replicas, _informed),
    Check("redis-sentinels", "the sentinels agree and can fail over", redis.sentinels, lambda facts: facts.sentinels),
    Check(
        "redis-cluster",
        "the cluster is whole",
        redis.cluster,
        lambda facts: facts.hosts or (facts.server is not None and facts.server.cluster),
    ),
    # The executor
    Check("orchestrator-active", "an orchestrator is active", executor.active, _executor),
    Check("orchestrator-failover", "another node can take over", executor.failover, _executor),
    Check("orchestrator-load", "the orchestrator keeps up", executor.saturated, _executor),
    Check("members-heard", "all members are heard", executor.silent, _executor),
    Check("nodes-clocks", "clocks agree", executor.clocks, _executor),
    Check("nodes-versions", "all nodes run one version", executor.versions, _executor),
    Check("nodes-configuration", "nodes agree in what they share", executor.configuration, _executor),
    Check("actions-loaded", "workers have loaded all their actions", executor.imports, _executor),
    Check("actions-known", "workers know all actions of their queues", executor.missing, _executor),
    Check("actions-code", "workers run the same code", executor.code, _executor),
    Check("queues-stranded", "every step can be taken", executor.stranded, _executor),
    Check("queues-served", "every queue that actions name is served", executor.unserved, _executor),
    Check("queues-nodes", "every queue is served by several nodes", executor.single_node, _executor),
    Check("data-readable", "every event could be read", executor.unreadable, _executor),
    Check("data-format", "the data can be read by this version", executor.format_of_data, _executor),
    Check("data-inbox", "the inbox has room", executor.inbox, _executor),
    Check("plans-paused", "no plan has been paused for long", executor.paused, _executor),
    Check("executor-name", "no other executor has this one's name", executor.name, _configured),
    Check("executors-others", "the other executors get plans", executor.others, lambda facts: facts.others),
    # This node
    Check("node-configuration", "the configuration is sound", node.configuration, _always),
    Check("node-reloaded", "the agent runs by the files as they are", node.reloaded, _executor),
    Check("node-agent", "the agent answers", node.agent, _always),
    Check("node-state", "the node is not degraded", node.state, lambda facts: facts.agent),
    Check("node-drained", "the node is not drained", node.drained, lambda facts: facts.agent),
    Check("node-boot", "the agent starts at boot", node.at_boot, _systemd),
    Check("node-watchdog", "systemd watches the agent", node.watchdog, _systemd),
    Check("node-socket", "the agent's socket is open to whom it should be", node.socket, lambda facts: facts.socket),
    Check("node-secrets", "secrets can be read by nobody else", node.files, _configured),
    Check("node-privileged", "privileged workers run", node.privileged, lambda facts: facts.privileged),
    Check("node-trusted", "privileged workers can trust their files", node.trusted, lambda facts: facts.privileged),
    # What is likely a mistake
    Check("settings-lease", "the lease is neither short nor long", node.lease, _configured),
    Check("settings-threads", "the cores bear the threads", node.threads, _configured),
    Check("settings-retention", "ended plans are kept", node.kept, _configured),
    Check("settings-timeouts", "every command has a time-out", node.timeouts, _configured),
)

#: Worst first, each with its exit code.
EXIT = {"error": 2, "warning": 1, "note": 0, "ok": 0}


def judge(facts: Facts) -> list[Finding]:
    """What every check that applies says: what is wrong, worst first; then an "ok" for each that found nothing."""
    findings: list[Finding] = []
    for check in CHECKS:
        if check.applies(facts):
            found = [Finding(check.name, *one) for one in check.looks(facts)]
            findings += found or [Finding(check.name, "ok", check.passed)]
    order = list(EXIT)
    return sorted(findings, key=lambda one: order.index(one.severity))


def examine(
    settings: Settings | None, *, files: Iterable[Path] = (), refusals: Iterable[str] = (), socket: Path | None = None
) -> list[Finding]:
    """Look at this node, its executor and its Redis. As `gather` and `judge`; it takes a second, seconds when Redis
    does not answer. Raises nothing that is about the set-up."""
    return judge(gather(settings, files=files, refusals=refusals, socket=socket))


def exit_code(findings: Iterable[Finding]) -> int:
    """0: nothing, or notes; 1: warnings; 2: errors."""
    return max((EXIT[one.severity] for one in findings), default=0)
