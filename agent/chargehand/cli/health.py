"""`chargehand health`: a plugin for monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chargehand.cli.agent import ControlError, NotRunning, ask, node_status
from chargehand.cli.options import config_option, json_option, print_json

if TYPE_CHECKING:
    from chargehand.health import Verdict

__all__ = ["health"]

_PATIENCE = 2.0  # seconds: an agent that needs longer is not well


class _Plugin(click.Command):
    """What is typed wrongly is UNKNOWN here: to monitoring, the usual exit code of a mistake says CRITICAL."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            print(f"UNKNOWN - {error.format_message()}")
            ctx.exit(3)


@click.command(cls=_Plugin)
@json_option
@config_option
def health(*, as_json: bool) -> int:
    """How this node is, in one line and an exit code, as monitoring plugins answer. A passive node is OK.

    \b
    Exit code:
      0  OK: active, passive or working, and nothing is degraded
      1  WARNING: degraded, a child that crashes, starting, draining, drained, stopping
      2  CRITICAL: no agent runs, it waits for Redis, or none of its workers is ready
      3  UNKNOWN: the agent may not be asked by this user, gives no answer in 2 s, or the
         configuration cannot be read
    """
    verdict = _verdict()
    if as_json:
        print_json(
            {
                "code": verdict.level,
                "level": verdict.level.name,
                "text": verdict.text,
                "workers": {"ready": verdict.workers_ready, "configured": verdict.workers},
                "steps": {"busy": verdict.busy, "threads": verdict.threads},
                "restarts": verdict.restarts,
            }
        )
    else:
        print(verdict.line)
    return int(verdict.level)


def _verdict() -> Verdict:
    from chargehand.config.problems import ConfigError
    from chargehand.health import Level, Verdict, judge

    try:
        return judge(node_status(ask("Status", timeout=_PATIENCE)))
    except NotRunning as error:
        return Verdict(Level.CRITICAL, str(error))
    except ControlError as error:
        return Verdict(Level.UNKNOWN, str(error))
    except ConfigError as error:
        return Verdict(Level.UNKNOWN, str(error).partition("\n")[0])
