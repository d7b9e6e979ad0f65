"""`chargehand`: the table of commands, imported one at a time, and what every error looks like."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import click

import chargehand
from chargehand.cli.errors import told
from chargehand.cli.options import config_option

__all__ = ["COMMANDS", "app", "every_command", "run"]


class Entry(NamedTuple):
    target: str  # "module:attribute" of a click command
    help: str


COMMANDS = {
    "agent": Entry(
        "chargehand.cli.programs:agent", "Supervise this node's orchestrator and workers (systemd runs it)."
    ),
    "config": Entry("chargehand.cli.config:config", "Check, show or write the configuration."),
    "console": Entry("chargehand.cli.console:console", "Pages, REST and metrics (the agent runs it); make tokens."),
    "demo": Entry("chargehand.cli.demo:demo", "Two nodes on this machine, real work, two failovers."),
    "doctor": Entry("chargehand.cli.doctor:doctor", "What is wrong with this set-up, and how to mend it."),
    "drain": Entry("chargehand.cli.drain:drain", "Take this node out of work: finish what runs, take nothing new."),
    "events": Entry("chargehand.cli.events:events", "Follow what this node's agent does."),
    "executors": Entry("chargehand.cli.executors:executors", "Those that plans submitted here are spread over."),
    "health": Entry("chargehand.cli.health:health", "This node in one line and an exit code, for monitoring."),
    "lease": Entry("chargehand.cli.lease:lease", "Who holds the orchestrator lock, and who waits for it."),
    "logs": Entry("chargehand.cli.logs:logs", "What this node's children printed."),
    "orchestrator": Entry("chargehand.cli.programs:orchestrator", "Decide which step runs when (the agent runs it)."),
    "plan": Entry("chargehand.cli.plan:plan", "List, show, follow and change execution plans."),
    "queue": Entry("chargehand.cli.queue:queue", "What waits on which queue, and who serves it."),
    "recurring": Entry("chargehand.cli.recurring:recurring", "Plans that run again and again, by a calendar."),
    "reload": Entry("chargehand.cli.reload:reload", "Have this node's agent read its configuration again."),
    "restart": Entry("chargehand.cli.reload:restart", "Replace a child of this node."),
    "status": Entry("chargehand.cli.status:status", "Nodes, children, roles, the lease, queues."),
    "step-down": Entry("chargehand.cli.drain:step_down", "Hand the lease over to another node."),
    "submit": Entry("chargehand.cli.submit:submit", "Submit an action as an execution plan."),
    "top": Entry("chargehand.cli.top:top", "The executor, live: nodes, queues, busiest actions, failures."),
    "undrain": Entry("chargehand.cli.drain:undrain", "Take a drain back: this node works again."),
    "why": Entry("chargehand.cli.why:why", "Where a plan stands, and why it does not go on."),
    "worker": Entry("chargehand.cli.programs:worker", "Run steps (the agent runs it)."),
}


class Commands(click.Group):
    """Knows its commands by name and help; imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in sorted(COMMANDS)])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f': did you mean "{close[0]}"?' if close else f"; there are: {', '.join(sorted(COMMANDS))}"
            ctx.fail(f"there is no command {args[0]!r}{hint}")


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@config_option
@click.version_option(chargehand.__version__, prog_name="chargehand", message="%(prog)s %(version)s")
def app() -> None:
    """Run tasks on a group of nodes, and keep running them when nodes, processes or the network fail."""


def every_command() -> Iterator[tuple[list[str], click.Command]]:
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


#: A group called without a command. Click before 8.2 has no error for it: it prints the help by itself.
_NO_WORDS: tuple[type[click.UsageError], ...] = tuple(
    kind for kind in (getattr(click.exceptions, "NoArgsIsHelpError", None),) if kind is not None
)


def run() -> int:
    """The command line's exit code; every expected error is a line or a few on stderr, never a traceback."""
    return told(lambda: _invoke(app.main))


def _invoke(main: Callable[..., Any]) -> int:
    try:
        code = main(prog_name="chargehand", standalone_mode=False)
    except _NO_WORDS as error:  # the help, as it is
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "chargehand"
        print(f"{where}: {error.format_message()}", file=sys.stderr)
        print(f"Try '{where} --help'.", file=sys.stderr)
        return 2
    except click.ClickException as error:
        print(f"chargehand: {error.format_message()}", file=sys.stderr)
        return 1
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.Abort:
        return 130
    return code if isinstance(code, int) else 0
