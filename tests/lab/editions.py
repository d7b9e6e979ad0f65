"""Packages to upgrade to. Nothing is released yet, so they are this checkout under a higher version: a program that
answers says which it is."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lab.host import call
from lab.image import cache_directory
from lab.package import Python, package_sources

__all__ = ["LATER", "NOTE", "Editions", "editions", "small_package"]

LATER = "99.0"  # the version of what one upgrades to
NOTE = "# A default that the other package does not have."  # in the configuration that `changed` brings


class Editions(NamedTuple):
    """Files, all of one name and architecture."""

    this: Path  # the checkout as it is
    later: Path  # the same as version `LATER`
    changed: Path  # the same as `later`, but for a line in the default configuration


@cache
def editions(tree: Path, package: Path) -> Editions:
    """`package`: that of `tree`. The later ones are built once for its contents, and kept."""
    python = Python(tree)
    digest = hashlib.sha256(python.version.encode() + Path(__file__).read_bytes())
    for path in package_sources(tree):
        digest.update(f"{path.relative_to(tree)}\0".encode() + path.read_bytes())
    place = cache_directory() / f"editions-{digest.hexdigest()[:16]}"
    with (cache_directory() / "editions.lock").open("w") as lock:  # of labs beside each other one builds
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            for older in place.parent.glob("editions-*"):  # each is copied to a node when it is used
                shutil.rmtree(older)
            with tempfile.TemporaryDirectory(dir=place.parent, prefix="building-") as directory:
                made = Path(directory) / "made"
                _build(tree, python, made / "later", note=False)
                _build(tree, python, made / "changed", note=True)
                made.rename(place)
    return Editions(package, *(next((place / name).glob("*.rpm")) for name in ("later", "changed")))


def _build(tree: Path, python: Python, output: Path, *, note: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        copy = _later(tree, Path(directory) / "tree", note=note)
        words = [f"--output={output}", f"--wheels={os.environ.get('RPM_WHEELS') or tree / 'dist/wheels'}"]
        environment = {**os.environ, "PYTHON312": str(python.executable)}
        call(sys.executable, copy / "packaging/rpm/build.py", *words, timeout=600, env=environment)


def _later(tree: Path, copy: Path, *, note: bool) -> Path:
    for path in package_sources(tree):
        place = copy / path.relative_to(tree)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    edits = {
        "agent/chargehand/__init__.py": (r'^(__version__ = )".+"$', rf'\1"{LATER}"'),
        "packaging/rpm/chargehand.spec": (r"^(Version:\s+)\S+$", rf"\g<1>{LATER}"),
    }
    if note:
        edits["agent/chargehand/config/template.py"] = (r'^(TEMPLATE = """\\\n)', rf"\g<1>{NOTE}\n")
    for name, (pattern, replacement) in edits.items():
        text, count = re.subn(
            pattern, replacement, (copy / name).read_text(encoding="utf-8"), count=1, flags=re.MULTILINE
        )
        assert count == 1, f"{name} has no {pattern}"
        (copy / name).write_text(text, encoding="utf-8")
    return copy


def small_package(name: str, place: Path) -> Path:
    """A package with one file, /usr/share/NAME/here."""
    spec = place / f"{name}.spec"
    spec.write_text(
        f"Name: {name}\nVersion: 1\nRelease: 1\nSummary: One file\nLicense: CC0-1.0\nBuildArch: noarch\n"
        "%description\nOne file.\n"
        f"%install\ninstall -d %{{buildroot}}/usr/share/{name}\necho here >%{{buildroot}}/usr/share/{name}/here\n"
        f"%files\n/usr/share/{name}\n",
        encoding="ascii",
    )
    call("rpmbuild", "-bb", "--quiet", f"--define=_topdir {place}", f"--define=_rpmdir {place}", spec)
    return next(place.rglob(f"{name}-1-1*.rpm"))
