"""`chargehand doctor`: what is wrong with this set-up, and how to mend it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING

import click

from chargehand.cli.options import config_option, json_option, loaded, print_json

if TYPE_CHECKING:
    from chargehand.doctor import Finding

__all__ = ["doctor"]

_COLORS = {"error": "red", "warning": "yellow", "note": "cyan", "ok": "green"}


@click.command()
@click.option("--all", "show_all", is_flag=True, help="Name the checks that passed, too.")
@json_option
@config_option
def doctor(*, as_json: bool, show_all: bool) -> int:
    """Look for what is wrong with this node, its executor and its Redis, and say how to mend it.

    It looks from here, by what this user may see, and changes nothing. The checks are described in docs/doctor.md.

    \b
    Exit code:
      0  all is well; there may be notes
      1  warnings: it works, and will not when the next thing fails
      2  errors: work stands still, or is lost, or will be
    """
    from chargehand.cli.agent import agent_socket
    from chargehand.config.files import config_path
    from chargehand.config.load import directories
    from chargehand.config.problems import ConfigError
    from chargehand.doctor.checks import examine, exit_code
    from chargehand.supervisor.control import socket_path

    try:
        found = loaded()
    except ConfigError as refused:
        try:
            socket = agent_socket()
        except ConfigError:  # no file can be read: where it would be without one
            socket = socket_path(directories(config_path(None)[0])["runtime_dir"])
        findings = examine(None, refusals=[str(one) for one in refused.problems], socket=socket)
    else:
        findings = examine(found.settings, files=found.files)
    if as_json:
        print_json({"findings": findings, "code": exit_code(findings)})
    else:
        _print(findings, show_all=show_all)
    return exit_code(findings)


def _print(findings: list[Finding], *, show_all: bool) -> None:
    # Wrapped where somebody reads it; whole where it goes to a file.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for one in findings:
        if one.severity == "ok":
            if show_all:
                click.echo(f"{_mark(one)} {one.check}: {one.text}")
            continue
        click.echo(f"{_mark(one)} {_wrapped(one.text, width, 8)}")
        for line in one.evidence:
            click.echo(f"        {_wrapped(line, width, 10)}")
        for line in one.advice:
            click.echo(f"        to do: {_wrapped(line, width, 15)}")
        click.echo(f"        check: {one.check}\n")
    click.echo(_summary(findings))


def _mark(one: Finding) -> str:
    return click.style(f"{one.severity:<7}", fg=_COLORS[one.severity], bold=True)


def _wrapped(text: str, width: int | None, indent: int) -> str:
    if width is None:
        return text
    lines = textwrap.wrap(text, max(20, width - indent), break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def _summary(findings: list[Finding]) -> str:
    checks = {one.check for one in findings}
    failed = {one.check for one in findings if one.severity != "ok"}
    if not failed:
        return f"all {len(checks)} checks passed"
    counts = Counter(one.severity for one in findings)
    said = [
        f"{counts[severity]} {severity}{'s' * (counts[severity] > 1)}"
        for severity in ("error", "warning", "note")
        if counts[severity]
    ]
    return f"{len(checks) - len(failed)} of {len(checks)} checks passed; {', '.join(said)}"
