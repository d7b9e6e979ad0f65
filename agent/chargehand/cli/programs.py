"""The three programs as commands. `__main__` starts them without coming here; this is for their help."""

from __future__ import annotations

from importlib import import_module

import click

__all__ = ["agent", "orchestrator", "worker"]


def _program(name: str, module: str, text: str) -> click.Command:
    def call(words: tuple[str, ...]) -> int:
        code: int = import_module(module).main(list(words))
        return code

    return click.Command(
        name,
        callback=call,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
        help=text,
    )


agent = _program("agent", "chargehand.supervisor.main", "Supervise this node's children.")
orchestrator = _program("orchestrator", "chargehand.orchestrator.main", "Decide which step runs when.")
worker = _program("worker", "chargehand.worker.main", "Run steps.")
