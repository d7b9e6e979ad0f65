"""`python -m chargehand.config.probe`: import the configured modules in a process of its own, and say what fails.

Run by `chargehand config check`: a module may hang, crash or print, and must not do so in the command line.
"""

from __future__ import annotations

import os
import sys

from chargehand.config.load import load
from chargehand.registry import load_actions

__all__ = ["main"]


def main() -> int:
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a module prints is not our answer
    for problem in load_actions(load(sys.argv[1] if len(sys.argv) > 1 else None).settings).problems:
        answer.write(problem.replace("\n", " ") + "\n")
    answer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
