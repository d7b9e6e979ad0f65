"""The command line, as a person or a script uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["COMMAND", "Chargehand", "Done", "chargehand"]

COMMAND = [sys.executable, "-m", "chargehand"]

Done: TypeAlias = subprocess.CompletedProcess[str]

#: `chargehand` with its configuration.
Chargehand: TypeAlias = Callable[..., Done]


def chargehand(*words: str | Path, config: Path | None = None, env: dict[str, str] | None = None, **more: Any) -> Done:
    """Run a command to its end. What it says is for people: there is never a traceback in it.

    config: of commands; the programs (agent, orchestrator, worker) are given theirs as words, after their name.
    env: beside this process's own variables. more: of `subprocess.run`.
    """
    where: list[str | Path] = ["--config", config] if config is not None else []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, **(env or {})}
    command = [*COMMAND, *where, *words]
    done: Done = subprocess.run(command, env=environment, text=True, timeout=60, check=False, **{**pipes, **more})
    assert "Traceback" not in f"{done.stdout}{done.stderr}"
    return done
