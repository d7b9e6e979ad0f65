"""The frame of the command line: help without imports, one line for a mistake, quiet ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chargehand import __version__
from support.commands import COMMAND, chargehand


def test_version() -> None:
    assert chargehand("--version").stdout == f"chargehand {__version__}\n"


def test_help_names_every_command_and_imports_none() -> None:
    script = (
        "import sys; sys.argv = ['chargehand', '--help']\n"
        "from chargehand.__main__ import main\n"
        "code = main()\n"
        "print(code, sorted({'redis', 'rich', 'msgspec', 'tomli_w', 'psutil', 'asyncio'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    for command in ("agent", "config", "demo", "orchestrator", "plan", "status", "submit", "worker"):
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", ["agent", "config", "demo", "orchestrator", "plan", "status", "submit", "worker"])
def test_every_command_has_help(command: str) -> None:
    done = chargehand(command, "--help")
    assert done.returncode == 0
    assert "usage" in done.stdout.lower()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["confg"], "config"),
        (["frobnicate"], "frobnicate"),
        (["--frobnicate"], "--frobnicate"),
        (["--config"], "--config"),
        (["submit"], "ACTION"),
        (["plan", "frobnicate"], "frobnicate"),
        (["agent", "--frobnicate"], "--frobnicate"),
        (["orchestrator", "--frobnicate"], "--frobnicate"),
        (["worker", "--frobnicate"], "--frobnicate"),
        (["worker", "--config"], "--config"),
    ],
)
def test_a_mistake_is_told_briefly(words: list[str], expected: str) -> None:
    done = chargehand(*words)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert done.stdout == ""


def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen(
        [*COMMAND, "config", "show"],
        env={**os.environ, "CHARGEHAND_CONFIG": os.devnull},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_interrupted_is_130_and_silent(tmp_path: Path) -> None:
    """SIGINT arrives while `config check` waits for a module."""
    (tmp_path / "waits.py").write_text("import os, signal\nos.kill(os.getppid(), signal.SIGINT)\nsignal.pause()\n")
    config = tmp_path / "a.toml"
    config.write_text(f"actions = {{ path = ['{tmp_path}'], modules = ['waits'] }}\n")
    done = subprocess.run(
        [*COMMAND, "config", "check", "--file", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a runner in the background ignores it
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")
