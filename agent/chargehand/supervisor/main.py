"""`chargehand agent`: what `chargehand.service` runs."""

from __future__ import annotations

import os
import signal
import sys

from chargehand.notify import Notifier
from chargehand.supervisor.agent import Agent
from chargehand.supervisor.control import ControlError
from chargehand.supervisor.events import Events
from chargehand.supervisor.memory import StateDirTaken
from chargehand.supervisor.output import Outlet
from chargehand.supervisor.reading import Refused, absolute, read_now
from chargehand.supervisor.sockets import SocketPathTooLong

__all__ = ["EX_CONFIG", "main"]

EX_CONFIG = 78  # of sysexits.h: systemd does not start us again for it (RestartPreventExitStatus)
_FAILED = 1

_USAGE = "usage: chargehand agent [--config PATH]"


def main(argv: list[str]) -> int:
    config = os.environ.get("CHARGEHAND_CONFIG")
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in {"-h", "--help"}:
            print(f"{_USAGE}\n\nSupervise this node's orchestrator and workers; systemd runs it.")
            return 0
        if word == "--config" and rest:
            config = rest.pop(0)
        elif word.startswith("--config="):
            config = word.partition("=")[2]
        else:
            print(f"chargehand agent: {word!r} is not understood\n{_USAGE}", file=sys.stderr)
            return 2
    config = absolute(config)
    watchdog = _watchdog()
    notifier = Notifier.from_environment()
    outlet = Outlet()
    events = Events(lambda line: outlet.line("agent", line), journal=outlet.journal)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, lambda *_: None)  # what it asks for is under way
    try:
        settings = read_now(config)
    except Refused as refused:
        for problem in refused.problems:
            print(f"chargehand: {problem}", file=sys.stderr)
        notifier.send(f"STATUS=configuration refused: {refused.problems[0]}")
        return EX_CONFIG
    events.node, events.executor = settings.node.name, settings.executor.name
    os.chdir("/")  # keep no file system busy
    try:
        agent = Agent(settings, config, notifier=notifier, watchdog=watchdog, events=events, outlet=outlet)
    except (StateDirTaken, ControlError, SocketPathTooLong) as error:
        return _cannot_start(notifier, str(error))
    except OSError as error:
        where = error.filename or f"{settings.agent.state_dir} or {settings.agent.runtime_dir}"
        return _cannot_start(
            notifier,
            f"{where}: {os.strerror(error.errno or 0)}: agent.state_dir and agent.runtime_dir must be directories "
            "that this user may write to",
        )
    agent.run()
    return 0


def _stop(*_: object) -> None:
    """SIGTERM before there is anything to stop."""
    raise SystemExit(0)


def _cannot_start(notifier: Notifier, reason: str) -> int:
    print(f"chargehand: {reason}", file=sys.stderr)
    notifier.send(f"STATUS=cannot start: {reason}")
    return _FAILED


def _watchdog() -> float:
    """Seconds that systemd allows between pings; 0 when it watches nobody, or somebody else."""
    pid = os.environ.get("WATCHDOG_PID")
    if pid is not None and pid != str(os.getpid()):
        return 0.0
    try:
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return 0.0
