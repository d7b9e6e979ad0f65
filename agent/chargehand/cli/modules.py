"""Which of the configured modules cannot be imported: asked of a short process, never of this one.

A module may hang, crash or print, and must do none of it in the command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from chargehand.program import own_argv

__all__ = ["LIMIT", "Probed", "probe"]

LIMIT = 20.0  # seconds for all modules together: a check is something that a person waits for


class Probed(NamedTuple):
    errors: dict[str, str]  # module -> why it cannot be imported, one line
    actions: list[str]  # what the others registered


def probe(path: Sequence[str], modules: Sequence[str], limit: float = LIMIT) -> Probed:
    """Import `modules` as a worker would, with `path` after our own libraries.

    A module that ends the process is named, and the ones after it are tried in a new process; one that has
    not come to an end within `limit` seconds is named, and so are those that were not tried for it.
    """
    deadline = time.monotonic() + limit
    errors: dict[str, str] = {}
    actions: set[str] = set()
    left = list(modules)
    while left:
        answers, status = _run(path, left, deadline)
        for answer in answers:
            if "module" in answer:
                left.remove(answer["module"])
                if answer["error"] is not None:
                    errors[answer["module"]] = answer["error"]
            actions.update(answer.get("actions", ()))
        if not left:
            break
        if status is None:
            errors[left[0]] = f"its import did not end within {limit:g} s"
            errors.update((module, f"not tried: {left[0]} took all the time") for module in left[1:])
            break
        errors[left.pop(0)] = f"its import ends the process ({_ended(status)})"
    return Probed(errors, sorted(actions))


def _run(path: Sequence[str], modules: Sequence[str], deadline: float) -> tuple[list[dict[str, Any]], int | None]:
    """What one process answered, and its exit status: None when it was out of time."""
    process = subprocess.Popen(
        own_argv("probe-modules"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what the modules start ends with the process
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        try:
            process.stdin.write(json.dumps({"path": list(path), "modules": list(modules)}).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it is dead already; its status says so
        text, in_time = _read(process.stdout.fileno(), deadline)
        answers = [json.loads(line) for line in text.split(b"\n")[:-1]]  # the last is empty, or cut off
        done = bool(answers) and "done" in answers[-1]
        status = 0 if done else process.wait() if in_time else None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    return answers, status


def _read(fd: int, deadline: float) -> tuple[bytes, bool]:
    """All until the end or the word `done` (a module's own children may hold the pipe open), and whether in time."""
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while not text.endswith(b'"done": true}\n'):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return text, False
            data = os.read(fd, 65536)
            if not data:
                break
            text += data
    return text, True


def _ended(status: int) -> str:
    if status >= 0:
        return f"exit {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
