"""How the command line ends when it cannot go on: a line, an exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.commands import chargehand


def run(*words: str | Path, stdout: int = subprocess.PIPE) -> tuple[int, str]:
    done = chargehand(*words, env={"CHARGEHAND_CONFIG": os.devnull}, stdout=stdout)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "words", [["config", "show"], ["config", "check"], ["config", "show", "--json"], ["--version"]]
)
def test_a_full_disk_is_told(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        assert run(*words, stdout=full.fileno()) == (1, "chargehand: the output: No space left on device\n")


@pytest.mark.parametrize("words", [["config", "show"], ["config", "check"], ["--version"]])
def test_a_reader_that_left_is_no_message(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run(*words, stdout=writer) == (1, "")
    finally:
        os.close(writer)


@pytest.mark.parametrize("words", [[], ["config"], ["plan"]])
def test_no_command_is_the_help(words: list[str]) -> None:
    code, said = run(*words)
    assert code == 2
    assert said.startswith("Usage: chargehand")
    assert "Try '" not in said


@pytest.mark.parametrize("program", ["orchestrator", "worker"])
def test_each_problem_is_a_line_of_its_own(tmp_path: Path, program: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text("orchestrator.threads = 2\nredis.timeuot = '1s'\n")
    code, said = run(program, "--config", path)
    assert code == 78
    assert [line.split(": ")[:3] for line in said.splitlines()] == [
        ["chargehand", f"{path}:1", "orchestrator.threads"],
        ["chargehand", f"{path}:2", "redis.timeuot"],
    ]


def test_redis_that_is_not_there_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f"redis.url = 'unix://{tmp_path}/none.sock'\n")
    code, said = run("plan", "list", "--config", path)
    assert code == 1
    assert said.startswith("chargehand: Redis unreachable: ")
    assert len(said.splitlines()) == 1
