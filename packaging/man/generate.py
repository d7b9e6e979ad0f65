"""The man pages and shell completions, from what is there already: the commands' own help and the documents.

    python packaging/man/generate.py DIRECTORY

writes chargehand.1 from the command tree, chargehand.toml.5 from docs/configuration.md, chargehand.service.8 from
docs/agent.md, and completions for bash, zsh and fish. Nothing in them depends on the machine or the time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete
from roff import Page, from_markdown

import chargehand
from chargehand.cli.app import COMMANDS, app, every_command

_DOCS = Path(__file__).parents[2] / "docs"

#: file -> the shell's own way; the names are those under which each shell looks.
_COMPLETIONS: dict[str, type[ShellComplete]] = {
    "chargehand.bash": BashComplete,
    "_chargehand": ZshComplete,
    "chargehand.fish": FishComplete,
}

_FILES = [
    ("/etc/chargehand/chargehand.toml", "The configuration, and conf.d/*.toml beside it: chargehand.toml(5)."),
    ("/etc/chargehand/NAME.toml", "That of chargehand@NAME.service, and NAME.d/*.toml beside it."),
    ("/etc/chargehand/actions", "Modules of actions. Whoever may write there runs code as the service."),
    ("/var/lib/chargehand", "What outlives the agent; /var/lib/chargehand-NAME of a further instance."),
    ("/run/chargehand/agent.sock", "What commands speak to; /run/chargehand-NAME/agent.sock of a further instance."),
]

_EXITS = [
    ("0", "Done."),
    ("1", "It could not be done; the reason is a line on standard error."),
    ("2", "Something was typed wrongly."),
    ("78", "The configuration is refused; each problem is a line on standard error."),
    ("130", "Interrupted."),
]


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    pages = {
        "chargehand.1": command_page(),
        "chargehand.toml.5": from_markdown(
            Page("chargehand.toml", 5, chargehand.__version__, "the configuration of Chargehand"),
            (_DOCS / "configuration.md").read_text(encoding="utf-8"),
        ),
        "chargehand.service.8": from_markdown(
            Page("chargehand.service", 8, chargehand.__version__, "the agent of Chargehand, as systemd runs it"),
            (_DOCS / "agent.md").read_text(encoding="utf-8"),
        ),
    }
    others = {"chargehand.1": "chargehand(1)", "chargehand.toml.5": "chargehand.toml(5)"}
    others["chargehand.service.8"] = "chargehand.service(8)"
    for name, page in pages.items():
        page.section("See also")
        page.paragraph(", ".join(other for file, other in others.items() if file != name))
        (directory / name).write_text(page.text(), encoding="utf-8")
    for name, kind in _COMPLETIONS.items():
        (directory / name).write_text(completion(kind), encoding="utf-8")


def completion(kind: type[ShellComplete]) -> str:
    """The script that asks `chargehand` itself, so that it never falls behind."""
    asked = kind(app, {}, "chargehand", "_CHARGEHAND_COMPLETE")
    return (kind.source_template % asked.source_vars()).strip() + "\n"


def command_page() -> Page:
    page = Page("chargehand", 1, chargehand.__version__, "run tasks on a group of nodes")
    page.section("Synopsis")
    page.paragraph("**chargehand** [*--config PATH*] *COMMAND* [*ARGUMENTS*]")
    page.section("Description")
    page.help(app.help or "")
    page.section("Options")
    _options(page, app)
    page.section("Commands")
    for words, command in every_command():
        page.subsection(" ".join(["chargehand", *words, *_usage(command)]))
        page.help(command.help or COMMANDS[words[0]].help)
        _options(page, command)
    for title, items in (("Exit status", _EXITS), ("Files", _FILES)):
        page.section(title)
        for term, meaning in items:
            page.item(f"**{term}**", meaning)
    page.section("Environment")
    page.item("**CHARGEHAND_CONFIG**", "The configuration file, as --config names it.")
    page.item("**CHARGEHAND_COMPLETION_TIMEOUT**", "How long the Tab key waits for an answer, like 2s. Default: 500ms.")
    return page


def _usage(command: click.Command) -> list[str]:
    """Its arguments by name; what is only passed on to a program has none."""
    context = click.Context(command, info_name="")
    arguments = [one for one in command.params if isinstance(one, click.Argument) and one.type is not click.UNPROCESSED]
    return [word for one in arguments for word in one.get_usage_pieces(context)]


def _options(page: Page, command: click.Command) -> None:
    """Those of its own; --config and --help, which all have, are told once."""
    context = click.Context(command, info_name="", **command.context_settings)
    for option in command.get_params(context):
        common = command is not app and {"--config", "--help"} & {*option.opts}
        told = isinstance(option, click.Option) and not common
        record = option.get_help_record(context) if told else None
        if record is not None:
            page.item(f"**{record[0]}**", record[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
