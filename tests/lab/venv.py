"""Chargehand on nodes that cannot have the package: a virtual environment in /opt, the units and the user beside it."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

from lab.host import call

__all__ = ["RECIPE", "install_checkout", "install_requirements", "requirements"]

_SOURCE_ONLY = ("sdnotify",)  # published without a wheel
# redis-py needs it below Python 3.11.3, and bookworm has 3.11.2: pip reads that condition with the host's version.
_BESIDE = ("async-timeout",)
_VENV = "/opt/chargehand"
_PLACES = {  # of what stands in units/
    ".service": "usr/lib/systemd/system",
    ".socket": "usr/lib/systemd/system",
    ".target": "usr/lib/systemd/system",
    ".catalog": "usr/lib/systemd/catalog",
}
_USER = """
useradd --system --user-group --home-dir /var/lib/chargehand --shell /usr/sbin/nologin chargehand
install -d -m 0750 -g chargehand /etc/chargehand
"""

RECIPE = (_VENV, repr(_PLACES), *_BESIDE, _USER)


def requirements(tree: Path) -> list[str]:
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs: list[str] = project["dependencies"]
    return needs


def install_requirements(tree: Path, root: Path, python: str) -> None:
    """`python`: the version that the node has."""
    needs = requirements(tree)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as wheels:
        sources = [need for need in needs if re.split(r"[^\w.-]", need)[0] in _SOURCE_ONLY]
        call(*pip, "wheel", "--no-deps", "--wheel-dir", wheels, *sources, timeout=600)
        words = ["--only-binary=:all:", f"--python-version={python}", f"--find-links={wheels}", f"--dest={wheels}"]
        call(*pip, "download", *words, *needs, *_BESIDE, timeout=600)
        call("chroot", root, "python3", "-m", "venv", _VENV)
        _install(root, Path(wheels), *needs)


def install_checkout(tree: Path, root: Path) -> None:
    with tempfile.TemporaryDirectory() as wheels:
        call(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", wheels, cwd=tree)
        _install(root, Path(wheels), "--no-deps", "chargehand")
    call("chroot", root, "sh", "-ec", _USER)
    (root / "usr/bin/chargehand").symlink_to(f"{_VENV}/bin/chargehand")
    for file in sorted((tree / "units").iterdir()):
        if file.suffix not in _PLACES:
            continue
        place = root / _PLACES[file.suffix]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place / file.name)
    call("chroot", root, "journalctl", "--update-catalog")


def _install(root: Path, wheels: Path, *words: str) -> None:
    """Install from wheels alone, into the node's own environment and by its own interpreter."""
    inside = root / "tmp/wheels"
    shutil.copytree(wheels, inside)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
    }  # the host's settings for pip are not the node's
    pip: list[str | Path] = ["chroot", root, f"{_VENV}/bin/pip", "--quiet", "--disable-pip-version-check"]
    try:
        call(*pip, "install", "--no-index", "--find-links=/tmp/wheels", *words, env=environment)
    finally:
        shutil.rmtree(inside)
