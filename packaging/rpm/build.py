"""Build the RPM of this checkout: `make rpm`, or `python packaging/rpm/build.py --help`.

Wheels are kept; once they are there, no network is needed. Two builds of the same tree are the same file.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_SOURCES = ("CHANGELOG.md", "LICENSE", "README.md", "docs", "packaging", "units")  # the code itself comes as a wheel
_TARGET = [
    "--implementation=cp",
    "--python-version=3.12",
    *(f"--platform=manylinux_{glibc}_x86_64" for glibc in ("2_28", "2_17", "2_12")),  # RHEL 9 has glibc 2.34
]
_INIT = "agent/chargehand/__init__.py"


class Failed(Exception):
    """The package cannot be built; the message says why and what would help."""


class Pin(NamedTuple):
    """One library that is bundled, as requirements.txt names it."""

    line: str
    name: str
    version: str
    digest: str

    def wheel(self, wheels: Path) -> Path | None:
        found = sorted(wheels.glob(f"{self.name.replace('-', '_')}-{self.version}-*.whl"))
        return found[0] if found else None


def main() -> int:
    words = argparse.ArgumentParser(description="Build the RPM of this checkout.")
    words.add_argument("--output", type=Path, default=_ROOT / "dist", help="where the package goes (default: dist)")
    words.add_argument(
        "--wheels",
        type=Path,
        default=Path(os.environ.get("RPM_WHEELS") or _ROOT / "dist/wheels"),
        help="where the bundled libraries' wheels are kept (default: RPM_WHEELS, else dist/wheels)",
    )
    words.add_argument("--release", default="1", help="the package's release (default: 1)")
    words.add_argument("--twice", action="store_true", help="build a copy of the tree elsewhere too, and compare")
    words.add_argument("--python", action="store_true", help="only print which Python 3.12 it would build with")
    given = words.parse_args()
    wheels = given.wheels.resolve()
    try:
        if given.python:
            print(python312())
            return 0
        built = build(_ROOT, given.output.resolve(), wheels, given.release)
        if given.twice:
            _compare(built, wheels, given.release)
        print(built)
    except Failed as error:
        print(f"chargehand: {error}", file=sys.stderr)
        return 1
    return 0


def build(tree: Path, output: Path, wheels: Path, release: str) -> Path:
    """The package of `tree`, in `output`. Raises `Failed`."""
    _tool("rpmbuild", 'install it (Debian: "apt-get install rpm", RHEL: "dnf install rpm-build")')
    python = python312()
    libraries = gather(wheels)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chargehand-rpm-") as directory:
        top = Path(directory)
        installed = top / "wheels"
        installed.mkdir()
        for library in libraries:
            shutil.copy2(library, installed)
        sources = top / "SOURCES"
        sources.mkdir()
        shutil.copy2(_HERE / "requirements.txt", sources)
        _own_wheel(tree, installed)
        _own_sources(tree, sources / f"chargehand-{_version(tree)}.tar.gz")
        _call(
            "rpmbuild",
            "-bb",
            "--quiet",
            f"--load={_HERE / 'macros'}",
            f"--define=_topdir {top}",
            f"--define=_rpmdir {top / 'RPMS'}",
            f"--define=chargehand_wheels {installed}",
            f"--define=chargehand_release {release}",
            f"--define=python312 {python}",
            "--nodeps",  # BuildRequires are names of RHEL's packages; what is needed was looked for above
            str(_HERE / "chargehand.spec"),
        )
        (made,) = (top / "RPMS").rglob("*.rpm")
        return Path(shutil.copy2(made, output))


def _compare(built: Path, wheels: Path, release: str) -> None:
    """Raises `Failed` when a copy of the tree, with another path and under another umask, gives another package."""
    with tempfile.TemporaryDirectory(prefix="chargehand and elsewhere ") as directory:
        tree = Path(directory) / "tree"
        for name in (*_SOURCES, "agent", "pyproject.toml"):
            copy = shutil.copytree if (_ROOT / name).is_dir() else shutil.copy
            (tree / name).parent.mkdir(exist_ok=True)
            copy(_ROOT / name, tree / name)
        before = os.umask(0o077)
        try:
            again = build(tree, Path(directory), wheels, release)
        finally:
            os.umask(before)
        if again.read_bytes() != built.read_bytes():
            kept = shutil.copy(again, built.with_suffix(".again.rpm"))
            raise Failed(f"two builds differ: {built} and {kept}; rpm -qp --dump shows in which file")


# -- what is bundled ------------------------------------------------------------------------------


def pins() -> Iterator[Pin]:
    for line in (_HERE / "requirements.txt").read_text(encoding="utf-8").splitlines():
        found = re.match(r"(?P<name>[\w-]+)==(?P<version>\S+) --hash=sha256:(?P<digest>\w+)$", line)
        if found is not None:
            yield Pin(line, found["name"], found["version"], found["digest"])


def gather(wheels: Path) -> list[Path]:
    """Every library's wheel, downloaded or built if it is not there. Raises `Failed`."""
    wheels.mkdir(parents=True, exist_ok=True)
    missing = [pin for pin in pins() if pin.wheel(wheels) is None]
    for pin in missing:
        try:
            _fetch(pin, wheels)
        except Failed as error:
            advice = "let pip reach a package index, or name a directory that has it: RPM_WHEELS=DIR"
            raise Failed(
                f"{wheels} has no wheel of {pin.name} {pin.version}, and it cannot be had: {advice}"
            ) from error
    found = []
    for pin in pins():
        wheel = pin.wheel(wheels)
        if wheel is None:
            raise Failed(f"{wheels}: pip gave another file than a wheel of {pin.name} {pin.version}")
        if pin.name not in _SOURCE_ONLY and hashlib.sha256(wheel.read_bytes()).hexdigest() != pin.digest:
            raise Failed(f"{wheel}: not the file that requirements.txt names: remove it to have it downloaded again")
        found.append(wheel)
    return found


