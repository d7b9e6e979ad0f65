"""`chargehand top`: the executor, live. Decisions are in `screen.py`; here are the terminal, the keys, the asking."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import click

from chargehand.cli.options import config_option, json_option, print_json, reachable

if TYPE_CHECKING:
    from rich.text import Text

    from chargehand.cli.columns import Said
    from chargehand.cli.screen import Snapshot
    from chargehand.client import Client

__all__ = ["top"]

_EVERY = 1.0  # seconds between two looks
_TROUBLES_EVERY = 5.0  # seconds: they cost more, and change less
_TROUBLES = 100  # plans that are looked at for them
_LOOK = 0.2  # seconds: a key is heard at once, a new size of the terminal and fresh figures within this time


@click.command()
@click.option("--once", is_flag=True, help="Show it once and end; as without a terminal.")
@json_option
@config_option
def top(*, once: bool, as_json: bool) -> int:
    """The executor, live: nodes, children, roles, the lease, queues, the busiest actions, the latest failures.

    It looks once a second, goes on when Redis is away and says so. q leaves. Rates are of the last minute; what was
    counted is statistics: a takeover loses about a second of it.

    Exit code: 0; with --once and without a terminal 2 when Redis cannot be reached.
    """
    from chargehand.client import Client
    from chargehand.store.connection import Unavailable

    settings = reachable()
    executor = settings.executor.name
    look = _Look(Client(settings))  # not closed: a thread may wait for its answer when the command ends
    if _is_screen() and not (once or as_json):
        return _live(executor, look)
    try:
        seen = look.now()
    except Unavailable as error:
        print_json({"redis": str(error)}) if as_json else print(f"executor {executor}: Redis unreachable: {error}")
        return 2
    if as_json:
        print_json({"executor": seen.census, "stats": seen.stats, "troubles": seen.troubles})
    else:
        _print_once(executor, seen)
    return 0


def _is_screen() -> bool:
    """A terminal that can be written all over."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}


def _print_once(executor: str, seen: Snapshot) -> None:
    from chargehand.cli.columns import print_lines, terminal_width
    from chargehand.cli.screen import screen

    width = terminal_width()
    print_lines(screen(executor, seen, datetime.now().astimezone(), width=width, height=None), width=width)


class _Look:
    """One who asks again and again. For one thread."""

    def __init__(self, client: Client) -> None:
        from chargehand.cli.screen import Snapshot

        self._client = client
        self._troubles_at = 0.0
        self.seen = Snapshot()

    def now(self) -> Snapshot:
        """Raises `Unavailable`."""
        from chargehand.cli.screen import Snapshot

        census = self._client.census()
        stats = self._client.stats(census)
        troubles = self.seen.troubles
        if time.monotonic() >= self._troubles_at:
            troubles = self._client.troubles(_TROUBLES)
            self._troubles_at = time.monotonic() + _TROUBLES_EVERY
        return Snapshot(census, stats, troubles, time.time())

    def again(self) -> None:
        """Look, and keep what was seen before when there is no answer."""
        from chargehand.store.connection import Full, Refused, Unavailable

        try:
            self.seen = self.now()
        except (Unavailable, Refused, Full) as error:
            since = self.seen.since if self.seen.silence else time.time()
            self.seen = self.seen._replace(silence=str(error), since=since)


def _live(executor: str, look: _Look) -> int:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from chargehand.cli.screen import screen

    over = threading.Event()

    def watch() -> None:
        """An answer that does not come must not keep a key from being heard: it is waited for here."""
        while not over.is_set():
            began = time.monotonic()
            look.again()
            over.wait(max(0.1, _EVERY - (time.monotonic() - began)))

    def drawn(width: int, height: int) -> Text:
        lines = screen(executor, look.seen, datetime.now().astimezone(), width=width, height=height)
        return Text("\n").join(_line(line, width, console.encoding) for line in lines)

    console = Console(highlight=False)
    asking = threading.Thread(target=watch, daemon=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asking.start()
    try:
        with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(drawn(*console.size), refresh=True)
                if _wait(look, console.size, lambda: console.size, pressed):
                    return 0
    except KeyboardInterrupt:
        return 0  # the other way to leave
    finally:
        over.set()


def _line(line: Said, width: int, encoding: str) -> Text:
    """As wide as the terminal at most, in letters that it has."""
    from rich.text import Text

    text = Text(no_wrap=True)
    for piece in line:
        said, style = (piece, "") if isinstance(piece, str) else piece
        text.append(said.encode(encoding, "replace").decode(encoding), style)
    text.truncate(width, overflow="ellipsis" if encoding.lower().startswith("utf") else "crop")
    return text


def _wait(
    look: _Look, size: tuple[int, int], size_now: Callable[[], tuple[int, int]], pressed: Callable[[float], str]
) -> bool:
    """Until there is something else to show. True: somebody leaves."""
    before, until = look.seen, time.monotonic() + _EVERY
    while look.seen is before and size_now() == size and time.monotonic() < until:
        if pressed(_LOOK).lower() in {"q", "\x03"}:
            return True
    return False


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """What is typed, key by key, each asked for with the seconds to wait for it; the terminal is put back."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    import termios
    import tty

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)

    def pressed(seconds: float) -> str:
        if not select.select([stdin], [], [], seconds)[0]:
            return ""
        return os.read(stdin, 1).decode("ascii", "replace") or "q"  # nobody is at the other end any more

    try:
        tty.setcbreak(stdin)
        yield pressed
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> str:
    time.sleep(seconds)
    return ""
