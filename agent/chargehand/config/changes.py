"""What a reload cannot change. Pure."""

from __future__ import annotations

from chargehand.config.settings import Settings

__all__ = ["restart_keys"]


def restart_keys(old: Settings, new: Settings) -> list[str]:
    """Dotted names of the keys that differ and that only a restart of the agent brings into force.

    A node's and an executor's name stand in Redis beside what is under way; directories hold the agent's locks,
    sockets and memory; an embedded server is where all the data is.
    """
    kept = {
        "node.name": (old.node.name, new.node.name),
        "executor.name": (old.executor.name, new.executor.name),
        "agent.state_dir": (old.agent.state_dir, new.agent.state_dir),
        "agent.runtime_dir": (old.agent.runtime_dir, new.agent.runtime_dir),
        "redis.embedded": (old.redis.embedded, new.redis.embedded),
    }
    return [key for key, (before, after) in kept.items() if before != after]