#: Published without a wheel: the digest is the archive's. Its wheel is made with these tools, whatever is installed.
_SOURCE_ONLY = {"sdnotify"}
_BUILD_TOOLS = "setuptools==80.9.0 --hash=sha256:062d34222ad13e0cc312a4c02d73f059e86a4acbfbdea8f8f76b28c99f306922"


def _fetch(pin: Pin, wheels: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        if pin.name in _SOURCE_ONLY:
            _make(pin, place)
        else:
            _download(pin.line, place, "--only-binary=:all:", *_TARGET)
        (made,) = place.glob("*.whl")
        shutil.move(made, wheels / made.name)


def _make(pin: Pin, place: Path) -> None:
    tools, source = place / "tools", place / "source"
    with tempfile.TemporaryDirectory() as directory:
        _download(_BUILD_TOOLS, Path(directory), "--only-binary=:all:")
        _pip("install", "--no-index", "--no-deps", f"--target={tools}", *map(str, Path(directory).iterdir()))
    _download(pin.line, source, f"--no-binary={pin.name}", "--no-build-isolation", tools=tools)
    words = ["--no-index", "--no-deps", "--no-build-isolation", f"--wheel-dir={place}"]
    _pip("wheel", *words, *map(str, source.iterdir()), tools=tools)


def _download(line: str, place: Path, *words: str, tools: Path | None = None) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(line + "\n")
        file.flush()
        common = ["--no-deps", "--require-hashes", f"--dest={place}", f"--requirement={file.name}"]
        _pip("download", *common, *words, tools=tools)


def _pip(*words: str, tools: Path | None = None) -> None:
    found = {"PYTHONPATH": str(tools)} if tools is not None else {}
    _call(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words, environment=found)


# -- what is ours ---------------------------------------------------------------------------------


def _own_wheel(tree: Path, place: Path) -> None:
    _call(sys.executable, "-m", "hatchling", "build", "--target=wheel", f"--directory={place}", cwd=tree)


def _own_sources(tree: Path, archive: Path) -> None:
    """What the spec unpacks: the same bytes for the same files."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if Path(entry.name).name == "__pycache__":
            return None
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = "root"
        entry.mode = 0o755 if entry.isdir() else 0o644
        return entry

    with archive.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name in _SOURCES:
                tar.add(tree / name, f"chargehand-{_version(tree)}/{name}", filter=plain)  # directories in name order


def _version(tree: Path) -> str:
    found = re.search(r'^__version__ = "(.+)"$', (tree / _INIT).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


# -- the machine ----------------------------------------------------------------------------------


_WANTED = "Python 3.12 with pip is needed: install it, or name one: PYTHON312=/PATH/TO/python3.12"


def python312() -> str:
    """Of PYTHON312 alone where that is set, else of PATH, else of pyenv. Raises `Failed`."""
    given = os.environ.get("PYTHON312")
    faults = []
    for python in [given] if given else _pythons():
        fault = _not_312(python)
        if fault is None:
            return python
        faults.append(f"{python}: {fault}")
    raise Failed(". ".join([*faults, _WANTED]))


def _pythons() -> Iterator[str]:
    if found := shutil.which("python3.12"):
        yield found
    if pyenv := shutil.which("pyenv"):  # what it puts on PATH works only for versions that are chosen
        done = subprocess.run([pyenv, "prefix", "3.12"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            yield f"{done.stdout.strip()}/bin/python3.12"


def _not_312(python: str) -> str | None:
    """What is wrong with it as a Python 3.12 that builds."""
    ask = "import sys, pip; print(*sys.version_info[:2], sep='.')"
    try:
        done = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=False)
    except OSError as error:
        return os.strerror(error.errno or 0)
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1 if "Error" in done.stderr else 0]
    return None if done.stdout.strip() == "3.12" else f"is Python {done.stdout.strip()}"


def _tool(name: str, advice: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Failed(f"{name} is needed and was not found on PATH: {advice}")
    return found


def _call(*argv: str, cwd: Path | None = None, environment: Mapping[str, str] = {}) -> None:
    """Run it; what it says is shown when it fails."""
    base = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    base |= {"LC_ALL": "C.UTF-8", "TZ": "UTC", **environment}
    done = subprocess.run(argv, cwd=cwd, env=base, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        sys.stderr.buffer.write(done.stdout)
        raise Failed(f"{Path(argv[0]).name} failed with exit code {done.returncode}; its own words stand above")


if __name__ == "__main__":
    sys.exit(main())
