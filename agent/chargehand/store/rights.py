"""What the Redis user of an executor must be allowed, and the test of it when a process connects.

A right that is missing shows at once and by name, not weeks later when the command is needed.
"""

from __future__ import annotations

from chargehand.store.connection import Command, Full, Line, Refused
from chargehand.store.keys import Keys
from chargehand.store.scripts import SELFTEST

__all__ = ["COMMANDS", "check_rights", "eviction_policy", "rule"]

#: Commands that scripts or programs use, each with arguments that do no harm; `K` and `L` are keys, gone afterwards.
_TRIALS = (
    "SET K 1 PX 1000",
    "GET K",
    "GETRANGE K 0 0",
    "SETRANGE K 0 1",
    "STRLEN K",
    "EXISTS K",
    "EXPIRE K 1",
    "PEXPIRE K 1000",
    "PERSIST K",
    "PTTL K",
    "RENAME K L",
    "TIME",
    "HSET K f 1",
    "HGET K f",
    "HMGET K f",
    "HGETALL K",
    "HDEL K f",
    "HEXISTS K f",
    "HKEYS K",
    "HVALS K",
    "HLEN K",
    "HSCAN K 0",
    "RPUSH K 1",
    "LPUSH K 1",
    "LPOP K",
    "LINDEX K 0",
    "LLEN K",
    "LRANGE K 0 0",
    "LTRIM K 0 0",
    "SADD K m",
    "SREM K m",
    "SMEMBERS K",
    "ZADD K 1 m",
    "ZREM K m",
    "ZCARD K",
    "ZCOUNT K 0 1",
    "ZSCORE K m",
    "ZMSCORE K m",
    "ZRANK K m",
    "ZRANGE K 0 0",
    "ZRANGEBYSCORE K 0 1",
    "XADD K * f 1",
    "XDEL K 0-1",
    "XLEN K",
    "XREVRANGE K + - COUNT 1",
    "XREAD COUNT 1 STREAMS K 0",
    "XTRIM K MINID 1",
    "UNLINK K",
    "DEL K L",
)

#: All of them: those that are tried, and those that the trial itself or waiting needs.
COMMANDS = (
    *(trial.split()[0] for trial in _TRIALS),
    "PUBLISH",
    "BLPOP",
    "WAIT",
    "INFO",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "EVALSHA",
    "SCRIPT|LOAD",
    "PING",
)


def rule(executor: str) -> str:
    """The words after `ACL SETUSER NAME on >PASSWORD`: exactly what an executor needs."""
    prefix = f"chargehand:{{{executor}}}:*"
    return f"resetkeys ~{prefix} resetchannels &{prefix} -@all " + " ".join(f"+{one.lower()}" for one in COMMANDS)


def eviction_policy(line: Line) -> str:
    """The `maxmemory-policy` of a server that evicts. Empty also where it does not say: INFO is not needed."""
    try:
        told = line.call("INFO", "memory").decode().split("\r\n")
    except Refused:
        return ""
    found = dict(one.split(":", 1) for one in told if ":" in one)
    policy: str = found.get("maxmemory_policy", "noeviction")
    return policy if policy != "noeviction" and found.get("maxmemory", "0") != "0" else ""


def check_rights(line: Line, keys: Keys) -> None:
    """Try each command as this user. Raises `Refused`, naming all that are missing; `Unavailable`."""
    key, other = f"{keys.prefix}selftest", f"{keys.prefix}selftest2"
    arguments: list[str | int] = []
    for trial in _TRIALS:
        name, *words = trial.split()
        arguments += (name, len(words), *({"K": key, "L": other}.get(word, word) for word in words))
    refused = line.call(*SELFTEST([key, other], f"{keys.prefix}selftest", *arguments))
    missing = {name.decode() for name in refused[::2]}
    why = refused[1].decode() if refused else ""
    # Not in a script, where some servers do not take them. With something to pop BLPOP does not block.
    alone: dict[str, list[Command]] = {"BLPOP": [("RPUSH", key, 1), ("BLPOP", key, 0.01), ("DEL", key)]}
    if line.confirmation:
        alone["WAIT"] = [("WAIT", 0, 1)]
    for name, commands in alone.items() if not missing else ():
        try:
            line.batch(commands)
        except Full:
            pass  # no room for the trial: it drains by what is allowed then, and that was tried
        except Refused as error:
            missing, why = {name}, str(error)
    if missing:
        raise Refused(
            f"the user may not {', '.join(sorted(missing))} on {keys.prefix}*: give it the rights of "
            f"docs/security.md ({why})"
        )
