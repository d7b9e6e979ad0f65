"""Checks of this node: its agent, unit, sockets and files, and what in its configuration is likely a mistake. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from chargehand.config.fingerprint import orchestrator_values
from chargehand.config.quantities import format_duration
from chargehand.config.settings import Settings
from chargehand.doctor.facts import Facts, Found, error, note, warning

__all__ = [
    "agent",
    "at_boot",
    "configuration",
    "drained",
    "files",
    "kept",
    "lease",
    "privileged",
    "reloaded",
    "socket",
    "state",
    "threads",
    "timeouts",
    "trusted",
    "watchdog",
]

_LINGERS = 3_600  # seconds that a drain may be on somebody's mind
_SHORT_TTL, _LONG_TTL = 2, 30  # seconds
_THREADS_A_CORE = 32  # threads that wait cost little, threads that compute share the cores
_MODE = 0o660
_SHOWN = 5


def configuration(facts: Facts) -> Iterator[Found]:
    if facts.closed:
        text = f"{facts.user} may not read the configuration: Redis and the executor were not looked at"
        yield note(text, facts.refusals, "run it as root, or as a member of the service's group")
    elif facts.refusals:
        advice = "mend it, then chargehand config check and chargehand reload; a running agent goes on with what it had"
        yield error("the configuration is refused as it stands now", facts.refusals, advice)


# -- the agent ------------------------------------------------------------------------------------


def agent(facts: Facts) -> Iterator[Found]:
    silence = facts.silence
    if silence is None:
        return
    evidence = [silence.text]
    if facts.unit is not None:
        shown = {key: facts.unit.get(key, "") for key in ("ActiveState", "SubState", "Result", "NRestarts")}
        evidence.append(f"{facts.unit_name}: {', '.join(f'{key}={value}' for key, value in shown.items() if value)}")
    if silence.kind == "not-running" and _no_unit(facts):
        text = f"no agent is installed on this machine (there is no {facts.unit_name}): it can only be a client"
        yield note(text, evidence, "to make it a node: install the package, systemctl enable --now chargehand")
        return
    start = f"systemctl start {facts.unit_name}; journalctl -u {facts.unit_name} says why it ended"
    if silence.kind == "not-running":
        yield error("no agent runs on this node", evidence, start)
    elif silence.kind == "not-allowed":
        advice = "run it as root, or as a member of the socket's group: usermod -aG chargehand USER"
        yield note(f"{facts.user} may not ask this node's agent: it was not looked at", evidence, advice)
    else:
        mend = f"systemctl status {facts.unit_name}; systemctl restart {facts.unit_name}"
        yield error("this node's agent does not answer", evidence, mend)


def _no_unit(facts: Facts) -> bool:
    return facts.unit is not None and facts.unit.get("LoadState") == "not-found"


def state(facts: Facts) -> Iterator[Found]:
    node = facts.agent
    if node is None:
        return
    if node.state == "waiting":
        yield error("this node waits and does nothing", [node.status], "the checks of Redis say what is wrong with it")
    elif node.state == "starting":
        yield warning("this node still starts", [node.status], "chargehand logs; a child that crashes says why there")
    elif node.state == "stopping":
        yield warning("this node stops", [node.status])
    for cause in node.degraded:
        yield warning(f"this node is degraded: {cause}", [], "chargehand logs CHILD; chargehand status")
    causes = " ".join(node.degraded)
    for child in node.children:
        if child.crashes and child.name not in causes:
            yield warning(f"{child.name} crashed, last: {child.last_words}", [], f"chargehand logs {child.name}")


def drained(facts: Facts) -> Iterator[Found]:
    node = facts.agent
    if node is None or node.drain is None:
        return
    since = datetime.fromtimestamp(node.drain.since).astimezone().strftime("%Y-%m-%d %H:%M")
    evidence = [f"reason: {node.drain.reason or 'none given'}", node.status]
    say = warning if facts.now - node.drain.since > _LINGERS else note
    text = f"this node is drained, by {node.drain.by} since {since}: it does no work"
    yield say(text, evidence, "when it may work again: chargehand undrain")


def at_boot(facts: Facts) -> Iterator[Found]:
    unit = _unit(facts)
    if _no_unit(facts):
        if facts.silence is not None and facts.silence.kind == "not-running":
            return  # said of the agent
        text = f"systemd has no unit {facts.unit_name}: nothing starts the agent at boot"
        yield warning(text, [], "install the package, or units/chargehand.service")
    elif unit.get("LoadState") == "masked" or unit.get("UnitFileState") in {"masked", "disabled", "bad"}:
        shown = unit.get("UnitFileState") or unit.get("LoadState", "")
        text = f"{facts.unit_name} is {shown}: the agent does not start at boot"
        yield warning(text, [], f"systemctl enable {facts.unit_name}")
    elif facts.agent is not None and unit.get("ActiveState") not in {"active", "activating", "reloading"}:
        text = f"an agent runs, and {facts.unit_name} is {unit.get('ActiveState', 'unknown')}: nobody restarts it"
        yield warning(text, [], f"end it and systemctl start {facts.unit_name}")


def watchdog(facts: Facts) -> Iterator[Found]:
    unit = _unit(facts)
    if unit.get("LoadState") != "loaded":
        return
    mend = f"systemctl cat {facts.unit_name} shows which drop-in sets it: systemctl revert {facts.unit_name}"
    if unit.get("Type") not in {"notify", "notify-reload"}:
        text = f"{facts.unit_name} is of Type={unit.get('Type')}: systemd cannot tell whether the agent is ready"
        yield warning(text, ["expected: Type=notify"], mend)
    if unit.get("NotifyAccess") == "none":
        text = "systemd does not listen to the agent (NotifyAccess=none): no READY, no status, no watchdog"
        yield error(text, ["expected: NotifyAccess=main"], mend)
    if unit.get("WatchdogUSec", "0") in {"0", "infinity"}:
        text = "the watchdog is off: an agent that hangs is not restarted"
        yield warning(text, ["found: WatchdogUSec=0; expected: WatchdogSec=30s"], mend)
    if unit.get("Restart", "always") == "no":
        text = "systemd does not start the agent again when it ends (Restart=no)"
        yield warning(text, ["expected: Restart=always"], mend)


def _unit(facts: Facts) -> dict[str, str]:
    assert facts.unit is not None
    return facts.unit


def socket(facts: Facts) -> Iterator[Found]:
    found = facts.socket
    assert found is not None
    shown = [f"{found.path}: mode {found.mode:04o}, {found.owner}:{found.group}"]
    mend = f"systemctl restart {facts.unit_name} makes it anew; find what has changed it"
    if found.mode & 0o007:
        yield error("every user may command this node's agent: its socket is open to others", shown, mend)
    elif found.mode & _MODE != _MODE:
        yield warning("the agent's socket is closed to its own user or group", [*shown, f"expected: {_MODE:04o}"], mend)


# -- files ----------------------------------------------------------------------------------------


def files(facts: Facts) -> Iterator[Found]:
    for one in facts.files:
        if one.kind == "exposed":
            advice = "close it as shown, and change the secret if somebody may have read it: it is not used until then"
            yield error(f"{one.key}: {one.text}", [], advice)
        elif one.kind == "absent":
            yield error(f"{one.key}: {one.text}", [], "correct the path: chargehand config show tells where it is set")
        else:
            text = f"{one.key}: {facts.user} cannot use it, so it was not looked at"
            yield note(text, [one.text], "run it as root, or as a member of the file's group")


def trusted(facts: Facts) -> Iterator[Found]:
    if facts.untrusted:
        shown = facts.untrusted[:_SHOWN]
        if len(facts.untrusted) > _SHOWN:
            shown.append(f"and {len(facts.untrusted) - _SHOWN} more")
        text = "privileged workers do not start: others than root could change what they run"
        yield error(text, shown, "chown root and chmod go-w each; then systemctl restart chargehand-worker@GROUP")


def privileged(facts: Facts) -> Iterator[Found]:
    for name, unit in facts.privileged.items():
        group = name.removeprefix("chargehand-worker@").removesuffix(".service")
        here = any(one.member.node == facts.node and one.member.child == group for one in facts.heard)
        state = unit.get("ActiveState", "") if unit is not None else ""
        if here or (facts.census is None and state == "active"):
            if unit is not None and unit.get("UnitFileState") == "disabled":
                text = f"{name} runs, and does not start at boot"
                yield warning(text, [], f"systemctl enable {name}")
            continue
        if facts.census is None and not state:
            continue  # nobody knows
        if state == "active":
            text = f"{name} runs, and its worker is not heard"
            yield warning(text, [], f"systemctl status {name}; journalctl -u {name}")
            continue
        text = f'worker group "{group}" has unit = true, and {name} does not run on this node'
        yield warning(text, [f"ActiveState={state}"] if state else [], f"systemctl enable --now {name}")


def reloaded(facts: Facts) -> Iterator[Found]:
    """What the files say now, beside what this node's children run by."""
    assert facts.settings is not None
    wanted = orchestrator_values(facts.settings)
    stale: dict[str, str] = {}
    for one, profile in facts.profiles:
        if one.member.node == facts.node:
            known = {*wanted, *profile.config} if profile.kind == "orchestrator" else set(profile.config)
            for key in sorted(known):
                runs, says = profile.config.get(key, "not set"), wanted.get(key, "not set")
                if runs != says:
                    stale[key] = f"{key}: {runs} in {one.member.child}, {says} in the files"
    if stale:
        text = "the files have changed since this node's children were given their settings"
        yield warning(text, list(stale.values()), "chargehand config check && chargehand reload")


