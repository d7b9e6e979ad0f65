"""How one of our own programs is started: on the interpreter that runs us, and the way that we were started."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["own_argv"]

#: What a launcher is called: an installed package keeps its libraries where nobody but its launcher looks for them.
_LAUNCHER = "chargehand"


def own_argv(*arguments: str) -> tuple[str, ...]:
    """The command for `chargehand ARGUMENTS`, which finds the same code as this process, and no other.

    Neither `-I` nor `-P` imports from where we happen to stand; `-I`, which also leaves out what the environment
    and the user's home would add, is kept when we run with it.
    """
    isolated = "-I" if sys.flags.isolated else "-P"
    return (sys.executable, isolated, *_entry(), *arguments)


def _entry() -> tuple[str, ...]:
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)  # absolute, whatever the working directory is now
    if getattr(main, "__spec__", None) is None and file is not None and Path(file).name == _LAUNCHER:
        return (file,)
    return ("-m", "chargehand")
