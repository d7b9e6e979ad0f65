"""The way into our own programs: the launcher's where there is one, the interpreter's own elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import chargehand
from chargehand.program import own_argv

_PRIVATE = str(Path(chargehand.__file__).parents[1])
_LAUNCHER = f"""\
import json, os, sys
sys.path.insert(0, {_PRIVATE!r})
os.chdir("/")
from chargehand.program import own_argv
print(json.dumps(own_argv("worker")))
"""


def _started(directory: Path, *words: str) -> list[str]:
    (directory / "chargehand").write_text(_LAUNCHER, encoding="utf-8")
    done = subprocess.run([sys.executable, *words], cwd=directory, check=True, capture_output=True, text=True)
    argv: list[str] = json.loads(done.stdout)
    return argv


@pytest.mark.parametrize("flag", ["-I", "-P"])
def test_what_a_launcher_started_starts_through_it(tmp_path: Path, flag: str) -> None:
    launcher = str(tmp_path / "chargehand")
    assert _started(tmp_path, flag, "chargehand") == [sys.executable, flag, launcher, "worker"]


def test_a_program_of_another_name_is_no_launcher(tmp_path: Path) -> None:
    (tmp_path / "pytest").write_text(_LAUNCHER, encoding="utf-8")
    assert _started(tmp_path, "pytest") == [sys.executable, "-P", "-m", "chargehand", "worker"]


def test_here_the_module_is_found_by_the_interpreter() -> None:
    assert own_argv("worker")[-3:] == ("-m", "chargehand", "worker")
