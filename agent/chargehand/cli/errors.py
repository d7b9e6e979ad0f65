"""Expected errors: one clear text on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

__all__ = ["CliError", "told"]


class CliError(Exception):
    """What the person at the command line needs to know."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


#: By name, so that nothing is imported for an error that does not happen: exception -> (prefix, exit code).
_EXPECTED = {
    "chargehand.config.problems.ConfigError": ("", 78),
    "chargehand.actions.ActionError": ("", 1),
    "chargehand.client.SubmitRefused": ("", 1),
    "chargehand.client.WaitTimeout": ("", 1),
    "chargehand.supervisor.control.ControlError": ("", 1),
    "chargehand.store.connection.Unavailable": ("Redis unreachable: ", 1),
    "chargehand.store.connection.Refused": ("Redis refused: ", 1),
    "chargehand.store.connection.Full": ("Redis is full: ", 1),
}


def told(run: Callable[[], int]) -> int:
    try:
        return run()
    except CliError as error:
        return _say(str(error), error.code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing more can be said, and the interpreter must not try either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        for kind in type(error).__mro__:
            found = _EXPECTED.get(f"{kind.__module__}.{kind.__qualname__}")
            if found is not None:
                return _say(found[0] + str(error), found[1])
        raise


def _say(message: str, code: int) -> int:
    for line in message.splitlines() or [""]:
        print(f"chargehand: {line}", file=sys.stderr)
    return code
