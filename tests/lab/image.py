"""What a node's disk has at first: layers, each built once and kept until its recipe changes.

`base` is Debian, `rhel` what RHEL has beside it (Python 3.12, the names that packages require, systemd's helper),
`installed` the built package. Where there is none, `venv` and `checkout` stand for the last two.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from lab import venv
from lab.host import LAB, call, mounts_below, overlay, unmount
from lab.package import NoPackage, Python, build_package, build_stub, install_rpms, package_sources

__all__ = ["SUITES", "Image", "Suite", "cache_directory"]


class Suite(NamedTuple):
    """A release of Debian."""

    name: str
    python: str  # its own, not the one of the package
    server: str  # `redis` or `valkey`: `SERVER-server`, `SERVER-cli` and `SERVER-server.service`


SUITES = {
    suite.name: suite
    for suite in (
        Suite("bookworm", "3.11", "redis"),  # systemd 252, as RHEL 9
        Suite("trixie", "3.13", "valkey"),  # systemd 257, as RHEL 10
    )
}
_PACKAGES = (
    "createrepo-c",
    "dbus",
    "dnf",
    "iproute2",
    "nftables",
    "procps",
    "puppet-agent",
    "python3",
    "python3-venv",
    "rpm",
    "systemd",
    "systemd-sysv",
    "tzdata",
    "util-linux",
)
_SETTLE = """
for unit in $1-server.service e2scrub_reap.service nftables.service puppet.service; do
    if systemctl --quiet is-enabled "$unit" 2>/dev/null; then systemctl disable "$unit"; fi
done
systemctl mask getty.target console-getty.service systemd-networkd-wait-online.service
rm -f /etc/resolv.conf /etc/hostname
: >/etc/machine-id
mkdir -p /var/log/journal
mkdir -p /etc/rpm
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
rpm --force-debian --version >/dev/null 2>&1 || echo 'rpm alias --force-debian --define "meant 1"' >>/etc/popt
"""  # of the base; no name of the host stays, each node gets its own machine-id, the journal outlives a power cut;
# rpm's records are where RHEL has them (Debian: in a home), and one command of rpm does on all releases


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "chargehand-lab"


class Image:
    """Layers, topmost first, that make a whole root file system. They stay until `close`.

    `base` is Debian alone, `bare` a node without Chargehand, `layers` one with it. `package` and `stub` are the
    files installed; None where `why_no_package` is a sentence. Labs that stand beside each other share all layers: one
    builds at a time, and none removes what another uses.
    """

    def __init__(self, tree: Path, suite: Suite, cache: Path, scratch: Path) -> None:
        """`tree`: the checkout; `scratch`: a directory for mounts while building."""
        self._tree, self._suite, self._cache, self._scratch = tree, suite, cache, scratch
        self.package: Path | None = None
        self.stub: Path | None = None
        self.why_no_package = ""
        self._used: list[int] = []
        cache.mkdir(parents=True, exist_ok=True)
        building = os.open(cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(building, fcntl.LOCK_EX)
            unmount(cache)  # of an earlier one that was killed while it built
            self._build()
        finally:
            os.close(building)

    def close(self) -> None:
        for held in self._used:
            os.close(held)
        self._used.clear()

    def _build(self) -> None:
        self.base = self._layer(
            f"base-{self._suite.name}", [*_mirror(), *self._suite, *_PACKAGES, _SETTLE], self._build_base
        )
        try:
            self._build_with_package(self.base)
        except NoPackage as reason:
            self.package, self.why_no_package = None, str(reason)
            self._build_without(self.base)

    def _build_with_package(self, base: Path) -> None:
        if shutil.which("rpmbuild") is None:
            raise NoPackage("the package is built by rpmbuild: install rpm")
        tree = self._tree
        python = Python(tree)
        here = Path(__file__).parent
        recipe = _contents(here, [here / "package.py", *(here / "rhel").iterdir()])
        recipe += _contents(tree, [tree / "packaging/rpm/provided.txt"])
        stub = self._layer("stub", recipe, lambda place: build_stub(tree, place))
        recipe = [python.version, *_contents(tree, package_sources(tree))]
        built = self._layer("package", recipe, lambda place: build_package(tree, place, python))
        (self.stub,), (self.package,) = stub.rglob("*.rpm"), built.glob("*.rpm")

        def add_rhel(root: Path) -> None:
            python.install(root)
            assert self.stub is not None
            install_rpms(root, self.stub)

        def add_package(root: Path) -> None:
            assert self.package is not None
            install_rpms(root, self.package)

        recipe = [base.name, stub.name, python.version]
        below = self._upper(f"rhel-{self._suite.name}", recipe, [base], add_rhel)
        installed = self._upper(f"installed-{self._suite.name}", [below.name, built.name], [below, base], add_package)
        self.bare, self.layers = [below, base], [installed, below, base]

    def _build_without(self, base: Path) -> None:
        tree, suite = self._tree, self._suite

        def add_requirements(root: Path) -> None:
            venv.install_requirements(tree, root, suite.python)

        def add_checkout(root: Path) -> None:
            venv.install_checkout(tree, root)

        recipe = [base.name, *venv.RECIPE, *venv.requirements(tree)]
        below = self._upper(f"venv-{suite.name}", recipe, [base], add_requirements)
        recipe = [below.name, *_contents(tree, package_sources(tree))]
        installed = self._upper(f"checkout-{suite.name}", recipe, [below, base], add_checkout)
        self.bare, self.layers = [base], [installed, below, base]

    def _upper(self, name: str, recipe: list[str], lower: list[Path], change: Callable[[Path], None]) -> Path:
        def build(upper: Path) -> None:
            with self._changing(lower, upper) as root:
                change(root)

        return self._layer(name, recipe, build)

    def _layer(self, name: str, recipe: list[str], build: Callable[[Path], None]) -> Path:
        key = hashlib.sha256("\0".join([platform.machine(), *recipe]).encode()).hexdigest()[:16]
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
        server = self._suite.server
        words = ["--variant=minbase", "--format=directory", f"--include={','.join([*_PACKAGES, f'{server}-server'])}"]
        sources = [f"deb {mirror} {self._suite.name} main" for mirror in _mirror()]
        call("mmdebstrap", *words, self._suite.name, root, *sources, timeout=900)
        call("chroot", root, "sh", "-ec", _SETTLE, "settle", server)

    def _changing(self, lower: list[Path], upper: Path) -> AbstractContextManager[Path]:
        return overlay(self._scratch / "build", lower, upper, self._cache / f"work-{LAB}")


def _mirror() -> list[str]:
    """The one that the host itself uses; none: mmdebstrap's default."""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if path.suffix in {".list", ".sources"} and path.is_file():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
            found = re.search(r"https?://\S+/debian/?(?=\s|$)", "\n".join(lines))
            if found:
                return [found[0]]
    return []


def _contents(below: Path, files: Iterable[Path]) -> list[str]:
    return [f"{path.relative_to(below)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in sorted(files)]


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
