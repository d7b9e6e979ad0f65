"""Who children may run as, asked of this machine's own users."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from chargehand.config.identity import asks_for_identity, identity_faults
from chargehand.config.problems import Problem
from chargehand.config.settings import ProgramSettings, Settings, WorkerSettings
from chargehand.linux.capabilities import may_change_user

ROOT, OTHER = pwd.getpwuid(0).pw_name, next(user for user in pwd.getpwall() if user.pw_uid != 0)
NOBODY = "no-such-name"


def faults(
    user: str | None = None, group: str | None = None, *, uid: int = 0, gid: int = 0, may_change: bool = False
) -> list[Problem]:
    settings = Settings(
        worker=[WorkerSettings(name="hosts", user=user, group=group)],
        child=[ProgramSettings(name="mail", argv=["x"], user=user, group=group)],
    )
    return list(identity_faults(settings, uid=uid, gids={gid}, may_change=may_change))


@pytest.mark.parametrize("may_change", [False, True])
def test_the_agents_own_user_and_group_will_do(may_change: bool) -> None:
    own = grp.getgrgid(OTHER.pw_gid).gr_name
    assert faults(OTHER.pw_name, own, uid=OTHER.pw_uid, gid=OTHER.pw_gid, may_change=may_change) == []
    assert faults(may_change=may_change) == []


def test_others_will_do_for_an_agent_that_may_change() -> None:
    assert faults(ROOT, grp.getgrgid(0).gr_name, uid=OTHER.pw_uid, gid=OTHER.pw_gid, may_change=True) == []


def test_others_are_refused_with_the_unit_to_use() -> None:
    worker, child = faults(ROOT, uid=OTHER.pw_uid)
    own = f'"{OTHER.pw_name}"'
    assert str(worker) == (
        f'configuration: worker "hosts": user: "{ROOT}", and the agent runs as {own} and may not change that; '
        f"expected {own}, or no user (the agent's unit runs without that right; privileged work has a unit of its own, "
        "chargehand-worker@hosts.service)"
    )
    assert child.key == ("child", "mail", "user")
    assert child.advice.endswith("a unit of its own")


def test_a_group_is_refused_likewise() -> None:
    root = grp.getgrgid(0).gr_name
    other = next(group for group in grp.getgrall() if group.gr_gid != 0)
    worker, _ = faults(group=other.gr_name)
    assert worker.key == ("worker", "hosts", "group")
    assert worker.found == f'"{other.gr_name}", and the agent runs with group "{root}" and may not change that'
    assert faults(group=root) == []


@pytest.mark.parametrize("may_change", [False, True])
@pytest.mark.parametrize("name", [NOBODY, "", "0", "a\0b"])
def test_names_that_nobody_has_are_refused_whoever_asks(name: str, may_change: bool) -> None:
    expected = {"the name of a user that exists", "the name of a group that exists"}
    found = faults(name, name, may_change=may_change)
    assert len(found) == 4
    assert {one.expected for one in found} == expected
    assert found[0].found == f'"{name}": no such user on this machine'
    assert found[1].found == f'"{name}": no such group on this machine'


def test_an_agent_whose_own_user_has_no_name() -> None:
    unnamed = max(user.pw_uid for user in pwd.getpwall() if user.pw_uid < 60000) + 1
    worker, _ = faults(ROOT, uid=unnamed)
    assert worker.expected == f"user {unnamed}, or no user"


def test_only_a_user_or_group_needs_asking() -> None:
    assert not asks_for_identity(Settings())
    assert asks_for_identity(Settings(worker=[WorkerSettings(name="a", user="x")]))
    assert asks_for_identity(Settings(child=[ProgramSettings(name="a", argv=["x"], group="x")]))


_ASK = "from chargehand.linux.capabilities import may_change_user; print(may_change_user())"


def asked(*before: str) -> str:
    command = [*before, sys.executable, "-c", _ASK]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "agent")}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


@pytest.mark.skipif(not may_change_user(), reason="only who may change the user can give that up")
def test_a_right_that_was_given_up_is_not_claimed() -> None:
    assert asked() == "True"
    for right in ("setuid", "setgid", "kill"):
        assert asked("setpriv", f"--bounding-set=-{right}", f"--inh-caps=-{right}") == "False"


@pytest.mark.skipif(os.geteuid() == 0, reason="root has them all")
def test_an_ordinary_user_may_not() -> None:
    assert not may_change_user()
