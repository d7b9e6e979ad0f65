"""Reads the configuration for the agent, in a process of its own: what the reading needs in memory ends with it.

Prints one JSON object: `{"settings": …, "files": […]}`, or `{"problems": [line, …]}`. It runs as the agent's
own user, so what that user may not do is refused here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from chargehand.config.identity import identity_faults
from chargehand.config.load import ConfigError, Loaded, load
from chargehand.config.plain import to_builtins
from chargehand.config.problems import Problem, problem
from chargehand.linux.capabilities import may_change_user

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """`argv`: the configuration file, or nothing for the default one."""
    try:
        found = load(argv[0] if argv else None)
        faults = identity_faults(found.settings, uid=os.geteuid(), gids={os.getegid()}, may_change=may_change_user())
        if refused := [found.placed(one) for one in [*faults, *_unit_faults(found)]]:
            raise ConfigError(refused)
    except ConfigError as error:
        answer: dict[str, Any] = {"problems": [str(problem) for problem in error.problems]}
    else:
        answer = {"settings": to_builtins(found.settings), "files": [str(path) for path in found.files]}
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    sys.stdout.flush()
    return 78 if "problems" in answer else os.EX_OK


def _unit_faults(found: Loaded) -> Iterator[Problem]:
    """A unit and a file that do not belong together: as `chargehand@chargehand`, which reads the default unit's."""
    unit = os.environ.get("RUNTIME_DIRECTORY", "")
    own = found.settings.agent.runtime_dir
    if unit and unit != own and ("agent", "runtime_dir") not in found.origins:
        yield problem(
            "agent",
            "runtime_dir",
            found=f"{own}, and this unit's is {unit}",
            expected="the configuration of this unit",
            advice="chargehand.toml belongs to chargehand.service, NAME.toml to chargehand@NAME.service",
        )
