"""The page of every command, from the command tree."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
from writing import cell, escaped

from chargehand.cli.app import COMMANDS, every_command

__all__ = ["commands_page"]


def commands_page() -> str:
    """Each command with its help, as `--help` prints it, and its options."""
    lines = [
        "# Every command",
        "",
        "Made of the program itself. [The command line](../cli.md) explains the same with examples.",
        "`--config PATH` and `--help` are understood by all of them.",
    ]
    for words, command in every_command():
        context = click.Context(command, info_name=" ".join(["chargehand", *words]))
        usage = " ".join([context.info_name or "", *command.collect_usage_pieces(context)])
        lines += ["", f"## {' '.join(words)}", "", "```", usage, "```", ""]
        lines.append(prose(command.help or COMMANDS[words[0]].help))
        told = list(options(command))
        if told:
            lines += ["", "| option | |", "| --- | --- |", *(f"| `{cell(a)}` | {cell(b)} |" for a, b in told)]
    return "\n".join(lines) + "\n"


def options(command: click.Command) -> Iterator[tuple[str, str]]:
    """Its own options and what they mean."""
    context = click.Context(command, info_name="")
    for option in command.get_params(context):
        if isinstance(option, click.Option) and not {"--config", "--help"} & {*option.opts}:
            record = option.get_help_record(context)
            if record is not None:
                yield record


def prose(text: str) -> str:
    """Help as a page has it: what stands after `\\b` keeps its lines."""
    parts = []
    for part in text.replace("\f", "").strip().split("\n\n"):
        kept = part.lstrip().startswith("\b")
        written = re.sub(r"^\s*\x08\n?", "", part)
        parts.append(f"```\n{written}\n```" if kept else escaped(written))
    return "\n\n".join(parts)
