"""Checks of the server and of the way to it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import median

from chargehand.config.settings import RedisSettings
from chargehand.doctor.facts import Facts, Found, error, note, warning
from chargehand.store.server import Fault, Server

__all__ = [
    "clients",
    "cluster",
    "eviction",
    "latency",
    "memory",
    "persistence",
    "reachable",
    "replicas",
    "rights",
    "sentinels",
    "version",
    "visible",
]

_OLDEST = (6, 2)
_SLOW = 0.02  # of the lease's ttl: a renewal is one round trip, a step takes several
_TOO_SLOW = 0.1  # of it: a few slow ones in a row cost the lease
_NEAR = 0.5  # of redis.timeout: the next one may be over it
_FILLED = 75  # percent of the memory: time to do something
_FULL = 90  # percent: new plans are about to be refused
_CROWDED = 80  # percent of the connections that the server takes
_LAG = 10  # seconds that a replica has said nothing

_ADVICE: dict[Fault, tuple[str, ...]] = {
    "acl": ("give the user the rights that docs/security.md lists (ACL SETUSER), for this executor's keys",),
    "closed": ("does the server speak TLS there? then the url begins with rediss://", "look at the server's own log"),
    "database": ("the url ends with the number of the database; the server has `databases` of them, a cluster one",),
    "denied": ("the socket's mode and group decide who may connect: add the service's user to that group",),
    "exposed": ("close the file to others; if they may have read it, change the password",),
    "loading": ("wait: the server reads its data from disk; see its log for how far it is",),
    "login": (
        "compare redis.username and the text of redis.password_file with the server's ACL (ACL LIST there)",
        "a server with no user but a password: leave redis.username out",
    ),
    "moved": ("write the url as redis+cluster://HOST:PORT,HOST:PORT",),
    "name": ("correct the host in redis.url, or the name service: getent hosts HOST",),
    "not-found": ("look at the sentinels or the cluster's nodes: the checks below say which answer",),
    "other": ("look at the server's own log",),
    "refused": (
        "is the server running, and does it listen on this address (`bind`, `protected-mode`) and port?",
        "correct redis.url if it is another: chargehand config show",
    ),
    "replica": ("the url must lead to the master; with sentinels write redis+sentinel://",),
    "secret": ("correct the path, or let the service's group read the file: chown root:chargehand, chmod 0640",),
    "silent": (
        "is the port open in the firewalls between? firewall-cmd --list-all there; nc -zv HOST PORT here",
        "does the server hang? redis-cli --latency there",
    ),
    "tls": (
        "a server without TLS: then the url begins with redis://",
        "its certificate must name the host of the url, and come from an authority in redis.ca_file",
        "it may ask for a certificate of ours: redis.cert_file and redis.key_file",
    ),
}

_AT_WORK = {"active", "passive", "working"}


def reachable(facts: Facts) -> Iterator[Found]:
    if facts.fault is None:
        return
    evidence = []
    if facts.settings is not None:
        evidence.append(f"url: {_url(facts)}")
        if facts.settings.redis.username:
            evidence.append(f"username: {facts.settings.redis.username}")
    if facts.agent is not None:
        evidence.append(f"this node's agent says: {facts.agent.status}")
    if facts.embedded and facts.fault == "refused":
        advice: tuple[str, ...] = (f"the agent runs this server: systemctl status {facts.unit_name}",)
    else:
        advice = _ADVICE[facts.fault]
    if facts.fault == "silent" and _url(facts).startswith("rediss"):
        advice = ("a server without TLS does not answer to it: then the url begins with redis://", *advice)
    if facts.fault in {"secret", "denied"} and not facts.root and facts.agent and facts.agent.state in _AT_WORK:
        text = f"{facts.user} cannot ask Redis, this node's agent can: {facts.fault_text}"
        yield note(text, evidence, "run it as root, or as a member of the service's group")
        return
    text = f"Redis cannot be reached from here: {facts.fault_text}"
    yield error(text, [*evidence, "nothing could be looked at that is in it"], *advice)


def _url(facts: Facts) -> str:
    redis: RedisSettings = facts.settings.redis if facts.settings is not None else RedisSettings()
    return redis.url or "embedded, on this node"


def rights(facts: Facts) -> Iterator[Found]:
    if facts.rights:
        yield error(
            f"Redis refuses what is needed: {facts.rights}",
            [f"url: {_url(facts)}"],
            "a right that is missing is given with ACL SETUSER, as in docs/security.md: orchestrators and workers wait",
        )


def visible(facts: Facts) -> Iterator[Found]:
    server = _server(facts)
    if server.refused:
        unseen = {"INFO": "version, persistence, memory, replicas", "CONFIG GET": "appendfsync, min-replicas-to-write"}
        yield note(
            f"the Redis user may not {' and '.join(server.refused)}: not all could be looked at",
            [f"without {command}: {unseen[command]}" for command in server.refused],
            "nothing else needs it; to have it looked at once: ACL SETUSER NAME +info +config|get",
        )


def latency(facts: Facts) -> Iterator[Found]:
    settings = facts.settings
    assert settings is not None
    ttl_ms = settings.orchestrator.lease.ttl * 1000
    timeout_ms = settings.redis.timeout * 1000
    trips = _server(facts).round_trips_ms
    seen = {f"from here ({len(trips)} round trips)": (median(trips), max(trips))}
    seen |= {
        f"{one.member.node}/{one.member.child}, in the last minute": (profile.median_ms, profile.worst_ms)
        for one, profile in facts.profiles
    }
    slow = {where: pair for where, pair in seen.items() if pair[0] > _SLOW * ttl_ms}
    evidence = [f"{where}: median {pair[0]:.1f} ms, worst {pair[1]:.1f} ms" for where, pair in slow.items()]
    advice = (
        "what stands between: ping HOST; what the server does: redis-cli --latency, SLOWLOG GET",
        'a far-away Redis needs a longer lease: orchestrator.lease = { ttl = "15s", renew = "3s" }',
    )
    if slow:
        most = max(pair[0] for pair in slow.values())
        say = error if most > _TOO_SLOW * ttl_ms else warning
        yield say(f"Redis answers in {most:.0f} ms, too slow for a lease of {ttl_ms / 1000:g} s", evidence, *advice)
        return
    late = {where: pair for where, pair in seen.items() if pair[1] > _NEAR * timeout_ms}
    if late:
        evidence = [f"{where}: median {pair[0]:.1f} ms, worst {pair[1]:.1f} ms" for where, pair in late.items()]
        yield note(f"an answer took more than half of redis.timeout ({timeout_ms / 1000:g} s)", evidence, advice[0])


def version(facts: Facts) -> Iterator[Found]:
    found = _server(facts).info.get("redis_version", "")
    numbers = tuple(int(one) for one in re.findall(r"\d+", found)[:2])
    if numbers and numbers < _OLDEST:
        yield error(f"Redis {found} is too old: 6.2 or later is needed, or Valkey", [], "RHEL 9 has 6.2 and 7")


def persistence(facts: Facts) -> Iterator[Found]:
    server = _server(facts)
    info = server.info
    if info.get("aof_last_write_status", "ok") != "ok":
        yield error("Redis cannot write its append-only file", _of(info, "aof_last_write_status"), "is its disk full?")
    for key in ("aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        if info.get(key, "ok") != "ok":
            yield warning("Redis' last save in the background failed", _of(info, key), "is its disk or memory full?")
    save = server.config.get("save")
    aof_on = "redis-cli CONFIG SET appendonly yes && redis-cli CONFIG REWRITE"
    if info.get("aof_enabled") == "0":
        evidence = [*_of(info, "aof_enabled"), *([] if save is None else [f'save: "{save}"'])]
        if save == "":
            yield error("Redis keeps nothing on disk: when it ends, every plan is gone", evidence, aof_on)
        else:
            text = "Redis writes snapshots only: what came after the last one is lost when it crashes"
            yield warning(text, evidence, aof_on)
    elif server.config.get("appendfsync") == "no":
        text = "Redis leaves it to the kernel when its append-only file is on disk: half a minute may be lost"
        mend = "redis-cli CONFIG SET appendfsync everysec && redis-cli CONFIG REWRITE"
        yield warning(text, ["appendfsync: no"], mend)


def eviction(facts: Facts) -> Iterator[Found]:
    info = _server(facts).info
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return
    evidence = _of(info, "maxmemory_policy", "maxmemory_human", "evicted_keys")
    mend = "redis-cli CONFIG SET maxmemory-policy noeviction && redis-cli CONFIG REWRITE"
    if info.get("maxmemory", "0") == "0":
        yield note(f"Redis would evict keys ({policy}) if it had a maxmemory", evidence, mend)
    else:
        yield error(f"Redis evicts keys when it is full ({policy}), the lease and plans among them", evidence, mend)


def memory(facts: Facts) -> Iterator[Found]:
    info = _server(facts).info
    used, most = _number(info, "used_memory"), _number(info, "maxmemory")
    of = "its maxmemory"
    if not most:
        most, of = _number(info, "total_system_memory"), "its machine's memory, with no maxmemory"
    if not most:
        return
    share = round(100 * used / most)
    evidence = _of(info, "used_memory_human", "maxmemory_human", "total_system_memory_human")
    advice = ("keep ended plans for a shorter time ([retention]), or give it more memory",)
    if share >= _FULL:
        yield error(f"Redis uses {share} % of {of}: new plans are refused when it is full", evidence, *advice)
    elif share >= _FILLED:
        yield warning(f"Redis uses {share} % of {of}", evidence, *advice)


def clients(facts: Facts) -> Iterator[Found]:
    server = _server(facts)
    most = _number(server.info, "maxclients") or _number(server.config, "maxclients")
    connected = _number(server.info, "connected_clients")
    if most and 100 * connected >= _CROWDED * most:
        yield warning(
            f"{connected} clients are connected, and Redis takes {most}",
            _of(server.info, "connected_clients", "rejected_connections"),
            "redis-cli CLIENT LIST shows whose they are; raise maxclients and the server's open files",
        )


def replicas(facts: Facts) -> Iterator[Found]:
    assert facts.settings is not None
    server, needed = _server(facts), facts.settings.redis.min_replicas
    info = server.info
    if info.get("role") == "slave":
        yield error(
            "the server is a replica: nothing can be written there",
            _of(info, "role", "master_host", "master_port"),
            *_ADVICE["replica"],
        )
        return
    if "role" not in info:
        return
    known = [dict(part.split("=", 1) for part in info[key].split(",") if "=" in part) for key in _replica_keys(info)]
    evidence = [f"replica {_address(one)}: {one.get('state')}, lag {one.get('lag')} s" for one in known]
    good = sum(_in_step(one) for one in known)
    to_write = _number(server.config, "min-replicas-to-write")
    if good < max(needed, to_write):
        wanted = f"redis.min_replicas = {needed}" if needed > good else f"min-replicas-to-write {to_write}"
        text = f"{good} {'replica is' if good == 1 else 'replicas are'} in step, and {wanted}: nothing is acknowledged"
        yield error(text, evidence, "bring the replicas back, or lower it on all nodes and clients")
        return
    for one in known:
        if not _in_step(one):
            yield warning(f"replica {_address(one)} is not in step", evidence, "look at its own log")
    if known and not needed:
        text = "a failover may lose plans that were acknowledged: Redis has replicas and redis.min_replicas is 0"
        mend = "redis.min_replicas = 1 on all nodes and clients; docs/high-availability.md says what it costs"
        yield note(text, evidence, mend)
    elif needed and good == needed:
        text = f"redis.min_replicas = {needed}, and there are {good}: without one of them all stands still"
        yield note(text, evidence, "one replica more than are needed")


def _in_step(replica: dict[str, str]) -> bool:
    return replica.get("state") == "online" and _number(replica, "lag") <= _LAG


def _address(replica: dict[str, str]) -> str:
    return f"{replica.get('ip')}:{replica.get('port')}"


def _replica_keys(info: dict[str, str]) -> list[str]:
    return [key for key in info if re.fullmatch(r"slave\d+", key)]


def sentinels(facts: Facts) -> Iterator[Found]:
    answering = [one for one in facts.sentinels if not one.trouble]
    away = [f"{one.address}: {one.trouble}" for one in facts.sentinels if one.trouble]
    if away:
        text = f"{len(away)} of {len(facts.sentinels)} sentinels in redis.url do not answer"
        say = warning if answering else error
        yield say(
            text, away, "start them, or correct redis.url; their login is sentinel_username, sentinel_password_file"
        )
    evidence = [
        f"{one.address}: master {one.master}, {one.replicas} replicas, {one.sentinels} sentinels, quorum {one.quorum}"
        for one in answering
    ]
    if len({one.master for one in answering}) > 1:
        text = "the sentinels do not agree who the master is"
        yield error(text, evidence, "a failover ends in seconds; after that: SENTINEL RESET at the one that is wrong")
    for one in answering:
        if one.majority:
            text = f"there would be no failover now: {one.majority}"
            yield error(text, evidence, "start the missing sentinels: redis-cli -p 26379 SENTINEL CKQUORUM MASTER")
            return
    if answering and max(one.sentinels for one in answering) < 3:
        text = "fewer than three sentinels: when one is away there is no majority"
        yield warning(text, evidence, "run three or five")


def cluster(facts: Facts) -> Iterator[Found]:
    away = [f"{one.address}: {one.trouble}" for one in facts.hosts if one.trouble]
    if away:
        say = warning if len(away) < len(facts.hosts) else error
        yield say(f"{len(away)} of {len(facts.hosts)} nodes in redis.url do not answer", away, "start them")
    if facts.server is None:
        return
    state = facts.server.cluster.get("cluster_state", "ok")
    if state != "ok":
        evidence = _of(facts.server.cluster, "cluster_slots_ok", "cluster_slots_fail", "cluster_known_nodes")
        yield error(f"the cluster's state is {state}", evidence, "redis-cli --cluster check HOST:PORT")
    if facts.server.info.get("cluster_enabled") == "1" and not facts.hosts:
        text = "the server is a node of a cluster, and redis.url names it alone: when the slot moves, all stands still"
        yield warning(text, [f"url: {_url(facts)}"], *_ADVICE["moved"])


def _server(facts: Facts) -> Server:
    assert facts.server is not None
    return facts.server


def _number(facts: dict[str, str], name: str) -> int:
    """0 where it is not told, or in words that no server of ours uses."""
    text = facts.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _of(facts: dict[str, str], *names: str) -> list[str]:
    return [f"{name}: {facts[name]}" for name in names if facts.get(name)]
