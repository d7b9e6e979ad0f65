"""`chargehand probe-modules`: import modules in a process that can be thrown away.

Asked on stdin, one JSON object: `{"path": [...], "modules": [...]}`. Answered on stdout, one JSON object a
line: `{"module": NAME, "error": TEXT or null, "actions": [...]}` for each module as soon as it is known, with
the names of all actions registered so far; then `{"done": true}`. What a module prints goes nowhere.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from chargehand.registry import hidden

__all__ = ["main"]


def main(words: list[str]) -> int:  # noqa: ARG001 - the signature of our programs
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    asked = json.load(sys.stdin)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    for answer in _answers(asked["path"], asked["modules"]):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)  # whatever threads and exit handlers the modules left behind


def _answers(path: list[str], modules: list[str]) -> Iterator[dict[str, Any]]:
    sys.path += [entry for entry in path if entry not in sys.path]  # after our own libraries, as workers do
    for module in modules:
        error = _import(module) or hidden(path, module)
        ours = sys.modules.get("chargehand.actions")  # loaded by those who use it, if anybody does
        yield {"module": module, "error": error, "actions": sorted(ours.registered) if ours is not None else []}
    yield {"done": True}


def _import(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except SystemExit as error:
        return f"it exits with {error.code!r}"
    except BaseException as error:  # the modules are anybody's code: all that they raise is an answer
        return _said(error)
    return None


def _said(error: BaseException) -> str:
    """One line: what, and in which line of whose file."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename not in {__file__, importlib.__file__}
    ]
    return f"{said} ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else said
