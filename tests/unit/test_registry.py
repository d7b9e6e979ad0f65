"""Actions of a configuration: what stands in the way of their modules is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargehand.config.settings import ActionSettings, ActionsSettings, HookSettings, Settings
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


def test_hooks_of_a_command_name_actions_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "calls_for_help.py").write_text(
        "from chargehand import action\n@action\ndef help_wanted(plan: str, state: str) -> None: ...\n"
    )

    def problems(*modules: str, **hooks: str | HookSettings) -> list[str]:
        declared = ActionSettings("df", ["/usr/bin/df"], hooks=dict(hooks))
        return load_actions(
            Settings(actions=ActionsSettings([str(tmp_path)], list(modules)), action=[declared])
        ).problems

    assert problems("calls_for_help", failed="help_wanted") == []
    (unknown,) = problems(failed="help_wnated")
    assert unknown.startswith("action \"df\": hooks: there is no action 'help_wnated' (known: ")
    (refused,) = problems(failed=HookSettings("help_wanted", {"by": "mail"}))
    assert refused == "action \"df\": hooks: action 'help_wanted' has no parameter 'by' (it takes: plan, state)"
    (absent,) = problems("no_such_module", failed="help_wnated")  # it may be in there
    assert absent.startswith('cannot import module "no_such_module"')
