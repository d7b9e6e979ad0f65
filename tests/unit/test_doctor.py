"""The checks of `chargehand doctor` on facts: what each finds, that none says anything of a sound set-up, the page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

import chargehand
from chargehand.config.fingerprint import orchestrator_values
from chargehand.config.plain import from_builtins
from chargehand.config.settings import RedisSettings, Settings
from chargehand.doctor import Finding
from chargehand.doctor.checks import CHECKS, exit_code, judge
from chargehand.doctor.facts import Facts, FileFault, Silence, SocketFacts
from chargehand.health import ChildStatus, DrainStatus, NodeStatus
from chargehand.store.census import Census, Seen
from chargehand.store.checkup import Checkup
from chargehand.store.membership import Member
from chargehand.store.profile import Code, Profile, Pulse
from chargehand.store.server import Host, SentinelSays, Server
from support.documents import DOCS, read

NOW_MS = 1_795_512_071_530
DAY_MS = 86_400_000

SOUND_INFO = {
    "redis_version": "7.2.4",
    "role": "master",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
    "used_memory": "1000000",
    "total_system_memory": "8000000000",
    "connected_clients": "12",
    "maxclients": "10000",
}
SOUND_UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "Type": "notify",
    "NotifyAccess": "main",
    "WatchdogUSec": "30s",
    "Restart": "always",
}


def seen(node: str, kind: str = "worker", *, silent: bool = False, **more: Any) -> Seen:
    given: dict[str, Any] = {"role": "working", "queues": ["default", f"@{node}"]} if kind == "worker" else {}
    common: dict[str, Any] = {
        "kind": kind,
        "node": node,
        "child": kind,
        "pid": 1,
        "started_ms": 0,
        "version": chargehand.__version__,
    }
    member = Member(**(common | given | more))
    return Seen(f"{kind}-{node}", member, 60.0 if silent else 1.0, silent)


def profile_of(one: Seen, settings: Settings, **more: Any) -> Profile:
    member = one.member
    given: dict[str, Any] = {"config": orchestrator_values(settings)} if member.kind == "orchestrator" else {}
    if member.kind == "worker":
        given["actions"] = {"hello": Code("default", "1")}
    return Profile(
        **{"node": member.node, "child": member.child, "kind": member.kind, "version": member.version} | given | more
    )


def settings_of(**sections: Any) -> Settings:
    return from_builtins({"node": {"name": "node-a"}, "redis": {"url": "redis://redis.example.com"}, **sections})


def facts_of(members: Iterable[Seen] = (), **changes: Any) -> Facts:
    """A sound set-up of two nodes, but for these changes."""
    settings = changes.get("settings", settings_of())
    some = list(members) or [
        seen("node-a", "orchestrator", role="active"),
        seen("node-b", "orchestrator", role="passive"),
        seen("node-a"),
        seen("node-b"),
    ]
    census = Census(NOW_MS, "default", "7:orchestrator-node-a", 4.0, "node-a", 0, 0, 0, {}, {"default": 0}, some)
    checkup = Checkup(
        profiles={one.incarnation: profile_of(one, settings) for one in some},
        format=1,
        strange=0,
        strange_last="",
        paused=[],
        paused_long=0,
        depths={"default": 3},
        wanted={},
    )
    sound: dict[str, Any] = {
        "node": "node-a",
        "now": NOW_MS / 1000,
        "user": "root",
        "root": True,
        "cores": 4,
        "settings": settings,
        "server": Server(dict(SOUND_INFO), {"save": "", "appendfsync": "everysec"}, [], [0.2] * 21, 3),
        "census": census,
        "checkup": checkup,
        "agent": NodeStatus("node-a", "active", "active (epoch 7); workers 1/1"),
        "socket": SocketFacts("/run/chargehand/agent.sock", 0o660, "chargehand", "chargehand"),
        "unit": dict(SOUND_UNIT),
    }
    return Facts(**(sound | changes))


def wrong(facts: Facts) -> list[Finding]:
    return [one for one in judge(facts) if one.severity != "ok"]


def only(facts: Facts) -> tuple[str, str]:
    """The one thing that is wrong: its check and severity."""
    (one,) = wrong(facts)
    assert one.text
    assert "\n" not in one.text
    assert one.severity == "note" or one.advice or one.check == "node-state", "what to do is said"
    return one.check, one.severity


def with_info(**info: str) -> Facts:
    facts = facts_of()
    assert facts.server is not None
    facts.server.info |= info
    return facts


def with_config(**config: str) -> Facts:
    facts = facts_of()
    assert facts.server is not None
    facts.server.config |= {name.replace("_", "-"): value for name, value in config.items()}
    return facts


def with_unit(**properties: str) -> Facts:
    return facts_of(unit=SOUND_UNIT | properties)


def with_checkup(**changes: Any) -> Facts:
    facts = facts_of()
    assert facts.checkup is not None
    facts.checkup = replace(facts.checkup, **changes)
    return facts


def with_census(**changes: Any) -> Facts:
    facts = facts_of()
    assert facts.census is not None
    facts.census = replace(facts.census, **changes)
    return facts


def with_profile(incarnation: str, **changes: Any) -> Facts:
    facts = facts_of()
    assert facts.checkup is not None
    facts.checkup.profiles[incarnation] = replace(facts.checkup.profiles[incarnation], **changes)
    return facts


def with_replicas(count: int, needed: int, **first: str) -> Facts:
    """`first`: how the first of them differs from one that is in step."""
    facts = facts_of(settings=settings_of(redis={"url": "redis://redis.example.com", "min_replicas": needed}))
    assert facts.server is not None
    for number in range(count):
        fields = {"ip": "10.0.0.1", "port": "6379", "state": "online", "lag": "1"} | (first if not number else {})
        facts.server.info[f"slave{number}"] = ",".join(f"{key}={value}" for key, value in fields.items())
    return facts


def sentinel_facts(*told: SentinelSays) -> Facts:
    return facts_of(sentinels=list(told))


def agent_of(state: str = "active", **more: Any) -> NodeStatus:
    return NodeStatus("node-a", state, f"{state} (said so)", **more)


SENTINEL = SentinelSays("s:1", master="m:6379", sentinels=3, replicas=1, quorum=2)

#: What is wrong, by the check that finds it and how bad it is. Faults of real servers and nodes are in
#: tests/integration/test_doctor.py and test_doctor_redis.py.
PLANTED = [
    ("redis-visible", "note", replace(facts_of(), server=Server({}, {}, ["INFO", "CONFIG GET"], [0.2], 0))),
    ("redis-rights", "error", facts_of(rights="the user may not ZADD")),
    ("redis-latency", "warning", facts_of(server=Server(SOUND_INFO, {}, [], [101.0] * 21, 0))),
    ("redis-latency", "error", facts_of(server=Server(SOUND_INFO, {}, [], [501.0] * 21, 0))),
    ("redis-latency", "note", facts_of(server=Server(SOUND_INFO, {}, [], [0.2] * 20 + [900.0], 0))),
    ("redis-latency", "warning", with_profile("worker-node-b", median_ms=150.0, worst_ms=200.0)),
    ("redis-version", "error", with_info(redis_version="6.0.16")),
    ("redis-persistence", "error", with_info(aof_last_write_status="err")),
    ("redis-persistence", "warning", with_info(rdb_last_bgsave_status="err")),
    ("redis-persistence", "warning", with_config(appendfsync="no")),
    ("redis-persistence", "error", with_info(aof_enabled="0")),
    ("redis-eviction", "note", with_info(maxmemory_policy="volatile-lru")),
    ("redis-eviction", "error", with_info(maxmemory_policy="volatile-lru", maxmemory="9000000000")),
    ("redis-memory", "warning", with_info(maxmemory="1300000")),
    ("redis-memory", "error", with_info(maxmemory="1100000")),
    ("redis-memory", "warning", with_info(total_system_memory="1300000")),
    ("redis-clients", "warning", with_info(connected_clients="8000")),
    ("redis-replicas", "error", with_info(role="slave", master_host="m")),
    ("redis-replicas", "note", with_replicas(1, 0)),
    ("redis-replicas", "note", with_replicas(1, 1)),
    ("redis-replicas", "error", with_replicas(1, 2)),
    ("redis-replicas", "error", with_replicas(1, 1, state="wait_bgsave")),
    ("redis-replicas", "error", with_config(min_replicas_to_write="1")),
    ("redis-replicas", "warning", with_replicas(3, 1, lag="11")),
    ("redis-sentinels", "warning", sentinel_facts(SENTINEL, SENTINEL, SentinelSays("s:3", trouble="refused"))),
    ("redis-sentinels", "error", sentinel_facts(SentinelSays("s:1", trouble="refused"))),
    ("redis-sentinels", "error", sentinel_facts(SENTINEL, replace(SENTINEL, master="other:6379"))),
    ("redis-sentinels", "error", sentinel_facts(SENTINEL, replace(SENTINEL, majority="NOQUORUM"))),
    ("redis-sentinels", "warning", sentinel_facts(replace(SENTINEL, sentinels=2))),
    ("redis-cluster", "warning", facts_of(hosts=[Host("n:1", ""), Host("n:2", "refused")])),
    ("redis-cluster", "error", facts_of(hosts=[Host("n:1", "refused"), Host("n:2", "refused")])),
    (
        "redis-cluster",
        "error",
        facts_of(
            hosts=[Host("n:1", "")],
            server=Server(SOUND_INFO | {"cluster_enabled": "1"}, {}, [], [0.2], 0, {"cluster_state": "fail"}),
        ),
    ),
    ("orchestrator-active", "error", with_census(lease_token=None)),
    ("orchestrator-failover", "warning", facts_of([seen("node-a", "orchestrator", role="active"), seen("node-a")])),
    (
        "orchestrator-load",
        "warning",
        facts_of(
            [
                seen("node-a", "orchestrator", role="active", share=85),
                seen("node-b", "orchestrator", role="passive"),
                seen("node-a"),
            ]
        ),
    ),
    (
        "members-heard",
        "warning",
        facts_of(
            [
                seen("node-a", "orchestrator", role="active"),
                seen("node-b", "orchestrator", role="passive"),
                seen("node-a"),
                seen("node-c", silent=True),
            ]
        ),
    ),
    ("nodes-clocks", "warning", with_profile("worker-node-b", skew_ms=-1_500)),
    ("nodes-clocks", "error", with_profile("worker-node-b", skew_ms=61_000)),
    ("nodes-configuration", "warning", with_profile("orchestrator-node-b", config={})),
    ("actions-loaded", "warning", with_profile("worker-node-b", problems=["cannot import x"])),
    ("actions-known", "error", with_profile("worker-node-b", actions={})),
    ("actions-code", "warning", with_profile("worker-node-b", actions={"hello": Code("default", "2")})),
    ("queues-stranded", "error", with_checkup(depths={"reports": 2})),
    ("queues-stranded", "error", with_checkup(depths={"@node-z": 1}, wanted={"@node-z": ["p"]})),
    ("data-readable", "warning", with_checkup(strange=2, strange_last="[]")),
    ("data-format", "error", with_checkup(format=9)),
    ("data-inbox", "warning", with_census(inbox=60_000)),
    ("data-inbox", "error", with_census(inbox=100_000)),
    ("plans-paused", "warning", with_checkup(paused=[("p", NOW_MS - 2 * DAY_MS)], paused_long=1)),
    ("executors-others", "warning", facts_of(others={"east": "Redis cannot be reached", "west": ""})),
    ("node-agent", "error", facts_of(agent=None, silence=Silence("not-running", "none listens"))),
    ("node-agent", "error", facts_of(agent=None, silence=Silence("no-answer", "no answer in 2 s"))),
    ("node-agent", "note", facts_of(agent=None, silence=Silence("not-allowed", "may not"))),
    (
        "node-agent",
        "note",
        facts_of(agent=None, silence=Silence("not-running", "none listens"), unit={"LoadState": "not-found"}),
    ),
    ("node-state", "error", facts_of(agent=agent_of("waiting"))),
    ("node-state", "warning", facts_of(agent=agent_of("starting"))),
    ("node-state", "warning", facts_of(agent=agent_of(degraded=["worker: cannot import"]))),
    ("node-state", "warning", facts_of(agent=agent_of(children=[ChildStatus("worker", crashes=2, last_words="x")]))),
    ("node-drained", "note", facts_of(agent=agent_of("drained", drain=DrainStatus("ada", NOW_MS / 1000 - 60)))),
    ("node-drained", "warning", facts_of(agent=agent_of("drained", drain=DrainStatus("ada", NOW_MS / 1000 - 7_200)))),
    ("node-boot", "warning", with_unit(UnitFileState="disabled")),
    ("node-boot", "warning", with_unit(LoadState="masked", UnitFileState="masked", ActiveState="inactive")),
    ("node-boot", "warning", facts_of(unit={"LoadState": "not-found", "ActiveState": "inactive"})),
    ("node-boot", "warning", with_unit(ActiveState="failed")),
    ("node-watchdog", "warning", with_unit(WatchdogUSec="0")),
    ("node-watchdog", "error", with_unit(NotifyAccess="none")),
    ("node-watchdog", "warning", with_unit(Type="simple")),
    ("node-watchdog", "warning", with_unit(Restart="no")),
    ("node-socket", "error", facts_of(socket=SocketFacts("s", 0o666, "a", "a"))),
    ("node-socket", "warning", facts_of(socket=SocketFacts("s", 0o600, "a", "a"))),
    ("node-secrets", "error", facts_of(files=[FileFault("redis.password_file", "exposed", "is open")])),
    ("node-secrets", "error", facts_of(files=[FileFault("redis.ca_file", "absent", "cannot read")])),
    ("node-secrets", "note", facts_of(files=[FileFault("redis.password_file", "unreadable", "cannot read")])),
    ("node-privileged", "warning", facts_of(privileged={"chargehand-worker@root.service": {"ActiveState": "failed"}})),
    (
        "node-trusted",
        "error",
        facts_of(privileged={"chargehand-worker@worker.service": None}, untrusted=["/x: is writable by others"]),
    ),
    (
        "settings-lease",
        "warning",
        facts_of(settings=settings_of(orchestrator={"lease": {"ttl": "60s", "renew": "1s"}})),
    ),
    ("settings-threads", "note", facts_of(settings=settings_of(worker=[{"name": "w", "threads": 129}]))),
    ("settings-retention", "warning", facts_of(settings=settings_of(retention={"most": 0}))),
    ("settings-timeouts", "note", facts_of(settings=settings_of(action=[{"name": "x", "argv": ["/bin/x"]}]))),
]


@pytest.mark.parametrize(
    ("check", "severity", "facts"), PLANTED, ids=[f"{check}-{number}" for number, (check, *_) in enumerate(PLANTED)]
)
def test_what_is_planted_is_found_and_nothing_else(check: str, severity: str, facts: Facts) -> None:
    assert only(facts) == (check, severity)


def test_a_sound_set_up_passes_every_check() -> None:
    found = judge(facts_of())
    assert {one.severity for one in found} == {"ok"}
    assert exit_code(found) == 0


def test_checks_that_have_nothing_to_look_at_are_left_out() -> None:
    nothing = Facts(node="node-a", now=0.0, user="ada", settings=None, refusals=["x.toml:3: unknown key"])
    assert {one.check: one.severity for one in judge(nothing)} == {"node-configuration": "error", "node-agent": "ok"}
    closed = replace(nothing, closed=True)
    assert {one.severity for one in wrong(closed)} == {"note"}
    away = facts_of(
        server=None, census=None, checkup=None, fault="refused", fault_text="redis:6379: Connection refused"
    )
    assert only(away) == ("redis-reachable", "error")
    assert not {one.check for one in judge(away)} & {"redis-version", "orchestrator-active", "queues-stranded"}
    assert not {one.check for one in judge(facts_of(unit=None))} & {"node-boot", "node-watchdog"}


@pytest.mark.parametrize("fault", ["secret", "denied"])
def test_redis_that_only_this_user_cannot_ask(fault: Any) -> None:
    facts = facts_of(
        server=None, census=None, checkup=None, fault=fault, fault_text="cannot read", user="ada", root=False
    )
    assert only(facts) == ("redis-reachable", "note")
    facts.agent = agent_of("working")
    assert only(facts) == ("redis-reachable", "note")
    facts.root = True
    assert only(facts) == ("redis-reachable", "error")


def test_a_clock_of_the_server_alone() -> None:
    facts = facts_of()
    assert facts.checkup is not None
    assert facts.server is not None
    facts.server.skew_ms = 5_000
    for profile in facts.checkup.profiles.values():
        profile.skew_ms = 5_010
    (one,) = wrong(facts)
    assert one.text == "the clock of the Redis server differs from all nodes'"


def test_what_is_shown_of_versions_and_values() -> None:
    facts = facts_of()
    assert facts.census is not None
    facts.census.members[1].member.version = "0.0.1"
    (one,) = wrong(facts)
    assert one.evidence == sorted([f"{chargehand.__version__}: node-a, node-b", "0.0.1: node-b"])
    later = orchestrator_values(settings_of(orchestrator={"lease": {"ttl": "9s", "renew": "1s"}}))
    (one,) = wrong(with_profile("orchestrator-node-b", config=later))
    assert one.evidence == ["orchestrator.lease.ttl is 5s on node-a; 9s on node-b"]


def test_a_queue_of_one_node_and_one_that_nobody_serves() -> None:
    orchestrators = [seen("node-a", "orchestrator", role="active"), seen("node-b", "orchestrator", role="passive")]
    facts = facts_of([*orchestrators, seen("node-a", queues=["default", "big"]), seen("node-b")])
    assert only(facts) == ("queues-nodes", "note")
    facts = with_profile("worker-node-b", actions={"hello": Code("default", "1"), "report": Code("reports", "1")})
    assert only(facts) == ("queues-served", "warning")
    draining = facts_of([*orchestrators, seen("node-a", role="draining")])
    assert ("queues-stranded", "error") in {(one.check, one.severity) for one in wrong(draining)}


def test_an_embedded_server_needs_no_second_node() -> None:
    alone = [seen("node-a", "orchestrator", role="active"), seen("node-a")]
    for redis in ({"embedded": True}, {"url": "unix:///run/chargehand/redis.sock"}):
        assert wrong(facts_of(alone, settings=settings_of(redis=redis))) == []
    named = settings_of(redis={"embedded": True}, executors=[{"name": "default", "url": "redis://other"}])
    assert only(facts_of(alone, settings=named)) == ("executor-name", "warning")


def test_files_that_were_changed_since() -> None:
    facts = facts_of(settings=settings_of(retention={"failed": "7d"}))
    assert facts.checkup is not None
    for one in ("orchestrator-node-a", "orchestrator-node-b"):
        facts.checkup.profiles[one].config = orchestrator_values(settings_of())
    (one_found,) = wrong(facts)
    assert one_found.evidence == ["retention.failed: 365d in orchestrator, 7d in the files"]
    assert facts.settings is not None
    facts.node = "a-client"
    assert wrong(facts) == [], "on a machine that is no node of it nothing runs by its files"


def test_the_worst_comes_first_and_decides_the_code() -> None:
    facts = with_info(maxmemory_policy="volatile-lru", redis_version="5.0")
    facts.agent = agent_of(degraded=["something"])
    assert [one.severity for one in wrong(facts)] == ["error", "warning", "note"]
    assert exit_code(judge(facts)) == 2
    assert exit_code([Finding("x", "warning", "")]) == 1
    assert exit_code([Finding("x", "note", "")]) == 0


def test_the_page_has_a_row_for_each_check() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    rows = re.findall(r"^\| `([a-z-]+)` \| ", read(DOCS / "doctor.md"), re.MULTILINE)
    assert rows == names


def test_every_check_is_planted_somewhere() -> None:
    """Here, or in the tests above and in those of real servers and nodes."""
    here = {check for check, _, _ in PLANTED}
    elsewhere = {"redis-reachable", "nodes-versions", "queues-served", "queues-nodes", "executor-name", "node-reloaded"}
    assert {check.name for check in CHECKS} == here | elsewhere | {"node-configuration"}


def test_a_pulse_tells_latency_and_the_clocks_difference() -> None:
    pulse = Pulse()
    assert (pulse.skew_ms, pulse.median_ms, pulse.worst_ms) == (0, 0.0, 0.0)
    for took in (0.002, 0.5, 0.004):  # seconds; our clock is 250 ms ahead, the slow answer came late
        pulse.note(took, 1_000.0 + 0.250 + took / 2 + (0.2 if took == 0.5 else 0.0), 1_000_000)
    assert (pulse.skew_ms, pulse.median_ms, pulse.worst_ms) == (250, 4.0, 500.0)
    for _ in range(30):
        pulse.note(0.001, 1_000.0, 1_000_000)
    assert pulse.worst_ms == 1.0, "it speaks of the last minute"


def test_redis_settings_have_no_secret_in_what_nodes_compare() -> None:
    settings = settings_of(redis={"url": "redis://h", "password_file": "/secret/path", "username": "ada"})
    values = orchestrator_values(settings)
    assert not any("secret" in text or "ada" in text for text in (*values, *values.values()))
    assert isinstance(settings.redis, RedisSettings)
