"""Every command that a document shows exists, with the options that it is given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from chargehand.cli.app import app
from support.documents import DOCS, ROOT, code_spans, read, shown

DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((ROOT / "packaging").rglob("*.md"))]

#: Where a command begins: first in a line, or after what may stand before one. Users and units have that name too.
_BEGINS = re.compile(r"(?:^\s*|[$#>|;(&]\s*|--\s|\b(?:sudo|xargs)\s)chargehand(?=\s+(?:[a-z]|--config\s))")
#: Where it ends in a shell, or in a sentence about one.
_ENDS = re.compile(r"\s(?:[|&;>#]|<<|──)|[;)](?:\s|$)")


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in a line, after the program's name."""
    for rest in _BEGINS.split(text)[1:]:
        yield re.sub(r"[\[\]()]", " ", _ENDS.split(rest, maxsplit=1)[0]).split()


def wrong(words: list[str]) -> str:
    """What is wrong with this command; nothing when it could be typed."""
    command: click.Command = app
    context = click.Context(app, info_name="chargehand")
    if words[:1] == ["--config"]:
        words = words[2:]
    while words and isinstance(command, click.Group) and re.fullmatch("[a-z][a-z-]*", words[0]):
        inner = command.get_command(context, words[0])
        if inner is None:
            return "" if command.invoke_without_command and command is not app else f"no command {words[0]!r}"
        command, words = inner, words[1:]
    options = {name for one in command.get_params(context) for name in [*one.opts, *one.secondary_opts]}
    for word in words:
        option = re.match(r"--?[a-z][a-z-]*", word)
        if word == "--":
            break
        if option and option[0] not in {*options, "--config", "--help", "-h"}:
            return f"{command.name} has no option {option[0]}"
    return ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_can_be_typed(document: Path) -> None:
    lines = [line for block in shown(document) for line in block.replace("\\\n", " ").splitlines()]
    found = [words for text in [*lines, *code_spans(document)] for words in commands(text)]
    assert not [(" ".join(words), said) for words in found if (said := wrong(words))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("$ chargehand sumbit greet", "no command 'sumbit'"),
        ("# chargehand drain --raeson x --wait && systemctl reboot", "drain has no option --raeson"),
        ("chargehand --config x.toml plan lits", "no command 'lits'"),
        ("chargehand plan list --state paused -q | xargs chargehand plan resmue", "no command 'resmue'"),
        ("runuser -u chargehand -- chargehand config chekc", "no command 'chekc'"),
    ],
)
def test_what_cannot_be_typed_is_found(line: str, said: str) -> None:
    assert said in [wrong(words) for words in commands(line)]


def test_that_is_no_command() -> None:
    for line in ("systemctl reload chargehand", "usermod -aG chargehand nginx", "chargehand: plan x is paused"):
        assert not list(commands(line))


def test_the_command_line_page_has_every_command() -> None:
    """Those that people type, on one page."""
    context = click.Context(app, info_name="chargehand")
    page = read(DOCS / "cli.md")
    run_by_the_agent = {"agent", "orchestrator", "worker"}
    missing = [name for name in app.list_commands(context) if not re.search(rf"`(?:chargehand )?{name}\b", page)]
    assert set(missing) <= run_by_the_agent
