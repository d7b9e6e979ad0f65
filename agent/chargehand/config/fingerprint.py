"""What must be the same on all nodes of an executor, in a form in which nodes can be compared. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from chargehand.config.plain import to_builtins
from chargehand.config.settings import Settings

__all__ = ["declared_digests", "digest", "orchestrator_values", "worker_values"]


def digest(data: bytes) -> str:
    """Short enough to be shown; it protects nothing."""
    return hashlib.sha256(data).hexdigest()[:12]


def worker_values(settings: Settings) -> dict[str, str]:
    """Of what a worker is given (it is not given what only orchestrators need)."""
    return {"redis.min_replicas": str(settings.redis.min_replicas)}


def orchestrator_values(settings: Settings) -> dict[str, str]:
    """Key -> its value as it is written: the lease, the inbox, queues' limits, retention. No name, path or secret."""
    plain = to_builtins(settings)
    orchestrator = plain["orchestrator"]
    found = {"orchestrator.max_inbox": str(orchestrator["max_inbox"])}
    found |= {f"orchestrator.lease.{key}": str(value) for key, value in orchestrator["lease"].items()}
    found |= worker_values(settings)
    found |= {f"retention.{key}": str(value) for key, value in plain["retention"].items()}
    found |= {f"queue.{queue['name']}": _limits(queue) for queue in plain["queue"]}
    return found


def _limits(queue: Mapping[str, Any]) -> str:
    said = [f"{key} {queue[key]}" for key in ("limit", "rate") if queue[key] is not None]
    return ", ".join(said) or "no limit"


def declared_digests(settings: Settings) -> dict[str, str]:
    """`[[action]]` by name -> a digest of all that is declared of it."""
    declared = to_builtins(settings)["action"]
    return {one["name"]: digest(msgspec.json.encode(one, order="sorted")) for one in declared}
