"""Which changes a reload refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.config.changes import restart_keys
from chargehand.config.plain import from_builtins, to_builtins
from chargehand.config.settings import Settings

#: Each key that needs a restart, and another value of it.
KEPT: dict[str, Any] = {
    "node.name": "b",
    "executor.name": "blue",
    "agent.state_dir": "/srv/state",
    "agent.runtime_dir": "/srv/run",
    "redis.embedded": True,
}


def changed(**values: Any) -> Settings:
    data = to_builtins(Settings()) | {"node": {"name": "a"}}
    for dotted, value in values.items():
        section, key = dotted.split(".")
        data[section] = data[section] | {key: value}
    return from_builtins(data)


@given(st.sets(st.sampled_from(sorted(KEPT))))
def test_exactly_the_keys_that_differ_are_named(keys: set[str]) -> None:
    old, new = changed(), changed(**{key: KEPT[key] for key in keys})
    assert restart_keys(old, new) == restart_keys(new, old) == [key for key in KEPT if key in keys]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("redis.url", "redis://other"),
        ("redis.timeout", "2s"),
        ("agent.stop_timeout", "1m"),
        ("orchestrator.enabled", False),
        ("orchestrator.lease", {"ttl": "9s"}),
    ],
)
def test_anything_else_is_taken_by_a_reload(key: str, value: Any) -> None:
    assert changed() != changed(**{key: value})
    assert restart_keys(changed(), changed(**{key: value})) == []


def test_sections_that_are_lists_are_taken_by_a_reload() -> None:
    new = from_builtins({"node": {"name": "a"}, "worker": [{"name": "b"}], "child": [{"name": "c", "argv": ["c"]}]})
    assert restart_keys(changed(), new) == []
