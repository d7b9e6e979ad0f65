"""The demonstration's work: fingerprint every file of the Python standard library, then check the sum of it."""

from __future__ import annotations

import bz2
import hashlib
import sysconfig
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from chargehand import Plan, action

__all__ = ["compare", "fingerprint", "library_files", "sum_up", "survey"]


class Fingerprint(TypedDict):
    path: str
    sha256: str
    packed: int  # bytes after bz2: work that takes a moment, as real steps do


class Sum(TypedDict):
    files: int
    digest: str  # over the paths and hashes, in order


def library_files() -> list[Path]:
    """Every file of the standard library (without installed packages and byte code), sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "__pycache__"}
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and not skipped.intersection(path.relative_to(root).parts[:-1])
    )


@action
def fingerprint(path: str) -> Fingerprint:
    data = Path(path).read_bytes()
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "packed": len(bz2.compress(data))}


@action
def sum_up(fingerprints: list[Fingerprint]) -> Sum:
    """One directory."""
    return {"files": len(fingerprints), "digest": digest((one["path"], one["sha256"]) for one in fingerprints)}


@action
def compare(directories: list[Sum], expected: int) -> dict[str, object]:
    """Join the directories and compare them with a computation that went no detour."""
    direct = direct_sums()
    found = [(one["files"], one["digest"]) for one in directories]
    return {
        "files": sum(one["files"] for one in directories),
        "expected": expected,
        "equal": found == [(one["files"], one["digest"]) for one in direct],
    }


@action
def survey(plan: Plan) -> None:
    """A step a file, a step a directory, and one that joins them."""
    sums = []
    files = by_directory()
    for paths in files.values():
        prints = [plan.add(fingerprint, path=str(path)) for path in paths]
        sums.append(plan.add(sum_up, fingerprints=prints))
    plan.add(compare, directories=sums, expected=sum(len(paths) for paths in files.values()))


def by_directory() -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = defaultdict(list)
    for path in library_files():
        found[path.parent].append(path)
    return found


def direct_sums() -> list[Sum]:
    return [
        {
            "files": len(paths),
            "digest": digest((str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths),
        }
        for paths in by_directory().values()
    ]


def digest(parts: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()
