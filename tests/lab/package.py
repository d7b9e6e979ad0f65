"""The package on nodes that are not RHEL: its build, its Python, and what RHEL's own packages would provide."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from lab.host import CommandFailed, call

__all__ = ["NoPackage", "Python", "build_package", "build_stub", "install_rpms", "package_sources"]

_HERE = Path(__file__).parent / "rhel"
_BUILD = "packaging/rpm/build.py"
_SOURCES = ("CHANGELOG.md", "LICENSE", "README.md", "agent", "docs", "packaging", "pyproject.toml", "units")
_LEFT_OUT = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "config-3.12-*")
_ASK = (
    "import sys, sysconfig; known = sysconfig.get_config_vars(); "
    "print(sys.version.replace('\\n', ' '), sys._base_executable, sysconfig.get_path('stdlib'), "
    "known['INSTSONAME'] if known['Py_ENABLE_SHARED'] else '', known['LIBDIR'], sep='\\n')"
)
#: What a build of Python may lack, and what the node's own libraries must be new enough for.
_TRY = "import ctypes, hashlib, lzma, select, socket, sqlite3, ssl, zlib"


_INSIDE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class NoPackage(Exception):
    """The nodes cannot have the package: why, in one sentence."""


class Python:
    """The machine's Python 3.12, by which the package is built and which nodes get as RHEL has it."""

    def __init__(self, tree: Path) -> None:
        """Raises `NoPackage` when there is none."""
        try:
            found = call(sys.executable, tree / _BUILD, "--python").strip()
        except CommandFailed as error:
            raise NoPackage(f"no package can be built: {str(error).strip().splitlines()[-1]}") from error
        version, executable, library, shared, shared_in = call(found, "-I", "-c", _ASK).splitlines()
        self.version = version
        self.executable, self._library = Path(executable).resolve(), Path(library)
        self._shared = Path(shared_in) / shared if shared else None

    def install(self, root: Path) -> None:
        """As /usr/bin/python3.12, whatever prefix it was built for: below /home or /root a unit would not find it."""
        shutil.copy2(self.executable, root / "usr/bin/python3.12")
        shutil.copytree(self._library, root / "usr/lib/python3.12", ignore=shutil.ignore_patterns(*_LEFT_OUT))
        if self._shared is not None:
            shutil.copy2(self._shared, root / "usr/lib")
            call("chroot", root, "ldconfig")
        try:
            call("chroot", root, "/usr/bin/python3.12", "-I", "-c", _TRY, env=_INSIDE)
        except CommandFailed as error:
            raise NoPackage(f"{self.executable}, as the nodes' Python 3.12, does not run on them: {error}") from error


def package_sources(tree: Path) -> list[Path]:
    """Every file that the package is made of."""
    found: list[Path] = []
    for name in _SOURCES:
        place = tree / name
        found += [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def build_package(tree: Path, place: Path, python: Python) -> None:
    """As `make rpm` does, into the directory `place`."""
    environment = {**os.environ, "PYTHON312": str(python.executable)}
    call(sys.executable, tree / _BUILD, f"--output={place}", timeout=600, env=environment)


def build_stub(tree: Path, place: Path) -> None:
    with tempfile.TemporaryDirectory() as top:
        call(
            "rpmbuild",
            "-bb",
            "--quiet",
            f"--define=_topdir {top}",
            f"--define=_rpmdir {place}",
            "--define=_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
            "--define=_binary_filedigest_algorithm 8",
            f"--define=provided {tree / 'packaging/rpm/provided.txt'}",
            f"--define=here {_HERE}",
            _HERE / "rhel-stub.spec",
        )


def install_rpms(root: Path, *rpms: Path) -> None:
    """On a disk that is not booted. Debian's rpm wants to be told that it is meant."""
    inside = root / "srv/rpm"
    inside.mkdir()
    try:
        for rpm in rpms:
            shutil.copy(rpm, inside)
        words = [f"/srv/rpm/{rpm.name}" for rpm in rpms]
        call("chroot", root, "rpm", "-i", "--force-debian", *words, env=_INSIDE)
    finally:
        shutil.rmtree(inside)
