"""What a worker has of each action, so that workers can be compared: where its steps wait, and a digest of its code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chargehand.actions import Action
from chargehand.commands import CommandAction
from chargehand.config.fingerprint import declared_digests, digest
from chargehand.config.settings import Settings
from chargehand.store.profile import Code

__all__ = ["code_of"]


def code_of(actions: Mapping[str, Action[..., Any]], settings: Settings) -> dict[str, Code]:
    """By name. Asked when they have just been imported: what their files hold later, this process does not run."""
    declared = declared_digests(settings)
    files: dict[str, str] = {}
    found = {}
    for name, action in actions.items():
        if isinstance(action, CommandAction):
            code = declared[name]
        else:
            module = action.function.__module__
            code = files[module] if module in files else files.setdefault(module, _digest_of(module))
        found[name] = Code(action.policy.queue, code)
    return found


def _digest_of(module: str) -> str:
    """Of the file that it was imported from; empty where there is none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return digest(Path(file).read_bytes()) if file else ""
    except OSError:
        return ""
