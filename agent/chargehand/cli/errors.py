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
    "chargehand.context.ActionError": ("", 1),
    "chargehand.client.SubmitRefused": ("", 1),
    "chargehand.requests.NotPossible": ("", 1),
    "chargehand.client.WaitTimeout": ("", 1),
    "chargehand.supervisor.control.ControlError": ("", 1),
    "chargehand.store.connection.Unavailable": ("Redis unreachable: ", 1),
    "chargehand.store.connection.Unconfirmed": ("not acknowledged: ", 1),
    "chargehand.store.connection.Refused": ("Redis refused: ", 1),
    "chargehand.store.connection.Full": ("Redis is full: ", 1),
}


def told(run: Callable[[], int]) -> int:
    """Run a command; its exit code, or the one of the error that it ended with."""
    try:
        code = run()
        sys.stdout.flush()  # here, where a full disk or a reader that left can still be told or kept quiet
    except CliError as error:
        return _say(str(error), error.code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()
        return 1
    except Exception as error:  # sorted by name below; what is not expected goes on as it is
        for kind in type(error).__mro__:
            found = _EXPECTED.get(f"{kind.__module__}.{kind.__qualname__}")
            if found is not None:
                return _say(found[0] + str(error), found[1])
        if isinstance(error, OSError) and error.errno is not None:
            return _failed(error)
        raise
    return code


def _failed(error: OSError) -> int:
    """What the machine refused, with the file that it was about; without one it was our own output."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    what = "the output" if error.filename is None else error.filename
    return _say(f"{what}: {os.strerror(error.errno or 0)}", 1)


def _drop_output() -> None:
    """Nothing more can be written, and the interpreter must not try either when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str, code: int) -> int:
    for line in message.splitlines() or [""]:
        print(f"chargehand: {line}", file=sys.stderr)
    return code
