"""A node: its own systemd as PID 1, its own disk, control groups and network."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from lab.groups import NodeGroup
from lab.host import CommandFailed, Done, attempt, call, mount_overlay, unmount, until
from lab.network import PREFIX, Direction, Network

__all__ = ["Node", "Process"]

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_COLORS": "0"}
_BOOT_TIMEOUT = 90.0  # seconds; a node is up in one to three, but the machine may be busy
_REBOOTS = 133  # the exit code of `systemd-nspawn --keep-unit` when its PID 1 asks for another boot
_DISK = "2g"  # at most, of memory: what a node writes


class Process(NamedTuple):
    """Of a node; by `pid` and `started` it is this one and no later one of the same number."""

    pid: int
    started: str  # in clock ticks since the machine booted
    group: str  # below the one asked for; empty: that one itself
    command: str


class Node:
    """Made switched off; `boot` it. Files that it wrote stay until `discard`."""

    def __init__(self, name: str, layers: list[Path], place: Path, network: Network, *, server: str) -> None:
        """`server`: what the disk has, `redis` or `valkey`."""
        self.name = name
        self.server = server
        self._place = place
        self._network = network
        self._netns = network.plug_in(name)
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._pid1 = 0
        place.mkdir(parents=True)
        call("mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0755", "chargehand-lab", place)
        self.root = place / "root"
        mount_overlay(self.root, layers, place / "written", place / "work")
        self.write("/etc/machine-id", uuid.uuid4().hex + "\n")

    @property
    def address(self) -> str:
        return self._network.addresses[self.name]

    @property
    def is_up(self) -> bool:
        return self._nspawn is not None and self._nspawn.poll() is None

    # -- power ------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Return when systemd has started what it is to start. Raises `AssertionError` with the console's end."""
        assert not self._pid1, f"{self.name} is up"
        self._group = NodeGroup(f"{PREFIX}-{self.name}")
        nspawn = [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self.root}",
            f"--machine={PREFIX}-{self.name}",
            f"--hostname={self.name}",
            "--boot",
            "--register=no",
            "--keep-unit",
            f"--network-namespace-path={self._netns}",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
        ]
        # In a group of its own: nodes in one would take each other's processes for theirs. It ends with the tests.
        command = ["setpriv", "--pdeathsig", "KILL", *self._group.entered_by("", *nspawn)]
        with (self._place / "console").open("ab") as console:
            self._nspawn = subprocess.Popen(
                command,
                env={**_ENVIRONMENT, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        deadline = time.monotonic() + _BOOT_TIMEOUT
        state = "no PID 1"
        while state not in {"running", "degraded"}:
            failed = not self.is_up or time.monotonic() > deadline
            assert not failed, f"{self.name} does not boot ({state})\n{self.console()}"
            time.sleep(0.05)  # until PID 1 listens; from then on `--wait` is told
            self._pid1 = self._find_pid1()
            if self._pid1:
                state = self.run("systemctl", "is-system-running", "--wait", check=False).strip()

    def _find_pid1(self) -> int:
        assert self._nspawn is not None
        for child in psutil.Process(self._nspawn.pid).children():
            try:
                status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue
            if any(line.split()[2:] == ["1"] for line in status.splitlines() if line.startswith("NSpid:")):
                return child.pid
        return 0

    def power_off(self, timeout: float = 90.0) -> None:
        """`systemctl poweroff`, and wait for its end. Raises `AssertionError` after `timeout` seconds."""
        assert self._nspawn is not None
        self.run("systemctl", "poweroff", check=False)  # it may lose its own answer
        try:
            self._nspawn.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} is not off {timeout:g} s after poweroff") from None
        self._off()

    def let_reboot(self, timeout: float = 90.0) -> None:
        """It reboots by itself: wait until it is down, then switch it on again, as a machine's firmware does."""
        assert self._nspawn is not None
        try:
            code = self._nspawn.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not go down in {timeout:g} s\n{self.console()}") from None
        self._off()
        assert code == _REBOOTS, f"{self.name} is off, and not to be switched on again: exit {code}"
        self.boot()

    def pull_the_plug(self) -> None:
        """Nobody on the node gets a chance to do anything."""
        assert self._nspawn is not None
        self._group.kill()
        self._nspawn.wait(30)
        self._off()

    def _off(self) -> None:
        self._nspawn, self._pid1 = None, 0
        self._group.kill()
        self._group.remove()

    def discard(self) -> None:
        if self._nspawn is not None:
            self.pull_the_plug()
        self._network.unplug(self.name)
        unmount(self._place)
        self._place.rmdir()

    def console(self) -> str:
        return (self._place / "console").read_text(encoding="utf-8", errors="replace")[-4000:]

    # -- faults -----------------------------------------------------------------------------------

    def cut_network(self, direction: Direction = "both") -> None:
        """`in`: nothing comes to it any more; `out`: nothing goes from it. Replaces an earlier cut."""
        self._network.cut(self.name, direction)

    def mend_network(self) -> None:
        self._network.mend(self.name)

    def freeze(self, pid: int | None = None) -> None:
        """One process by SIGSTOP, or the whole node, which then does nothing and answers nothing."""
        if pid is None:
            self._group.freeze(frozen=True)
        else:
            self.kill(pid, signal.SIGSTOP)

    def thaw(self, pid: int | None = None) -> None:
        if pid is None:
            self._group.freeze(frozen=False)
        else:
            self.kill(pid, signal.SIGCONT)

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """`pid` as the node counts."""
        self.run("kill", f"-{number.value}", str(pid))

    # -- what happens on it -----------------------------------------------------------------------

    def run(self, *argv: str, check: bool = True, timeout: float = 60.0, user: str = "") -> str:
        """Run a command on the node, as root or `user`; returns what it printed. Raises `CommandFailed`."""
        return call(*self._command(argv, user), check=check, timeout=timeout, env=_ENVIRONMENT)

    def attempt(self, *argv: str, timeout: float = 60.0, user: str = "") -> Done:
        """The same, however it ends: `code`, `printed`, `complained`."""
        return attempt(*self._command(argv, user), timeout=timeout, env=_ENVIRONMENT)

    def _command(self, argv: tuple[str, ...], user: str) -> list[str]:
        inside = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        assert self._pid1, f"{self.name} is off"
        enter = self._group.entered_by("commands", "nsenter", f"--target={self._pid1}", "--all")
        return [*enter, *inside, *argv]

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run("systemctl", "--no-pager", *words, check=check).strip()

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """What systemd knows of a unit."""
        lines = self.systemctl("show", f"--property={','.join(properties)}", unit).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self, *matches: str, unit: str = "", identifier: str = "") -> list[dict[str, Any]]:
        """Entries, oldest first, of all boots; `matches` as `FIELD=value`. Also when the node is off."""
        words = ["--output=json", "--no-pager", "--all"]
        words += [f"--unit={unit}"] if unit else []
        words += [f"--identifier={identifier}"] if identifier else []
        if self._pid1:
            self.run("journalctl", "--sync")
            printed = self.run("journalctl", *words, *matches)
        else:
            printed = call("journalctl", f"--directory={self.root}/var/log/journal", *words, *matches)
        return [json.loads(line) for line in printed.splitlines()]

    def serve_redis(self) -> None:
        """A Redis (or Valkey) of this node's own for all; it keeps what it was told over `redis_cli("shutdown")`."""
        words = ("--daemonize", "yes", "--protected-mode", "no", "--appendonly", "yes", "--dir", "/srv")
        self.run(f"{self.server}-server", *words)
        until("an answer of Redis", lambda: self.redis_cli("ping") == "PONG")

    def redis_cli(self, *words: str) -> str:
        """What the client prints, without the line's end; `-h` names another server than the node's own."""
        return self.attempt(f"{self.server}-cli", *words).printed.rstrip("\n")

    # -- packages ---------------------------------------------------------------------------------

    def rpm(self, *words: str | Path, check: bool = True) -> str:
        """Any command of rpm; a `Path` is a package on the host, and is there as a file when the command runs."""
        done = self.attempt("rpm", "--force-debian", *self._given(words), timeout=300)
        told = done.printed + done.complained
        if check and done.code != 0:
            raise CommandFailed(f"exit {done.code} of rpm on {self.name}\n{told}")
        return told

    def install(self, *rpms: Path) -> str:
        """Or upgrade. Raises `CommandFailed` with rpm's own words."""
        return self.rpm("--upgrade", *rpms)

    def repository(self, *rpms: Path) -> None:
        """From now on dnf finds these, and nothing else, in a file repository."""
        shutil.rmtree(self.root / "srv/repository", ignore_errors=True)
        self._given(rpms, "srv/repository")
        self.run("createrepo_c", "--quiet", "/srv/repository")
        lines = ["[lab]", "name=lab", "baseurl=file:///srv/repository", "gpgcheck=0", "metadata_expire=0"]
        self.write("/etc/yum.repos.d/lab.repo", "\n".join([*lines, ""]))

    def dnf(self, *words: str | Path, check: bool = True) -> str:
        """As `rpm`; every question is answered with yes."""
        done = self.attempt("dnf", "--assumeyes", *self._given(words), timeout=300)
        told = done.printed + done.complained
        if check and done.code != 0:
            raise CommandFailed(f"exit {done.code} of dnf on {self.name}\n{told}")
        return told

    def _given(self, words: tuple[str | Path, ...], below: str = "srv/rpm") -> list[str]:
        place = self.root / below
        place.mkdir(exist_ok=True)
        inside = []
        for word in words:
            if isinstance(word, Path):
                shutil.copy(word, place)
                inside.append(f"/{below}/{word.name}")
            else:
                inside.append(word)
        return inside

    # -- its disk and its processes ---------------------------------------------------------------

    def write(self, path: str, text: str, *, mode: int = 0o644, group: str = "root") -> None:
        """A file on the node's disk (not below /run, which is not on it)."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        if group != "root":
            call("chroot", self.root, "chgrp", group, path)

    def read(self, path: str) -> str:
        """What stands in a file, nothing when there is none. From /proc and /run too, when the node is up."""
        if self._pid1:
            return self.run("sh", "-c", f"if test -e {shlex.quote(path)}; then cat {shlex.quote(path)}; fi")
        file = self.root / path.lstrip("/")
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def processes(self, unit: str) -> list[Process]:
        """All in the unit's control group and those below it."""
        group = self.show(unit, "ControlGroup")["ControlGroup"]
        if not group:
            return []
        # One look from the inside: the numbers are the node's, and what has gone in between is left out.
        script = (
            'cd "/sys/fs/cgroup$1" 2>/dev/null || exit 0; for file in $(find . -name cgroup.procs 2>/dev/null); do '
            'for pid in $(cat "$file" 2>/dev/null); do line=$(sed "s/.*) //" "/proc/$pid/stat" 2>/dev/null); '
            'printf "%s\\t%s\\t%s\\t" "$pid" "$(echo "$line" | cut -d" " -f1,20)" "${file%/cgroup.procs}"; '
            'tr "\\0\\n" "  " 2>/dev/null <"/proc/$pid/cmdline"; echo; done; done'
        )
        found = []
        for line in self.run("sh", "-c", script, "sh", group).splitlines():
            pid, stat, below, command = line.split("\t", 3)
            state, _, started = stat.partition(" ")
            if started and state != "Z":
                found.append(Process(int(pid), started, below.removeprefix(".").lstrip("/"), command.strip()))
        return found

    def lives(self, process: Process) -> bool:
        """Whether it still runs, in whatever control group."""
        line = self.run("sh", "-c", f"cat /proc/{process.pid}/stat 2>/dev/null || :")
        words = line.rpartition(") ")[2].split()
        return bool(words) and words[0] != "Z" and words[19] == process.started

    def story(self) -> str:
        """What a person wants to see when a test has failed."""
        try:
            told = self.run("systemctl", "--no-pager", "status", "chargehand", check=False) if self._pid1 else ""
            lines = [f"{entry.get('SYSLOG_IDENTIFIER')}: {entry.get('MESSAGE')}" for entry in self.journal()]
        except (CommandFailed, subprocess.TimeoutExpired) as error:
            return f"{error}\n{self.console()}"
        return "\n".join([f"--- {self.name}", told, *lines[-80:]])
