"""Ending with one's parent."""

from __future__ import annotations

import os
import select
import signal

from chargehand.link import Link

__all__ = ["become_subreaper", "die_with_parent"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    import ctypes  # noqa: PLC0415 - 0.4 MiB that an agent with control groups does without

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def die_with_parent(link: Link | None) -> None:
    """Have the kernel end this process when the agent ends; exit at once when it has ended already.

    Without a link there is no agent to end with. Looked at after asking: between the fork and the request
    the agent may have died, and then the signal never comes.
    """
    if link is None:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(link.fileno(), select.POLLHUP | select.POLLRDHUP)
    if poll.poll(0):
        raise SystemExit(0)


def become_subreaper() -> None:
    """Orphans below this process become its children, so that it can find and end them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
