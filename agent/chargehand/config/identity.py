"""Whether the agent may run each child as the user and group that its settings name.

Apart from the rules, because the answer depends on the machine and on who asks: the agent knows its own rights,
`config check` asks the agent. Imported by the agent, so it needs nothing but the user database.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterator

from chargehand.config.problems import Problem, problem
from chargehand.config.settings import ProgramSettings, Settings, WorkerSettings

__all__ = ["asks_for_identity", "identity_faults"]

_ADVICE = "the agent's unit runs without that right; privileged work has a unit of its own"


def asks_for_identity(settings: Settings) -> bool:
    """True when some child has a user or group of its own."""
    items: list[WorkerSettings | ProgramSettings] = [*settings.worker, *settings.child]
    return any(item.user is not None or item.group is not None for item in items)


def identity_faults(settings: Settings, *, uid: int, gids: set[int], may_change: bool) -> Iterator[Problem]:
    """Every user and group that does not exist here, or that the agent may not become.

    `uid`, `gids`: what the agent runs as. Supplementary groups are not among `gids`: no process may make one of
    them its own without the right to. `may_change`: the agent may become others (`linux.capabilities`).
    """
    for worker in settings.worker:
        own = f", chargehand-worker@{worker.name}.service"
        yield from _faults("worker", worker, uid, gids, may_change=may_change, advice=_ADVICE + own)
    for program in settings.child:
        yield from _faults("child", program, uid, gids, may_change=may_change, advice=_ADVICE)


def _faults(
    section: str,
    item: WorkerSettings | ProgramSettings,
    uid: int,
    gids: set[int],
    *,
    may_change: bool,
    advice: str,
) -> Iterator[Problem]:
    if item.user is not None:
        user = _id_of_user(item.user)
        if user is None:
            yield _nobody(section, item.name, "user", item.user)
        elif user != uid and not may_change:
            found = f'"{item.user}", and the agent runs as {_user_called(uid)} and may not change that'
            expected = f"{_user_called(uid)}, or no user"
            yield problem(section, item.name, "user", found=found, expected=expected, advice=advice)
    if item.group is not None:
        group = _id_of_group(item.group)
        if group is None:
            yield _nobody(section, item.name, "group", item.group)
        elif group not in gids and not may_change:
            ours = " or ".join(_group_called(gid) for gid in sorted(gids)) or "none"
            found = f'"{item.group}", and the agent runs with group {ours} and may not change that'
            expected = f"{ours}, or no group"
            yield problem(section, item.name, "group", found=found, expected=expected, advice=advice)


def _nobody(section: str, name: str, key: str, value: str) -> Problem:
    expected = f"the name of a {key} that exists"
    return problem(section, name, key, found=f'"{value}": no such {key} on this machine', expected=expected)


def _id_of_user(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL in the name
        return None


def _id_of_group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def _user_called(uid: int) -> str:
    try:
        return f'"{pwd.getpwuid(uid).pw_name}"'
    except KeyError:
        return f"user {uid}"


def _group_called(gid: int) -> str:
    try:
        return f'"{grp.getgrgid(gid).gr_name}"'
    except KeyError:
        return f"group {gid}"
