"""Packages of this checkout to go from one to another. Nothing is released yet, so the later one is the same
checkout under a higher version: a program that answers says which it is."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lab.host import CommandFailed, call
from lab.image import cache_directory

__all__ = ["DNF", "LATER", "NOTE", "CannotBuild", "Editions", "editions", "small_package"]

DNF = ("dnf", "--assumeyes", "--disablerepo=*")  # files are named; no repository is asked
LATER = "99.0"  # the version of what one upgrades to
NOTE = "# A default that the other package does not have."  # in the configuration that `changed` brings
_NAMES = ("CHANGELOG.md", "LICENSE", "README.md", "agent", "docs", "packaging", "pyproject.toml", "units")


class CannotBuild(Exception):
    """No package can be built here; the message is one sentence that says why."""


class Editions(NamedTuple):
    """Files, all of one name and architecture."""

    this: Path  # the checkout as it is
    later: Path  # the same as version `LATER`
    changed: Path  # the same as `later`, but for a line in the default configuration


@cache
def editions(tree: Path) -> Editions:
    """Built once for the contents of `tree`, and kept. Raises `CannotBuild`."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(file for name in _NAMES for file in [tree / name, *(tree / name).rglob("*")] if file.is_file()):
        if "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(tree)}\0".encode() + path.read_bytes())
    place = cache_directory() / f"editions-{digest.hexdigest()[:16]}"
    cache_directory().mkdir(parents=True, exist_ok=True)
    with (cache_directory() / "editions.lock").open("w") as lock:  # of labs beside each other one builds
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            _build_all(tree, place)
    return Editions(*(next((place / name).glob("*.rpm")) for name in Editions._fields))


def _build_all(tree: Path, place: Path) -> None:
    if shutil.which("rpmbuild") is None:
        raise CannotBuild("no package can be built: rpmbuild is needed (Debian: apt-get install rpm)")
    try:
        call(sys.executable, tree / "packaging/rpm/build.py", "--python")
    except CommandFailed as error:
        raise CannotBuild(f"no package can be built: {str(error).strip().splitlines()[-1]}") from error
    for older in place.parent.glob("editions-*"):  # each is copied to a node as soon as it is asked for
        shutil.rmtree(older)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="building-") as directory:
        made = Path(directory) / "made"
        _build(tree, tree, made / "this")
        for name in ("later", "changed"):
            copy = _later(tree, Path(directory) / name, note=name == "changed")
            _build(tree, copy, made / name)
        made.rename(place)


def _build(tree: Path, copy: Path, output: Path) -> None:
    words = ["--output", str(output), "--wheels", str(tree / "dist/wheels")]
    call(sys.executable, copy / "packaging/rpm/build.py", *words, timeout=600)


def _later(tree: Path, copy: Path, *, note: bool) -> Path:
    copy.mkdir()
    for name in _NAMES:
        if (tree / name).is_dir():
            shutil.copytree(tree / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(tree / name, copy / name)
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
