"""What `chargehand doctor` says of a node, and small nodes that it finds nothing wrong with."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from chargehand.config.load import load
from chargehand.doctor import Finding
from chargehand.doctor.checks import examine, exit_code
from support.commands import chargehand

__all__ = ["ACTIONS", "Diagnosis", "diagnose", "diagnose_by_command", "write_node"]

#: A module of actions in which nothing is wrong.
ACTIONS = "from chargehand import action\n\n@action\ndef hello() -> str:\n    return 'hello'\n"


class Diagnosis:
    """What was found: by check, without what is well."""

    def __init__(self, code: int, findings: list[Finding]) -> None:
        self.code = code
        self.findings = findings
        self.checks = {one.check for one in findings}
        self.wrong: dict[str, list[Finding]] = {}
        for one in findings:
            if one.severity != "ok":
                self.wrong.setdefault(one.check, []).append(one)

    def __getitem__(self, check: str) -> str:
        """`SEVERITY: TEXT` of the worst that this check says, with its evidence and advice, a line each."""
        assert check in self.wrong, f"{check} finds nothing: {self.wrong}"
        one = self.wrong[check][0]
        return "\n".join([f"{one.severity}: {one.text}", *one.evidence, *one.advice])


def diagnose(config: Path) -> Diagnosis:
    """As the command finds it, in this process: it imports no actions."""
    found = load(config)
    findings = examine(found.settings, files=found.files)
    return Diagnosis(exit_code(findings), findings)


def diagnose_by_command(config: Path) -> Diagnosis:
    done = chargehand("doctor", "--json", config=config)
    told = json.loads(done.stdout)
    assert done.returncode == told["code"], done.stderr
    return Diagnosis(done.returncode, msgspec.convert(told["findings"], list[Finding]))


def write_node(
    directory: Path,
    url: str,
    name: str,
    *,
    redis: str = "",
    timeout: str = "5s",
    lease: str = 'ttl = "10s", renew = "1s"',
    extra: str = "",
    actions: str = "site",
) -> Path:
    """Its configuration file. `redis`: further lines of [redis]. `actions`: its own directory of them.

    `timeout`, `lease`: longer than the defaults, so that a busy machine is not slow for them.
    """
    (directory / actions).mkdir(exist_ok=True)
    module = directory / actions / "doctored.py"
    if not module.exists():
        module.write_text(ACTIONS)
    path = directory / f"{name}.toml"
    path.write_text(
        f"""
[node]
name = "{name}"
[redis]
url = "{url}"
timeout = "{timeout}"
{redis}
[orchestrator]
lease = {{ {lease} }}
[actions]
path = ["{directory / actions}"]
modules = ["doctored"]
[agent]
state_dir = "{directory}/{name}.state"
runtime_dir = "{directory}/{name}.run"
{extra}
"""
    )
    return path
