"""The package on a node: install, upgrade, downgrade and erase, also from a step of the node's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import chargehand
from lab.editions import LATER, NOTE, Editions, editions, small_package
from lab.host import CommandFailed, until
from lab.node import Node
from lab.service import CONFIG, UNIT, Service

THIS = chargehand.__version__
CHECKOUT = Path(__file__).parents[2]
FILE = "/etc/chargehand/chargehand.toml"
BLUE = "chargehand@blue.service"
ROOT = "chargehand-worker@root.service"

PRIVILEGED = """
[[worker]]
name = "worker"

[[worker]]
name = "root"
queues = ["root"]
threads = 1
unit = true

[[action]]
name = "transaction"
argv = ["/usr/local/bin/transaction", "{command}", "{what}"]
params.command = { type = "string" }
params.what = { type = "string" }
queue = "root"
privileged = true
"""

#: Notes its own beginning and end, and which agent ran then.
TRANSACTION = f"""#!/bin/sh
note() {{ echo "$1 $(systemctl show --property=MainPID --value {UNIT})" >>/srv/transactions; }}
note begun
if ! $1 "$2" >/srv/said 2>&1 </dev/null; then cat /srv/said >&2; exit 1; fi
note ended
"""


class Packages(NamedTuple):
    """What is installed on a node, and what can be."""

    node: Node
    editions: Editions

    def put(self, file: Path) -> str:
        """Where it is on the node then."""
        shutil.copy(file, self.node.root / "srv")
        return f"/srv/{file.name}"

    def go_to(self, file: Path) -> None:
        self.node.rpm("--upgrade", "--oldpackage", file)

    def begin(self, *words: str) -> None:
        """A transaction that may have to wait for what runs. `until_over` when it may end."""
        unit = ("systemd-run", "--quiet", "--unit=transaction", "--remain-after-exit")
        self.node.run(*unit, "dnf", "--assumeyes", *words)

    def until_over(self) -> None:
        until("over", lambda: self.node.show("transaction", "SubState")["SubState"] in {"exited", "failed"}, 60)
        said = [entry["MESSAGE"] for entry in self.node.journal(unit="transaction.service")]
        assert self.node.show("transaction", "Result")["Result"] == "success", said

    def differences(self) -> list[str]:
        """What `rpm -V` finds; a package as it was installed has none."""
        return self.node.rpm("--verify", "chargehand", check=False).splitlines()

    def answers(self) -> str:
        """The version of the command."""
        return self.node.run("chargehand", "--version").split()[-1]


@pytest.fixture
def packages(node: Callable[..., Node], package: Path) -> Packages:
    """A node with all that the package needs, and without it."""
    return Packages(node(package=False), editions(CHECKOUT, package))


@pytest.fixture
def service(packages: Packages) -> Service:
    """This package, with a configuration that somebody has edited; the service is not started."""
    packages.node.install(packages.editions.this)
    packages.node.run("sh", "-c", f"echo '# edited' >>{FILE}")
    packages.node.write("/etc/chargehand/conf.d/50-lab.toml", CONFIG, mode=0o640, group="chargehand")
    packages.node.write("/etc/chargehand/blue.toml", '[executor]\nname = "blue"\n', mode=0o640, group="chargehand")
    return Service(packages.node)


def _running(service: Service, unit: str = UNIT) -> tuple[str, str]:
    """Which run of a unit this is, and how often systemd had to start it again in it."""
    told = service.node.show(unit, "InvocationID", "NRestarts")
    return told["InvocationID"], told["NRestarts"]


def _version(service: Service, *config: str) -> str:
    """Of the agent that runs, by its own word."""
    told = json.loads(service.node.run("chargehand", *config, "status", "--json", check=False))
    version: str = told["agent"]["version"]
    return version


def _attempts(service: Service, plan: str) -> list[int]:
    steps = json.loads(service.node.run("chargehand", "plan", "show", "--json", plan))["steps"]
    return [step["attempt"] for step in steps]


# -- install ------------------------------------------------------------------------------------------


def test_what_is_missing_is_refused_by_name(packages: Packages) -> None:
    packages.node.rpm("--erase", "rhel-stub")
    with pytest.raises(CommandFailed) as refused:
        packages.node.install(packages.editions.this)
    rows = (CHECKOUT / "packaging/rpm/provided.txt").read_text(encoding="utf-8").splitlines()
    needed = {row.split()[0] for row in rows if row and not row.startswith("#")}
    for name in needed:
        by_itself = name.startswith("rpmlib(") or name == "config(chargehand)"
        assert by_itself or f"{name} is needed by chargehand-{THIS}-1" in str(refused.value)
    assert packages.node.rpm("--query", "chargehand", check=False) == "package chargehand is not installed\n"
    assert "chargehand" not in packages.node.read("/etc/passwd")


def test_an_install_starts_nothing_and_changes_nothing_later(packages: Packages) -> None:
    packages.node.repository(packages.editions.this)
    packages.node.dnf("install", "chargehand")
    for unit in (UNIT, BLUE, ROOT):
        assert packages.node.systemctl("is-enabled", unit, check=False) == "disabled"
        assert packages.node.systemctl("is-active", unit, check=False) == "inactive"
    assert packages.answers() == THIS
    assert packages.node.read("/etc/passwd").splitlines()[-1].endswith(":/var/lib/chargehand:/sbin/nologin")
    assert packages.differences() == []

    service = Service(packages.node)
    packages.node.systemctl("enable", "--now", UNIT)
    service.until_whole()
    assert packages.differences() == []
    packages.node.systemctl("stop", UNIT)
    assert packages.differences() == []
    there = packages.node.run("find", "/usr/lib/chargehand", "/etc/chargehand").splitlines()
    assert set(there) <= set(packages.node.rpm("--query", "--list", "chargehand").splitlines())


def test_an_instance_cannot_have_the_name_of_the_service(service: Service) -> None:
    with pytest.raises(CommandFailed):
        service.node.systemctl("start", "chargehand@chargehand.service")
    told = service.node.show("chargehand@chargehand.service", "ActiveState", "ExecMainStatus", "StatusText")
    assert (told["ActiveState"], told["ExecMainStatus"]) == ("failed", "78"), told
    assert FILE in told["StatusText"]


# -- upgrade and downgrade ----------------------------------------------------------------------------


def test_an_upgrade_restarts_what_runs_once_its_steps_have_ended(service: Service, packages: Packages) -> None:
    service.node.systemctl("enable", "--now", UNIT, BLUE)
    service.until_whole()
    before = {unit: _running(service, unit) for unit in (UNIT, BLUE)}
    plan = service.submit("hold")
    service.until_noted("begun")

    packages.begin("upgrade", packages.put(packages.editions.later))
    service.until("it drains", lambda: service.status == "stopping (1 step still runs)")
    assert service.notes() == ["begun"]
    service.let_go()
    packages.until_over()
    service.until_whole()

    # By systemd's helper at the end of the transaction, not by a scriptlet of ours.
    assert any("marked units" in entry["MESSAGE"] for entry in service.node.journal(identifier="systemd"))
    assert packages.answers() == LATER
    assert _version(service) == LATER
    assert _version(service, "--config", "/etc/chargehand/blue.toml") == LATER
    for unit in (UNIT, BLUE):
        invocation, restarts = _running(service, unit)
        assert (invocation != before[unit][0], restarts) == (True, "0"), unit
        assert service.node.systemctl("is-enabled", unit) == "enabled"
    assert service.until_ended(plan) == "succeeded"
    assert (_attempts(service, plan), service.notes()) == ([1], ["begun", "ended"])

    assert packages.differences() == [f"S.5....T.  c {FILE}"]
    assert service.node.read(FILE).endswith("# edited\n")
    assert service.node.read(f"{FILE}.rpmnew") == ""


def test_a_downgrade_is_an_upgrade_to_less(service: Service, packages: Packages) -> None:
    packages.go_to(packages.editions.later)
    service.start()
    before = _running(service)
    plan = service.submit("fail")
    assert service.until_ended(plan) == "paused"

    packages.go_to(packages.editions.this)
    service.until_whole()
    assert (packages.answers(), _version(service)) == (THIS, THIS)
    invocation, restarts = _running(service)
    assert (invocation != before[0], restarts) == (True, "0")
    assert service.plan_state(plan) == "paused"
    assert service.node.read(FILE).endswith("# edited\n")
    assert packages.differences() == [f"S.5....T.  c {FILE}"]


def test_what_is_stopped_stays_stopped(service: Service, packages: Packages) -> None:
    service.node.systemctl("enable", UNIT)
    service.start()
    service.node.systemctl("stop", UNIT)
    packages.go_to(packages.editions.later)
    assert packages.answers() == LATER
    for unit in (UNIT, BLUE, ROOT):
        assert service.node.systemctl("is-active", unit, check=False) == "inactive"
    assert service.node.systemctl("is-enabled", UNIT) == "enabled"
    assert service.node.systemctl("is-enabled", BLUE, check=False) == "disabled"


def test_a_new_default_replaces_only_what_nobody_has_edited(packages: Packages) -> None:
    packages.node.install(packages.editions.this)
    packages.go_to(packages.editions.changed)
    assert NOTE in packages.node.read(FILE)
    packages.go_to(packages.editions.this)
    assert NOTE not in packages.node.read(FILE)

    packages.node.run("sh", "-c", f"echo '# edited' >>{FILE}")
    packages.go_to(packages.editions.changed)
    assert packages.node.read(FILE).endswith("# edited\n")
    assert NOTE not in packages.node.read(FILE)
    assert NOTE in packages.node.read(f"{FILE}.rpmnew")
    told = packages.node.run("stat", "--format=%a %U:%G", FILE, f"{FILE}.rpmnew")
    assert told.splitlines() == ["640 root:chargehand"] * 2


# -- erase --------------------------------------------------------------------------------------------


def _nothing_runs(service: Service) -> None:
    for unit in (UNIT, BLUE, ROOT):
        state = service.node.show(unit, "LoadState", "ActiveState")
        assert (state["LoadState"], state["ActiveState"]) in {("not-found", "inactive"), ("loaded", "inactive")}, unit
    left = service.node.run("pgrep", "--full", "--list-full", "[c]hargehand|[v]alkey|[r]edis-server", check=False)
    assert left == ""


def test_an_erase_leaves_data_and_nothing_that_runs(service: Service, packages: Packages) -> None:
    service.node.write("/etc/chargehand/conf.d/60-root.toml", PRIVILEGED, mode=0o640, group="chargehand")
    service.node.write("/usr/local/bin/transaction", TRANSACTION, mode=0o755)
    service.node.systemctl("enable", "--now", UNIT, BLUE, ROOT)
    service.until_whole()
    plan = service.submit("hold")
    service.until_noted("begun")

    packages.begin("remove", "chargehand")
    service.until("it drains", lambda: service.status == "stopping (1 step still runs)")
    service.let_go()
    packages.until_over()

    _nothing_runs(service)
    assert service.notes() == ["begun", "ended"]
    assert service.node.run("find", "/etc/systemd/system", "-name", "chargehand*") == ""
    left = service.node.run(
        "find",
        "/",
        "-xdev",
        "-path",
        "/proc",
        "-prune",
        "-o",
        "-path",
        "/srv",
        "-prune",
        "-o",
        "-name",
        "*chargehand*",
        "-print",
    )
    assert set(left.splitlines()) == {
        "/etc/chargehand",
        f"{FILE}.rpmsave",
        "/var/lib/chargehand",
        "/var/lib/chargehand-blue",
    }
    assert service.node.read(f"{FILE}.rpmsave").endswith("# edited\n")
    owners = service.node.run("stat", "--format=%U", "/var/lib/chargehand", "/var/lib/chargehand-blue")
    assert owners.split() == ["chargehand", "chargehand"]

    packages.node.install(packages.editions.later)
    service.start()
    assert service.until_ended(plan) == "succeeded"
    assert (_attempts(service, plan), service.notes()) == ([1], ["begun", "ended"])


# -- from a step of this node ---------------------------------------------------------------------------


@pytest.fixture
def privileged(service: Service) -> Service:
    """It runs, with a worker that runs transactions as root."""
    service.node.write("/etc/chargehand/conf.d/60-root.toml", PRIVILEGED, mode=0o640, group="chargehand")
    service.node.write("/usr/local/bin/transaction", TRANSACTION, mode=0o755)
    service.node.systemctl("enable", "--now", UNIT, ROOT)
    service.until_whole()
    return service


def _transactions(service: Service) -> list[str]:
    return service.node.read("/srv/transactions").splitlines()


def test_a_step_installs_a_package_by_dnf(privileged: Service, packages: Packages, tmp_path: Path) -> None:
    small = packages.put(small_package("lab-small", tmp_path))
    before = _running(privileged)
    plan = privileged.submit("transaction", "command=dnf --assumeyes install", f"what={small}")
    assert privileged.until_ended(plan) == "succeeded", privileged.node.read("/srv/said")
    assert privileged.node.read("/usr/share/lab-small/here") == "here\n"
    assert _running(privileged) == before


def test_a_step_that_upgrades_us_ends_before_we_restart(privileged: Service, packages: Packages) -> None:
    agent = privileged.main_pid
    before = {unit: _running(privileged, unit) for unit in (UNIT, ROOT)}
    later = packages.put(packages.editions.later)
    plan = privileged.submit("transaction", "command=dnf --assumeyes upgrade", f"what={later}")

    privileged.until("the step's end", lambda: len(_transactions(privileged)) == 2, 60)
    privileged.until("another run", lambda: _running(privileged)[0] not in {"", before[UNIT][0]}, 60)
    privileged.until_whole()
    assert privileged.until_ended(plan) == "succeeded", privileged.node.read("/srv/said")
    # Both by the agent that was there before, so the restart came after; and once.
    assert _transactions(privileged) == [f"begun {agent}", f"ended {agent}"]
    assert _attempts(privileged, plan) == [1]
    assert (packages.answers(), _version(privileged)) == (LATER, LATER)
    privileged.until("the worker too", lambda: privileged.node.systemctl("is-active", ROOT, check=False) == "active")
    for unit in (UNIT, ROOT):
        invocation, restarts = _running(privileged, unit)
        assert (invocation != before[unit][0], restarts) == (True, "0"), unit
    assert packages.differences() == [f"S.5....T.  c {FILE}"]


def test_a_step_that_erases_us_ends_before_we_stop(privileged: Service, packages: Packages) -> None:
    agent = privileged.main_pid
    privileged.submit("transaction", "command=dnf --assumeyes remove", "what=chargehand")
    privileged.until("erased", lambda: len(_transactions(privileged)) == 2, 60)
    privileged.until("stopped", lambda: privileged["ActiveState"] == "inactive", 60)
    assert _transactions(privileged) == [f"begun {agent}", f"ended {agent}"]
    _nothing_runs(privileged)
    assert privileged.node.run("find", "/etc/systemd/system", "-name", "chargehand*") == ""


# -- its files are gone while it runs -------------------------------------------------------------------


def test_what_runs_needs_no_file_of_the_package(service: Service) -> None:
    service.start()
    plans = [service.submit("hold", f"until=/srv/{name}") for name in ("one", "two")]
    service.until_noted("begun", "begun")
    service.node.run("mv", "/usr/lib/chargehand", "/usr/lib/moved")

    (service.node.root / "srv/one").touch()
    service.until_noted("begun", "begun", "ended")
    service.node.systemctl("stop", "--no-block", UNIT)
    service.until("it drains", lambda: service.status == "stopping (1 step still runs)")
    (service.node.root / "srv/two").touch()
    service.until("stopped", lambda: service["ActiveState"] == "inactive")
    assert (service["Result"], service["ExecMainStatus"], service["NRestarts"]) == ("success", "0", "0")
    assert service.processes() == []

    service.node.run("mv", "/usr/lib/moved", "/usr/lib/chargehand")
    service.start()
    assert [service.until_ended(plan) for plan in plans] == ["succeeded", "succeeded"]
    assert [_attempts(service, plan) for plan in plans] == [[1], [1]]