# -- likely mistakes ------------------------------------------------------------------------------


def lease(facts: Facts) -> Iterator[Found]:
    one = _settings(facts).orchestrator.lease
    shown = [f"orchestrator.lease = {{ ttl = {format_duration(one.ttl)}, renew = {format_duration(one.renew)} }}"]
    if one.ttl < _SHORT_TTL:
        text = "the lease is short: a pause of the network or of a virtual machine makes another node take over"
        yield warning(text, shown, "5s is the default")
    elif one.ttl > _LONG_TTL:
        text = f"the lease is long: when the active node dies, nothing is decided for {format_duration(one.ttl)}"
        yield warning(text, shown, "5s is the default; 15s do for a Redis that is far away")


def threads(facts: Facts) -> Iterator[Found]:
    settings = _settings(facts)
    groups = {one.name: one.threads * one.processes for one in settings.worker}
    if sum(groups.values()) > _THREADS_A_CORE * facts.cores:
        yield note(
            f"{sum(groups.values())} worker threads share {facts.cores} cores",
            [f"{name}: {count}" for name, count in groups.items()],
            "good for steps that wait for others; steps that compute only get slower: threads = the number of cores",
        )


def kept(facts: Facts) -> Iterator[Found]:
    retention = _settings(facts).retention
    gone = [key for key in ("succeeded", "failed", "cancelled", "rejected") if getattr(retention, key) == 0]
    if gone or not retention.most:
        shown = [f"retention.{key} = 0s" for key in gone] + (["retention.most = 0"] if not retention.most else [])
        text = "ended plans go at once: whoever waits for one, or asks why it failed, may find nothing"
        yield warning(text, shown, 'a day at least: [retention] succeeded = "1d", failed = "30d"')


def timeouts(facts: Facts) -> Iterator[Found]:
    without = [one.name for one in _settings(facts).action if one.timeout is None]
    if without:
        more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
        shown = [f"{', '.join(without[:_SHOWN])}{more}"]
        text = "commands have no time-out: one that hangs keeps its thread for ever"
        yield note(text, shown, 'timeout = "10m" in its [[action]], longer than it ever takes')


def _settings(facts: Facts) -> Settings:
    assert facts.settings is not None
    return facts.settings
