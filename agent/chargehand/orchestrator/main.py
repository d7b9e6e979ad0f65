"""`chargehand orchestrator`: started by the agent, or a unit of its own."""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os

from chargehand.child import Child
from chargehand.orchestrator.loop import Orchestrator
from chargehand.store.connection import Dialer

__all__ = ["main"]

#: Objects made before Python looks for garbage that refers to itself, of which we make hardly any. At its own figure,
#: 700, it goes through the plans in memory again and again: a quarter of our time with 10,000 of them.
_COLLECT = 50_000


def main(argv: list[str]) -> int:
    faulthandler.enable()
    parser = argparse.ArgumentParser(prog="chargehand orchestrator", description="Decide which step runs when.")
    parser.add_argument("--config", default=os.environ.get("CHARGEHAND_CONFIG"), help="configuration file")
    options = parser.parse_args(argv)
    gc.freeze()  # what is imported stays
    gc.set_threshold(_COLLECT)
    child = Child(options.config, default_name="orchestrator")
    try:
        dialer = Dialer(child.settings.redis, child.settings.executor.name)
        dialer.follow()
        return Orchestrator(child, dialer).run()
    except Exception as error:
        child.last_words(f"{type(error).__name__}: {error}")
        raise
