"""Running a command for a step: its process tree, its output, its end.

A process must be started on the worker's main thread (the kernel ends it when the thread that started it
ends), so a step's thread asks the main thread to start it, then waits for it and reads it itself.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from chargehand.actions import StepInfo
from chargehand.commands import CommandAction
from chargehand.linux.spawn import Process, spawn

__all__ = ["CommandFailed", "Runner"]

_KEEP = 256 * 1024  # bytes of each of stdout and stderr that are kept: the first ones
_TAIL = 2_000  # characters of stderr that go with a failure
_LINGER = 0.5  # seconds to read on after the command ended: something it started may hold its output open

_Start = tuple[list[str], dict[str, str], "Future[Process]"]


class CommandFailed(Exception):
    def __init__(self, kind: str, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.tail = tail


class Runner:
    """`run` on any thread; `serve` on the main thread, after `wake` was called."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._asked: queue.SimpleQueue[_Start] = queue.SimpleQueue()
        self._running: set[Process] = set()

    def serve(self) -> None:
        """Start what was asked for."""
        while True:
            try:
                argv, environment, future = self._asked.get_nowait()
            except queue.Empty:
                return
            try:
                process = spawn(
                    argv,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    foreign=True,
                )
            except OSError as error:
                future.set_exception(error)
            else:
                self._running.add(process)
                future.set_result(process)

    def kill_all(self) -> None:
        """The worker ends: so does everything that it started."""
        for process in list(self._running):
            process.kill_tree(signal.SIGKILL)

    def run(
        self,
        action: CommandAction,
        inputs: dict[str, Any],
        info: StepInfo,
        ending: Callable[[Callable[[], None] | None], None],
    ) -> dict[str, Any]:
        """The step's output: `exit`, `stdout`, `stderr`. Raises `CommandFailed`, or what `ending` raises."""
        argv = action.argv(inputs)
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "HOME": os.environ.get("HOME", "/"),
            "CHARGEHAND_PLAN": info.plan,
            "CHARGEHAND_STEP": str(info.step),
            "CHARGEHAND_ATTEMPT": str(info.attempt),
            "CHARGEHAND_NODE": info.node,
            **action.settings.env,
        }
        future: Future[Process] = Future()
        self._asked.put((argv, environment, future))
        self._wake()
        try:
            process = future.result()
        except OSError as error:
            raise CommandFailed("cannot start", f"{argv[0]}: {os.strerror(error.errno or 0)}") from error
        try:
            ending(lambda: process.kill_tree(signal.SIGKILL))
            out, err = _read(process)
            status = process.wait()
        finally:
            ending(None)
            process.kill_tree(signal.SIGKILL)  # what it left behind in its group ends with its step
            self._running.discard(process)
            process.close()
        ending(lambda: None)  # raises when it was ended: its exit status is ours then, not its own
        if status:
            last = err.strip().rpartition("\n")[2][:200]
            raise CommandFailed(
                "exit" if status > 0 else "signal",
                _said(status) + (f': "{last}"' if last else ""),
                err[-_TAIL:],
            )
        return {"exit": 0, "stdout": out, "stderr": err}


def _said(status: int) -> str:
    if status > 0:
        return f"exit {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _read(process: Process) -> tuple[str, str]:
    """Both outputs, until the process has ended and nothing more comes."""
    assert process.stdout is not None
    assert process.stderr is not None
    kept = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    poll = select.poll()
    for fd in (*kept, process.pidfd):
        poll.register(fd, select.POLLIN)
    open_ends = set(kept)
    ended = False
    while open_ends:
        ready = poll.poll(_LINGER * 1000 if ended else None)
        if ended and not ready:
            break
        for fd, _ in ready:
            if fd == process.pidfd:
                ended = True
                poll.unregister(fd)
                continue
            data = os.read(fd, 65536)
            if not data:
                open_ends.discard(fd)
                poll.unregister(fd)
            elif len(kept[fd]) < _KEEP:
                kept[fd] += data[: _KEEP - len(kept[fd])]
    out, err = (bytes(part).decode(errors="replace") for part in kept.values())
    return out, err
