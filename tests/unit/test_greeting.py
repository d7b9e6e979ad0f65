"""Which first messages a child can read: those of this version, and of agents that are a little older or newer."""

from __future__ import annotations

from typing import Any

import pytest

from chargehand.config.plain import to_builtins
from chargehand.config.settings import ActionSettings, Duration, HookSettings, LeaseSettings, NodeSettings, Settings
from chargehand.greeting import FORMAT, OtherVersion, greeting, settings_of

HOOKED = ActionSettings("df", ["df"], hooks={"failed": HookSettings("page")})
SETTINGS = Settings(node=NodeSettings("node-a"), action=[HOOKED])
ADVICE = "systemctl restart chargehand: the agent is of another version"


def message(parameters: Any) -> dict[str, Any]:
    return {"method": "io.chargehand.Child.Settings", "oneway": True, "parameters": parameters}


def refused(told: dict[str, Any]) -> str:
    with pytest.raises(OtherVersion) as caught:
        settings_of(told)
    return str(caught.value)


def test_of_this_version() -> None:
    assert settings_of(greeting(to_builtins(SETTINGS))) == SETTINGS
    assert greeting({}) == message({"format": FORMAT, "settings": {}})


def test_without_a_number_it_is_of_the_first_format() -> None:
    assert settings_of(message({"settings": to_builtins(SETTINGS)})) == SETTINGS


@pytest.mark.parametrize("found", [7, 0, "1", None, [1]])
def test_of_a_format_that_is_not_read_here(found: object) -> None:
    """Whatever the rest looks like."""
    assert refused(message({"format": found, "ajustes": {}})) == (f"{ADVICE} (expected format 1, found {found})")


@pytest.mark.parametrize("parameters", [{}, None, "settings", {"settings": None}, {"settings": {"worker": {}}}])
def test_what_is_no_greeting(parameters: object) -> None:
    assert refused(message(parameters)).startswith(f"{ADVICE} (its settings: ")
    assert refused({}).startswith(ADVICE)


def test_keys_of_a_newer_agent_say_nothing() -> None:
    """At every depth."""
    plain = to_builtins(SETTINGS)
    plain |= {"tracing": {"url": "http://x"}, "tracer": [1]}
    for table in (
        plain["node"],
        plain["redis"],
        plain["orchestrator"]["lease"],
        plain["worker"][0],
        plain["action"][0],
        plain["action"][0]["hooks"]["failed"],
        plain["action"][0]["retry"],
    ):
        table["added_later"] = "x"
    assert settings_of(message({"format": FORMAT, "settings": plain, "locale": "C"})) == SETTINGS


def test_what_an_older_agent_does_not_give_has_its_default() -> None:
    found = settings_of(message({"settings": {"orchestrator": {"lease": {"ttl": "8s"}}}}))
    assert found.orchestrator.lease == LeaseSettings(ttl=Duration(8))
    assert found == Settings(orchestrator=found.orchestrator)


def test_a_value_that_only_a_newer_version_knows() -> None:
    """It would be obeyed otherwise than it is meant: refused, with its key."""
    plain = to_builtins(SETTINGS)
    plain["action"][0]["on_lost"] = "elsewhere"
    assert refused(message({"format": FORMAT, "settings": plain})) == (
        f"{ADVICE} (its settings: Invalid enum value 'elsewhere' - at `$.action[0].on_lost`)"
    )
