"""Units, spec and man pages, as files: what they say of each other and of the program must agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import chargehand
from chargehand.cli.app import COMMANDS
from chargehand.config.settings import AgentSettings

ROOT = Path(__file__).parents[2]
RPM = ROOT / "packaging/rpm"
UNITS = ROOT / "units"
SPEC = (RPM / "chargehand.spec").read_text(encoding="utf-8")

Unit = dict[str, list[str]]


def _unit(name: str) -> Unit:
    """`Section.Key` -> its values, in their order."""
    found: Unit = {}
    section = ""
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(f"{section}.{key}", []).append(value)
    return found


# -- units ----------------------------------------------------------------------------------------


def test_an_instance_differs_only_in_what_follows_from_its_name() -> None:
    own, instance = _unit("chargehand.service"), _unit("chargehand@.service")
    differing = {key for key in own.keys() | instance.keys() if own.get(key) != instance.get(key)}
    assert differing == {
        "Unit.Description",
        "Service.Environment",
        "Service.RuntimeDirectory",
        "Service.StateDirectory",
    }
    assert instance["Service.Environment"] == ["CHARGEHAND_CONFIG=/etc/chargehand/%i.toml"]
    # Beside those of the default unit: systemd removes what is within them when that unit stops.
    assert instance["Service.RuntimeDirectory"] == [f"{own['Service.RuntimeDirectory'][0]}-%i"]
    assert instance["Service.StateDirectory"] == [f"{own['Service.StateDirectory'][0]}-%i"]


def test_the_unit_makes_the_directories_that_the_agent_uses() -> None:
    own = _unit("chargehand.service")
    assert AgentSettings().runtime_dir == f"/run/{own['Service.RuntimeDirectory'][0]}"
    assert AgentSettings().state_dir == f"/var/lib/{own['Service.StateDirectory'][0]}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["chargehand.service", "chargehand@.service"])
def test_systemd_finds_nothing_wrong_and_little_exposed(tmp_path: Path, name: str) -> None:
    for unit in UNITS.glob("*.service"):
        text = unit.read_text(encoding="utf-8")
        # Only what is here is asked about: neither the program nor its pages need be installed.
        text = text.replace("/usr/bin/chargehand", sys.executable)
        text = re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    file = str(tmp_path / name.replace("@.", "@blue."))
    if "@" in name:
        (tmp_path / "chargehand@blue.service").symlink_to(tmp_path / name)
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:", "LC_ALL": "C"}
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    asked = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=22", file]
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# -- the spec -------------------------------------------------------------------------------------


def test_the_package_has_the_version_of_the_program() -> None:
    assert re.findall(r"^Version:\s+(\S+)$", SPEC, re.MULTILINE) == [chargehand.__version__]
    assert re.search(rf"^%changelog\n\* .+ - {re.escape(chargehand.__version__)}-1$", SPEC, re.MULTILINE)


def test_the_package_and_the_unit_agree_about_each_directory() -> None:
    """Else `rpm -V` would complain about what systemd has made, or the other way round."""
    packaged = {
        path.replace("%{_sysconfdir}", "/etc"): (mode, owner)
        for mode, owner, path in re.findall(
            r"^(?:%ghost )?%dir %attr\((\d+), (\w+), chargehand\) (\S+)$", SPEC, re.MULTILINE
        )
    }
    unit = _unit("chargehand.service")
    for kind, above, owner in (("Runtime", "/run", "chargehand"), ("State", "/var/lib", "chargehand")):
        path = f"{above}/{unit[f'Service.{kind}Directory'][0]}"
        assert packaged[path] == (unit[f"Service.{kind}DirectoryMode"][0], owner)
    assert packaged["/etc/chargehand"] == (unit["Service.ConfigurationDirectoryMode"][0], "root")


def test_the_user_of_the_unit_is_made_the_same_way_twice() -> None:
    unit = _unit("chargehand.service")
    (line,) = [
        line
        for line in (UNITS / "chargehand.sysusers.conf").read_text(encoding="utf-8").splitlines()
        if line.startswith("u ")
    ]
    found = re.fullmatch(r'u (?P<name>\w+) - "(?P<comment>[^"]+)" (?P<home>\S+) (?P<shell>\S+)', line)
    assert found is not None
    assert unit["Service.User"] == unit["Service.Group"] == [found["name"]]
    (useradd,) = re.findall(r"useradd (.*?) \|\| exit 1", SPEC.replace("\\\n", " "))
    assert f"--home-dir {found['home']} " in useradd
    assert f"--shell {found['shell']} " in useradd
    assert f'--comment "{found["comment"]}"' in useradd
    assert useradd.split()[-1] == found["name"]


def test_what_the_program_needs_is_bundled_and_satisfies_it() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pinned = dict(
        re.findall(
            r"^([\w-]+)==(\S+) --hash=sha256:[0-9a-f]{64}$", (RPM / "requirements.txt").read_text(), re.MULTILINE
        )
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # The console's too: a package has no extras.
    for need in map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["console"]]):
        version = pinned.get(canonicalize_name(need.name))
        assert version is not None, f"packaging/rpm/requirements.txt has no {need.name}"
        assert version in need.specifier


def test_the_launcher_is_the_interpreter_that_the_package_requires() -> None:
    first, *rest = (RPM / "chargehand.launcher").read_text(encoding="utf-8").splitlines()
    assert first == "#!/usr/bin/python3.12 -I"
    assert re.search(r"^Requires:\s+/usr/bin/python3.12$", SPEC, re.MULTILINE)
    assert 'sys.path.insert(0, "/usr/lib/chargehand")' in rest


@pytest.mark.parametrize(
    ("group", "own"),
    [
        ("0::/system.slice/chargehand.service/worker.ef15efe774c6cac9.child", True),
        ("0::/system.slice/system-chargehand.slice/chargehand@blue.service/agent", True),
        ("0::/system.slice/chargehand-worker@root.service", True),
        ("1:name=systemd:/system.slice/chargehand.service", True),
        ("0::/user.slice/user-0.slice/session-1.scope", False),
        ("0::/system.slice/dnf-automatic.service", False),
        ("0::/system.slice/not-chargehand.service", False),
        ("0::/system.slice/system-chargehand.slice", False),
    ],
)
def test_a_transaction_in_one_of_our_own_steps_is_recognized(group: str, own: bool) -> None:
    found = re.search(r"^%global in_own_unit grep -qs '(.+)' /proc/self/cgroup$", SPEC, re.MULTILINE)
    assert found is not None
    done = subprocess.run(["grep", "-qs", found[1]], input=group, text=True, check=False)
    assert (done.returncode == 0) == own


def _provided() -> set[str]:
    lines = (RPM / "provided.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    assert all(len(row) == 3 for row in rows), "requirement, package of RHEL 9.4, package of RHEL 10"
    return {row[0] for row in rows}


def test_rhel_provides_what_the_spec_requires() -> None:
    required = {
        name for names in re.findall(r"^Requires(?:\(\w+\))?:\s*(.+)$", SPEC, re.MULTILINE) for name in names.split()
    }
    assert required <= _provided()


# -- the built package ----------------------------------------------------------------------------


@pytest.fixture
def package() -> Path:
    built = sorted((ROOT / "dist").glob(f"chargehand-{chargehand.__version__}-*.x86_64.rpm"))
    if not built or shutil.which("rpm") is None:
        pytest.skip("no package: `make rpm` builds it")
    return built[-1]


def _query(package: Path, *words: str) -> list[str]:
    done = subprocess.run(["rpm", "-qp", "--nosignature", *words, package], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_rhel_provides_all_that_the_package_requires_and_no_more_is_listed(package: Path) -> None:
    assert {line.split()[0] for line in _query(package, "--requires")} == _provided()


def test_nothing_of_the_package_is_named_by_md5_or_by_its_builder(package: Path) -> None:
    (line,) = _query(package, "--qf", "%{FILEDIGESTALGO} %{PAYLOADDIGESTALGO} %{BUILDHOST}\n")
    assert line == "8 8 localhost"  # 8: SHA-256


def test_bundled_libraries_hide_nothing_of_python(package: Path) -> None:
    """They are searched before the standard library."""
    inside = [path.removeprefix("/usr/lib/chargehand/").split("/")[0] for path in _query(package, "--list")]
    assert not {name.removesuffix(".py") for name in inside} & sys.stdlib_module_names


def test_every_source_in_the_package_has_its_bytecode(package: Path) -> None:
    """So that no start writes any, as root either."""
    files = set(_query(package, "--list"))
    sources = {path for path in files if path.startswith("/usr/lib/chargehand/") and path.endswith(".py")}
    assert sources
    for path in sources:
        folder, _, name = path.rpartition("/")
        assert f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-312.pyc" in files


# -- man pages and completions --------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("man")
    program = [sys.executable, "-B", str(ROOT / "packaging/man/generate.py"), str(place)]
    subprocess.run(program, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "agent")})
    return place


def test_every_command_is_in_its_man_page(made: Path) -> None:
    page = (made / "chargehand.1").read_text(encoding="utf-8").replace("\\-", "-")
    for name, entry in COMMANDS.items():
        assert f'.SS "chargehand {name}' in page, f"{name}: {entry.help}"


def test_every_section_of_the_documents_is_in_their_pages(made: Path) -> None:
    for page, document in (("chargehand.toml.5", "configuration.md"), ("chargehand.service.8", "agent.md")):
        text = (made / page).read_text(encoding="utf-8").replace("\\(aq", "'").upper()
        for title in re.findall(r"^## (.+)$", (ROOT / "docs" / document).read_text(encoding="utf-8"), re.MULTILINE):
            assert f'.SH "{title.replace("`", "").upper()}"' in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("page", ["chargehand.1", "chargehand.toml.5", "chargehand.service.8"])
def test_groff_finds_nothing_wrong(made: Path, page: str) -> None:
    asked = ["groff", "-man", "-Tutf8", "-ww", "-z", "-k", str(made / page)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_completions_ask_the_program_itself(made: Path) -> None:
    for name in ("chargehand.bash", "_chargehand", "chargehand.fish"):
        assert "_CHARGEHAND_COMPLETE=" in (made / name).read_text(encoding="utf-8")
