"""What is refused of privileged work before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargehand.config.load import ConfigError, load

GROUP = '[[worker]]\nname = "root"\nqueues = ["root"]\nunit = true\n'
ACTION = '[[action]]\nname = "update"\nargv = ["/usr/bin/dnf"]\nqueue = "root"\nprivileged = true\n'


def test_sound(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GROUP + '[[worker]]\nname = "worker"\n' + ACTION)
    settings = load(tmp_path / "a.toml").settings
    assert [worker.unit for worker in settings.worker] == [True, False]
    assert settings.action[0].privileged


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GROUP + "processes = 2\n", 'worker "root": processes: 2 with unit = true; expected 1, or more groups'),
        (
            GROUP + "nice = 5\n",
            'worker "root": nice: set with unit = true; expected nothing (set it in chargehand-worker@root.service)',
        ),
        (
            GROUP + ACTION.replace("/usr/bin/dnf", "dnf"),
            'action "update": argv: "dnf" as the program of a privileged action; expected its absolute path',
        ),
        (
            GROUP + '[[worker]]\nname = "worker"\nqueues = { root = 1, default = 3 }\n' + ACTION,
            'action "update": queue: "root", which worker "worker" serves too; expected a queue that only groups',
        ),
    ],
)
def test_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "a.toml")
    (told,) = caught.value.problems
    assert problem in str(told)
