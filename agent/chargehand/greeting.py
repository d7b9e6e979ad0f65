"""The first message on the link: the settings that the agent gives a child, and the number of their format.

The two may be of different versions. An upgrade replaces the files below a running agent; until it is restarted,
a child that ends is started again from the new ones, and after a downgrade from the old ones.
"""

from __future__ import annotations

from typing import Any

import msgspec

from chargehand.config.plain import from_builtins
from chargehand.config.settings import Settings

__all__ = ["FORMAT", "OtherVersion", "greeting", "settings_of"]

#: Of all that agent and child say to each other over the link. A child reads this one and the one before. A key that
#: is added, with a default, needs no new number; a message or a key that means something else does.
FORMAT = 1

_UNNUMBERED = 1  # what an agent sent before there were numbers
_READABLE = tuple(range(max(_UNNUMBERED, FORMAT - 1), FORMAT + 1))
#: What to do stands first: a status has 200 characters, and this is at its end.
_ADVICE = "systemctl restart chargehand: the agent is of another version"


class OtherVersion(Exception):
    """The agent's settings cannot be read here. `str()` says what to do."""


def greeting(settings: Any) -> dict[str, Any]:
    """The message for these settings, which are plain values."""
    parameters = {"format": FORMAT, "settings": settings}
    return {"method": "io.chargehand.Child.Settings", "oneway": True, "parameters": parameters}


def settings_of(message: dict[str, Any]) -> Settings:
    """What the agent's first message says. Raises `OtherVersion`."""
    try:
        found = message["parameters"].get("format", _UNNUMBERED)
        if found not in _READABLE:
            expected = " or ".join(map(str, _READABLE))
            raise OtherVersion(f"{_ADVICE} (expected format {expected}, found {found})")
        return from_builtins(message["parameters"]["settings"])
    except (KeyError, AttributeError, msgspec.ValidationError) as error:
        raise OtherVersion(f"{_ADVICE} (its settings: {error})") from error
