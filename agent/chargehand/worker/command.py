"""Running a command for a step: its process tree, its output, its end.

A process must be started on the worker's main thread (the kernel ends it when the thread that started it
ends), so a step's thread asks the main thread to start it, then waits for it and reads it itself.
"""

from __future__ import annotations

import codecs
import os
import queue
import select
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from chargehand.commands import CommandAction
from chargehand.linux import tree
from chargehand.linux.spawn import Process, said, spawn
from chargehand.worker.ending import Ended, Ending

__all__ = ["CommandFailed", "Runner"]

_KEEP = 256 * 1024  # bytes of each of stdout and stderr that are kept: the first ones
_TAIL = 2_000  # characters of stderr that go with a failure
_SWEEP_TIME = 5.0  # seconds for a killed process to be gone: one that hangs in the kernel may never be
_LINGER = 0.5  # seconds to read on after the command ended: something it started may hold its output open


class _Started(NamedTuple):
    process: Process
    out: int  # to read its output from
    err: int


_decoder = codecs.getincrementaldecoder("utf-8")
_Start = tuple[list[str], dict[str, str], "Future[_Started]"]


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
                started = _start(argv, environment)
            except OSError as error:
                future.set_exception(error)
            else:
                self._running.add(started.process)
                future.set_result(started)

    def kill_all(self) -> None:
        """The worker ends: so does everything that it started."""
        for process in list(self._running):
            process.kill_tree(signal.SIGKILL)

    def run(
        self,
        action: CommandAction,
        inputs: dict[str, Any],
        variables: dict[str, str],
        ending: Ending,
        tell: Callable[[str, str], None],
    ) -> dict[str, Any]:
        """The step's output: `exit`, `stdout`, `stderr`. Raises `CommandFailed`, `BadInput`, `Ended`.

        `variables` are added to its environment. `tell` gets what it writes while it runs: "out" or "err", text.
        """
        argv = action.argv(inputs)
        mark = os.urandom(8).hex()
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "HOME": os.environ.get("HOME", "/"),
            **variables,
            tree.COMMAND_MARK: mark,
            **action.settings.env,
        }
        future: Future[_Started] = Future()
        self._asked.put((argv, environment, future))
        self._wake()
        try:
            started = future.result()
        except OSError as error:
            raise CommandFailed("cannot start", f"{argv[0]}: {os.strerror(error.errno or 0)}") from error
        process = started.process
        try:
            ending.by(lambda: process.kill_tree(signal.SIGKILL), lambda: process.kill_tree(signal.SIGTERM))
            out, err = _read(started, tell)
            status = process.wait()
        finally:
            ending.by(None)
            process.kill_tree(signal.SIGKILL)  # what it left behind in its group ends with its step
            if ending.kind or ending.asked:
                _sweep(mark)
            self._running.discard(process)
            process.close()
            os.close(started.out)
            os.close(started.err)
        if ending.kind:
            raise Ended  # its exit status is ours then, not its own
        if status:
            last = err.strip().rpartition("\n")[2][:200]
            raise CommandFailed(
                "exit" if status > 0 else "signal",
                said(status) + (f': "{last}"' if last else ""),
                err[-_TAIL:],
            )
        return {"exit": 0, "stdout": out, "stderr": err}


def _sweep(mark: str) -> None:
    """It was ended: so is what left its group, before its step may be tried again."""
    until = time.monotonic() + _SWEEP_TIME
    while (left := tree.marked({mark}, tree.COMMAND_MARK)) and time.monotonic() < until:
        for pid in left:
            tree.kill(pid)
        time.sleep(0.005)  # the kernel tells nobody that they are gone


def _start(argv: list[str], environment: dict[str, str]) -> _Started:
    """Raises `OSError`."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    out, out_end = os.pipe()
    err, err_end = os.pipe()
    try:
        process = spawn(argv, env=environment, stdin=nothing, stdout=out_end, stderr=err_end, foreign=True)
    except BaseException:
        os.close(out)
        os.close(err)
        raise
    finally:
        for end in (nothing, out_end, err_end):
            os.close(end)
    return _Started(process, out, err)


def _read(started: _Started, tell: Callable[[str, str], None]) -> tuple[str, str]:
    """Both outputs, until the process has ended and nothing more comes."""
    pidfd = started.process.pidfd
    kept = {started.out: bytearray(), started.err: bytearray()}
    kinds = {started.out: "out", started.err: "err"}
    texts = {fd: _decoder(errors="replace") for fd in kept}
    poll = select.poll()
    for fd in (*kept, pidfd):
        poll.register(fd, select.POLLIN)
    open_ends = set(kept)
    ended = False
    while open_ends:
        ready = poll.poll(_LINGER * 1000 if ended else None)
        if ended and not ready:
            break
        for fd, _ in ready:
            if fd == pidfd:
                ended = True
                poll.unregister(fd)
                continue
            data = os.read(fd, 65536)
            tell(kinds[fd], texts[fd].decode(data, final=not data))
            if not data:
                open_ends.discard(fd)
                poll.unregister(fd)
            elif len(kept[fd]) < _KEEP:
                kept[fd] += data[: _KEEP - len(kept[fd])]
    out, err = (bytes(part).decode(errors="replace") for part in kept.values())
    return out, err
