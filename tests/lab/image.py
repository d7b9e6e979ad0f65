"""What a node's disk has at first: three layers, each built once and kept until its recipe changes.

`base` is Debian, `python` a virtual environment with what Chargehand needs, `chargehand` the checkout itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from lab.host import call, mounts_below, overlay, unmount

__all__ = ["Image", "cache_directory"]

_SUITE = "bookworm"  # systemd 252, as RHEL 9
_PYTHON = "3.11"  # of that suite
_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "python3-venv",
    "iproute2",
    "procps",
    "redis-server",
    "util-linux",
)
_SETTLE = """
systemctl disable redis-server.service e2scrub_reap.service
systemctl mask getty.target console-getty.service systemd-networkd-wait-online.service
rm -f /etc/resolv.conf /etc/hostname
: >/etc/machine-id
mkdir -p /var/log/journal
useradd --system --user-group --home-dir /var/lib/chargehand --shell /usr/sbin/nologin chargehand
install -d -m 0750 -g chargehand /etc/chargehand
"""  # of the base; no name of the host stays, each node gets its own machine-id, the journal outlives a power cut
_SOURCE_ONLY = ("sdnotify",)  # published without a wheel
# redis-py needs it below Python 3.11.3, and the suite has 3.11.2: pip reads that condition with the host's version.
_BESIDE = ("async-timeout",)
_VENV = "/opt/chargehand"
_PLACES = {  # of what stands in units/; the user and its directories are in the base already
    ".service": "usr/lib/systemd/system",
    ".socket": "usr/lib/systemd/system",
    ".target": "usr/lib/systemd/system",
    ".catalog": "usr/lib/systemd/catalog",
}


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "chargehand-lab"


class Image:
    """`layers`, topmost first, make a whole root file system. They stay until `close`.

    Labs that stand beside each other share them: one builds at a time, and none removes what another uses.
    """

    def __init__(self, tree: Path, cache: Path, scratch: Path) -> None:
        """`tree`: the checkout; `scratch`: a directory for mounts while building."""
        self._tree, self._cache, self._scratch = tree, cache, scratch
        cache.mkdir(parents=True, exist_ok=True)
        self._used: list[int] = []
        building = os.open(cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(building, fcntl.LOCK_EX)
            self._build()
        finally:
            os.close(building)

    def close(self) -> None:
        for held in self._used:
            os.close(held)
        self._used.clear()

    def _build(self) -> None:
        unmount(self._cache)  # of an earlier one that was killed while it built
        tree = self._tree
        project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        self._needs: list[str] = project["dependencies"]
        recipe = [_SUITE, platform.machine(), *_PACKAGES, _SETTLE]
        base = self._layer("base", recipe, self._build_base)
        recipe = [base.name, _VENV, *self._needs, *_BESIDE]
        python = self._layer("python", recipe, lambda upper: self._build_python([base], upper))
        recipe = [python.name, repr(_PLACES), *_contents(tree)]
        chargehand = self._layer("chargehand", recipe, lambda upper: self._build_chargehand([python, base], upper))
        self.layers = [chargehand, python, base]

    def _layer(self, name: str, recipe: list[str], build: Callable[[Path], None]) -> Path:
        key = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:16]
        path = self._cache / f"{name}-{key}"
        for other in self._cache.glob(f"{name}-*"):
            if other != path and not _is_used(other):
                _remove(other)
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            build(unfinished)
            unfinished.rename(path)
        self._used.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        fcntl.flock(self._used[-1], fcntl.LOCK_SH)
        return path

    def _build_base(self, root: Path) -> None:
        call(
            "mmdebstrap",
            "--variant=minbase",
            "--format=directory",
            f"--include={','.join(_PACKAGES)}",
            _SUITE,
            root,
            *_debian_sources(),
            timeout=900,
        )
        call("chroot", root, "sh", "-ec", _SETTLE)

    def _build_python(self, lower: list[Path], upper: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        with tempfile.TemporaryDirectory() as wheels, self._changing(lower, upper) as root:
            sources = [need for need in self._needs if re.split(r"[^\w.-]", need)[0] in _SOURCE_ONLY]
            call(*pip, "wheel", "--no-deps", "--wheel-dir", wheels, *sources, timeout=600)
            call(
                *pip,
                "download",
                "--only-binary=:all:",
                f"--python-version={_PYTHON}",
                f"--find-links={wheels}",
                f"--dest={wheels}",
                *self._needs,
                *_BESIDE,
                timeout=600,
            )
            call("chroot", root, "python3", "-m", "venv", _VENV)
            _install(root, Path(wheels), *self._needs)

    def _build_chargehand(self, lower: list[Path], upper: Path) -> None:
        with tempfile.TemporaryDirectory() as wheels, self._changing(lower, upper) as root:
            call(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", wheels, cwd=self._tree)
            _install(root, Path(wheels), "--no-deps", "chargehand")
            (root / "usr/bin/chargehand").symlink_to(f"{_VENV}/bin/chargehand")
            for file in sorted((self._tree / "units").iterdir()):
                if file.suffix not in _PLACES:
                    continue
                place = root / _PLACES[file.suffix]
                place.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place / file.name)
            call("chroot", root, "journalctl", "--update-catalog")

    def _changing(self, lower: list[Path], upper: Path) -> AbstractContextManager[Path]:
        return overlay(self._scratch / "build", lower, upper, self._cache / "work")


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


def _debian_sources() -> list[Path]:
    """The host's own sources of the suite, so that its mirror is used; none: mmdebstrap's default."""
    found = []
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if path.suffix in {".list", ".sources"} and path.is_file():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
            if any(re.search(rf"\b{_SUITE}\b", line) for line in lines) and any("/debian" in line for line in lines):
                found.append(path)
    return found


def _contents(tree: Path) -> list[str]:
    files = [tree / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    for folder in ("agent", "units"):
        files += [path for path in (tree / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [f"{path.relative_to(tree)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in sorted(files)]


def _is_used(layer: Path) -> bool:
    held = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(held)
    return False


def _remove(path: Path) -> None:
    assert not mounts_below(path), f"{path} is still mounted"
    shutil.rmtree(path)
