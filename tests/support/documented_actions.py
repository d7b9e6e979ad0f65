"""The actions that docs/wire-format.md submits."""

from __future__ import annotations

from chargehand import action


@action
def backup(host: str) -> dict[str, int]:
    return {"bytes": 100 + len(host)}


@action
def report(sizes: list[int]) -> int:
    return sum(sizes)
