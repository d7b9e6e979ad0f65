"""`chargehand console`: started by the agent, or a unit of its own."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys

from chargehand.child import Child

__all__ = ["main"]

_ABOUT = "Pages, REST and metrics. `chargehand console token NAME` makes a token for them."
_MISSING = (
    "the console needs packages that are not installed ({name}): pip install 'chargehand[console]'; the RPM has them"
)


def main(argv: list[str]) -> int:
    faulthandler.enable()
    parser = argparse.ArgumentParser(prog="chargehand console", description=_ABOUT)
    parser.add_argument("--config", default=os.environ.get("CHARGEHAND_CONFIG"), help="configuration file")
    options = parser.parse_args(argv)
    child = Child(options.config, default_name="console")
    try:
        from chargehand.console.serving import CannotListen, run  # noqa: PLC0415 - told where they are missing
    except ModuleNotFoundError as error:
        reason = _MISSING.format(name=error.name)
        child.last_words(reason)
        print(f"chargehand: {reason}", file=sys.stderr)
        return 1
    try:
        return run(child)
    except CannotListen as error:
        child.last_words(str(error))
        print(f"chargehand: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        child.last_words(f"{type(error).__name__}: {error}")
        raise
