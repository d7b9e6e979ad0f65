"""What mkdocs is told beside the pages of docs/: a reference made of the code, and what forges do otherwise.

    make docs

The pages of the reference are made at each build and stand nowhere as files, so they cannot fall behind. mkdocs
calls the functions whose names begin with `on_`.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator

import click
import msgspec
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from msgspec import NODEFAULT, Struct

from chargehand.cli.app import COMMANDS, app
from chargehand.config.quantities import format_duration
from chargehand.config.settings import Duration, Settings
from chargehand.config.template import TEMPLATE

__all__ = ["PAGES", "anchor"]


def anchor(heading: str, separator: str = "-") -> str:
    """That of a heading, as forges make it: pages have the same ones there and here."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.mdx_configs["toc"] = {"slugify": anchor, "permalink": "#", "toc_depth": 3}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, made in PAGES.items():
        files.append(File.generated(config, name, content=made()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' call
    """Files of the repository are no pages of the site: their names stand without a link."""
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)


# -- every command --------------------------------------------------------------------------------


def commands_page() -> str:
    """Each command with its help, as `--help` prints it, and its options."""
    lines = [
        "# Every command",
        "",
        "Made of the program itself. [The command line](../cli.md) explains the same with examples.",
        "`--config PATH` and `--help` are understood by all of them.",
    ]
    for words, command in commands():
        context = click.Context(command, info_name=" ".join(["chargehand", *words]))
        usage = " ".join([context.info_name or "", *command.collect_usage_pieces(context)])
        lines += ["", f"## {' '.join(words)}", "", "```", usage, "```", ""]
        lines.append(prose(command.help or COMMANDS[words[0]].help))
        told = list(options(command))
        if told:
            lines += ["", "| option | |", "| --- | --- |", *(f"| `{cell(a)}` | {cell(b)} |" for a, b in told)]
    return "\n".join(lines) + "\n"


def commands() -> Iterator[tuple[list[str], click.Command]]:
    """Every command that does something, those of groups with the group's name before theirs."""
    context = click.Context(app, info_name="chargehand")
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        if not isinstance(command, click.Group):
            yield [name], command
            continue
        if command.invoke_without_command:
            yield [name], command
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield [name, inner], found


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


def escaped(text: str) -> str:
    return re.sub(r"([<>*_])", r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;")


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# -- every key ------------------------------------------------------------------------------------


def keys_page() -> str:
    """Each key with its type and default, then the file that `config init` writes."""
    lines = [
        "# Every key",
        "",
        "Made of the program itself. [Configuration](../configuration.md) says what each key means.",
        "",
        "| key | default |",
        "| --- | --- |",
        *(f"| `{key}` | {default} |" for key, default in keys(Settings)),
        "",
        "## The file that `config init` writes",
        "",
        "Every key stands in it, with its default, behind a `#`.",
        "",
        "```toml",
        TEMPLATE.rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def keys(kind: type[Struct], prefix: str = "") -> Iterator[tuple[str, str]]:
    """As they are written: `orchestrator.lease.ttl`, `[[worker]] threads`."""
    hints = typing.get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        inner = hints[field.name]
        several = typing.get_origin(inner) is list
        item = typing.get_args(inner)[0] if several else inner
        if isinstance(item, type) and issubclass(item, Struct):
            yield from keys(item, f"[[{field.name}]] " if several else f"{prefix}{field.name}.")
        elif field.default_factory is not NODEFAULT:
            yield prefix + field.name, written(typing.cast(Callable[[], object], field.default_factory)())
        else:
            yield prefix + field.name, "required" if field.required else written(field.default)


def written(default: object) -> str:
    """A default as TOML has it."""
    if default is None:
        return "none"
    if isinstance(default, Duration):
        return f'`"{format_duration(default)}"`'
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f'`"{default}"`' if isinstance(default, str) else "`" + str(default).replace("'", '"') + "`"


#: Page of the site -> what makes it.
PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": commands_page,
    "reference/toml.md": keys_page,
}
