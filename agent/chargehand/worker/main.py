"""`chargehand worker --group NAME`: started by the agent, or a unit of its own."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import sys
import threading
import traceback
from functools import partial

from chargehand.child import Child
from chargehand.store.connection import Dialer
from chargehand.worker.loop import Worker
from chargehand.worker.trust import distrusted

__all__ = ["main"]

_EX_SOFTWARE = 70  # of sysexits.h
_EX_CONFIG = 78  # systemd does not start it again for it (RestartPreventExitStatus)


def main(argv: list[str]) -> int:
    faulthandler.enable()
    parser = argparse.ArgumentParser(prog="chargehand worker", description="Run steps.")
    parser.add_argument("--config", default=os.environ.get("CHARGEHAND_CONFIG"), help="configuration file")
    parser.add_argument("--group", default=os.environ.get("CHARGEHAND_GROUP"), help="the worker group's name")
    options = parser.parse_args(argv)
    child = Child(options.config, default_name=options.group or "worker")
    names = [group.name for group in child.settings.worker]
    group = options.group or names[0]
    if group not in names:
        parser.error(f"there is no worker group {group!r} (configured: {', '.join(names)})")
    mine = next(one for one in child.settings.worker if one.name == group)
    if mine.unit:
        problems = distrusted(child.settings, child.files)
        for problem in problems:
            print(f"chargehand: {problem}", file=sys.stderr)
        if problems:
            child.refused(f"refused: {problems[0]}")
            return _EX_CONFIG
    threading.excepthook = partial(_die, child)
    try:
        dialer = Dialer(child.settings.redis, child.settings.executor.name)
        dialer.follow()
        code = Worker(child, dialer, group).run()
    except Exception as error:
        child.last_words(f"{type(error).__name__}: {error}")
        raise
    # Threads may still be inside a user's code, which nothing can stop but the end of the process.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _die(child: Child, broken: threading.ExceptHookArgs) -> None:
    """A thread of ours broke: without it the worker would look alive and be lame. The agent starts a whole one."""
    traceback.print_exception(broken.exc_type, broken.exc_value, broken.exc_traceback)
    child.last_words(f"{broken.exc_type.__name__}: {broken.exc_value}")
    os._exit(_EX_SOFTWARE)
