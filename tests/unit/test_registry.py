"""Actions of a configuration: what stands in the way of their modules is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargehand.config.settings import ActionsSettings, Settings
from chargehand.registry import load_actions


@pytest.mark.parametrize("name", ["platform", "itertools", "json.decoder"])
def test_a_module_that_pythons_own_hides(tmp_path: Path, name: str) -> None:
    """The import succeeds, and is of another file than the one that was written."""
    file = tmp_path / f"{name.partition('.')[0]}.py"
    file.write_text("from chargehand import action\n")
    problems = load_actions(Settings(actions=ActionsSettings([str(tmp_path)], [name]))).problems
    assert len(problems) == 1
    assert problems[0].startswith(f'cannot import module "{name}": {file} is hidden by ')
    assert problems[0].endswith("; give it another name")


def test_a_module_of_the_path_and_one_of_a_library(tmp_path: Path) -> None:
    (tmp_path / "only_here_of_all_places.py").write_text("")
    names = ["only_here_of_all_places", "colorsys"]
    assert load_actions(Settings(actions=ActionsSettings([str(tmp_path)], names))).problems == []
