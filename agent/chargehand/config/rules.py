"""Rules over typed settings: values that are well-formed and still cannot be right. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chargehand.config.asking import asking_faults
from chargehand.config.children import broken_children, environment_faults
from chargehand.config.console import console_faults
from chargehand.config.parameters import parameter_faults
from chargehand.config.privileged import privileged_faults
from chargehand.config.problems import NAMED, KeyPath, Problem, absolute, problem, shown
from chargehand.config.quantities import format_duration
from chargehand.config.secrets import is_credential
from chargehand.config.settings import (
    ActionSettings,
    ActionsSettings,
    AgentSettings,
    ExecutorAddress,
    RedisAddress,
    RedisSettings,
    Settings,
)
from chargehand.config.urls import SCHEMES, url_faults

__all__ = ["ANY", "HELD_SHARE", "broken_rules", "inputs_of"]

HELD_SHARE = 0.8  # of the ttl: when a holder that could not renew steps down by itself

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


ANY = "?"  # in a key path: whatever the item is called

#: What a rule about the first key reads; "*" is the item's name. A key that is not here is read alone.
_TIMERS: tuple[KeyPath, ...] = (("orchestrator", "lease"), ("redis", "timeout"))
_COMMAND: tuple[KeyPath, ...] = (("action", "*", "argv"), ("action", "*", "params"), ("action", "*", "env"))
_INPUTS: dict[KeyPath, tuple[KeyPath, ...]] = {
    ("worker",): (("worker",), ("child",), ("orchestrator", "enabled")),
    ("orchestrator", "lease"): _TIMERS,
    ("redis", "timeout"): _TIMERS,
    **{
        (*where, key): tuple((*where, name) for name in (key, *beside))
        for where in (("redis",), ("executors", "*"))
        for key, beside in {
            "url": ("username",),
            "embedded": ("url",),
            "username": ("url",),
            "password_file": ("url",),
            "sentinel_username": ("url",),
            "sentinel_password_file": ("url",),
            "ca_file": ("url",),
            "cert_file": ("url",),
            "key_file": ("cert_file", "url"),
            "min_replicas": ("url",),
        }.items()
    },
    ("action", "*", "argv"): _COMMAND,
    ("action", "*", "params"): _COMMAND,
    ("action", "*", "env"): _COMMAND,
    ("action", "*", "retry"): (("action", "*", "retry"),),
    ("action", "*", "hooks"): (("action", "*", "hooks"), ("action", ANY, "params"), ("action", ANY, "name")),
    ("console", "listen"): tuple(("console", key) for key in ("listen", "tokens_file", "proxies")),
    **{("console", key): (("console", key), ("console", "proxies")) for key in ("user_header", "actors")},
    ("console", "proxies"): tuple(("console", key) for key in ("proxies", "user_header", "listen")),
    ("child", "*", "watchdog"): (("child", "*", "watchdog"), ("child", "*", "ready")),
    # A child whose name or command is wrong seems not to be there; a server and an orchestrator likewise.
    ("child", "*", "after"): (
        ("child", ANY, "after"),
        ("child", ANY, "argv"),
        ("child", ANY, "name"),
        ("worker", ANY, "name"),
        ("orchestrator", "enabled"),
        ("redis", "embedded"),
        ("redis", "url"),
    ),
}


def inputs_of(key: KeyPath) -> list[KeyPath]:
    """All the keys that decide a problem which is told about this one."""
    item = key[1] if len(key) > 1 else ""
    general = (key[0], "*", *key[2:3]) if key[0] in NAMED and len(key) > 1 else key[:2]
    return [tuple(item if part == "*" else part for part in one) for one in _INPUTS.get(general, (key,))]


def broken_rules(settings: Settings) -> Iterator[Problem]:
    yield from _redis(settings.redis)
    for executor in settings.executors:
        yield from _executor(executor, settings)
    yield from _orchestrator(settings)
    yield from _agent(settings.agent)
    yield from console_faults(settings.console)
    if not (settings.worker or settings.child or settings.orchestrator.enabled or settings.console.enabled):
        yield problem("worker", found="no worker, and the orchestrator is disabled", expected="something to run")
    yield from broken_children(settings)
    yield from _actions(settings.actions)
    for action in settings.action:
        yield from _action(action)
    yield from asking_faults(settings.action)
    yield from privileged_faults(settings)


#: Keys that need a url, and of which scheme.
_NEEDS: tuple[tuple[tuple[str, ...], set[str], str], ...] = (
    (("ca_file", "cert_file", "key_file"), {one for one in SCHEMES if one.startswith("rediss")}, "a url of rediss://"),
    (
        ("sentinel_username", "sentinel_password_file"),
        {one for one in SCHEMES if one.endswith("+sentinel")},
        "a url of redis+sentinel://",
    ),
    (("username", "password_file"), set(SCHEMES), "a url"),
)


def _redis(redis: RedisSettings) -> Iterator[Problem]:
    if redis.url is not None and redis.embedded:
        yield problem("redis", "embedded", found="true beside a url", expected="one of the two")
    elif redis.url is None and not redis.embedded:
        yield problem("redis", "embedded", found="false without a url", expected="a url, or embedded = true")
    if redis.embedded and redis.min_replicas:
        yield problem("redis", "min_replicas", found="set, with no url", expected="it with a url only")
    yield from _connection("redis", to=redis)


def _executor(executor: ExecutorAddress, settings: Settings) -> Iterator[Problem]:
    where = ("executors", executor.name)
    if executor.url is None and settings.redis.embedded and executor.name != settings.executor.name:
        advice = f'the embedded server of this node has its own executor only, "{settings.executor.name}"'
        yield problem(*where, "url", found="is missing", expected="a url", advice=advice)
    yield from _connection(*where, to=executor)


def _connection(*where: str, to: RedisAddress) -> Iterator[Problem]:
    if to.url is not None:
        called = "redis.username" if isinstance(to, RedisSettings) else "username"
        for fault in url_faults(to.url, username=to.username is not None, called=called):
            yield problem(*where, "url", found=fault.found, expected=fault.expected, advice=fault.advice)
    # What would have no effect is refused: whoever wrote it counts on it.
    scheme = (to.url or "").partition("://")[0]
    for names, schemes, needed in _NEEDS:
        for name in names:
            if getattr(to, name) is not None and scheme not in schemes and (scheme or not to.url):
                beside = f"a url of {scheme}://" if scheme else "no url"
                yield problem(*where, name, found=f"set, with {beside}", expected=f"it with {needed} only")
    if to.key_file is not None and to.cert_file is None:
        yield problem(*where, "key_file", found="a key without its certificate", expected="cert_file beside it")
    for name in ("password_file", "sentinel_password_file", "ca_file", "cert_file", "key_file"):
        value = getattr(to, name)
        if value is not None and not is_credential(value):
            yield from absolute(*where, name, value=value)
    if to.timeout < 0.01:
        yield problem(
            *where, "timeout", found=format_duration(to.timeout), expected="at least 10ms", advice="of one request"
        )


def _orchestrator(settings: Settings) -> Iterator[Problem]:
    orchestrator = settings.orchestrator
    if orchestrator.threads != 1:
        yield problem(
            "orchestrator",
            "threads",
            found=str(orchestrator.threads),
            expected="1",
            advice="an orchestrator decides in one thread; for more work add worker threads, or an executor",
        )
    ttl, renew, timeout = orchestrator.lease.ttl, orchestrator.lease.renew, settings.redis.timeout
    held = round(HELD_SHARE * ttl, 6)
    if ttl < 1:
        yield problem(
            "orchestrator",
            "lease",
            "ttl",
            found=format_duration(ttl),
            expected="at least 1s",
            advice="a pause of the network or the machine must not cost the lease",
        )
    elif renew < 0.01:
        yield problem("orchestrator", "lease", "renew", found=format_duration(renew), expected="at least 10ms")
    elif renew * 3 > ttl:
        yield problem(
            "orchestrator",
            "lease",
            "renew",
            found=f"{format_duration(renew)} with ttl {format_duration(ttl)}",
            expected=f"at most a third of the ttl ({_seconds(ttl / 3)})",
            advice="one lost renewal must not cost the lease",
        )
    elif timeout >= held - renew:
        yield problem(
            "redis",
            "timeout",
            found=f"{format_duration(timeout)} with lease renew {format_duration(renew)}, ttl {format_duration(ttl)}",
            expected=f"less than 0.8 ttl - renew ({_seconds(held - renew)})",
            advice="a renewal without an answer must be noticed while the lease still holds",
        )


def _seconds(value: float) -> str:
    """Rounded down to what a person would write."""
    return f"{int(value * 1000) / 1000:g}s"


def _agent(agent: AgentSettings) -> Iterator[Problem]:
    if not 0.1 <= agent.ready_timeout <= 80:
        yield problem(
            "agent",
            "ready_timeout",
            found=format_duration(agent.ready_timeout),
            expected="from 100ms to 80s",
            advice="systemd gives a start up at TimeoutStartSec, 90 s by default",
        )
    for name, value in (("stop_timeout", agent.stop_timeout), ("shutdown_timeout", agent.shutdown_timeout)):
        if value > 3600:
            yield problem("agent", name, found=format_duration(value), expected="at most 1h")
    yield from absolute("agent", "state_dir", value=agent.state_dir)
    yield from absolute("agent", "runtime_dir", value=agent.runtime_dir)


def _actions(actions: ActionsSettings) -> Iterator[Problem]:
    for path in actions.path:
        yield from absolute("actions", "path", value=path)
    for module in actions.modules:
        if not all(part.isidentifier() for part in module.split(".")):
            yield problem(
                "actions",
                "modules",
                found=f"found {shown(('actions', 'modules'), module)}",
                expected='the name of a module as in an import, like "site_actions.patching"',
            )


def _action(action: ActionSettings) -> Iterator[Problem]:
    where = ("action", action.name)
    used = {name for argument in action.argv for name in _PLACE.findall(argument)}
    for name in sorted(used - set(action.params)):
        yield problem(
            *where,
            "argv",
            found=f"{{{name}}}, and no parameter of this name",
            expected=f'params.{name} = {{ type = "string" }}, or the like',
        )
    for name in action.params:
        if not _PLACE.fullmatch(f"{{{name}}}"):
            expected = "letters, digits and '_', not starting with a digit"
            yield problem(*where, "params", name, found=f'"{name}" as a name', expected=expected)
        elif name not in used:
            found = "a parameter that argv does not use"
            yield problem(*where, "params", name, found=found, expected=f"{{{name}}} in argv")
    if not action.argv[0] or "{" in action.argv[0]:
        yield problem(
            *where,
            "argv",
            found=f'"{action.argv[0]}" as the program',
            expected="a fixed program",
            advice="a parameter must not choose what is run",
        )
    if any("\0" in argument for argument in action.argv):
        yield problem(*where, "argv", found="a NUL character", expected="text")
    yield from environment_faults(*where, env=action.env)
    for name, value in action.env.items():
        for parameter in sorted(set(_PLACE.findall(value)) & set(action.params)):
            found, expected = f"{{{parameter}}} in the environment", "parameters in argv only"
            yield problem(*where, "env", name, found=found, expected=expected, advice="it would be taken as written")
    if action.timeout is not None and action.timeout < 0.001:
        yield problem(*where, "timeout", found="0s", expected="at least 1ms", advice="no timeout: leave the key out")
    if action.retry.max_backoff < action.retry.backoff:
        yield problem(
            *where,
            "retry",
            "max_backoff",
            found=format_duration(action.retry.max_backoff),
            expected=f"at least backoff ({format_duration(action.retry.backoff)})",
        )
    for name, parameter in action.params.items():
        for key, found, expected in parameter_faults(parameter):
            yield problem(*where, "params", name, key, found=found, expected=expected)
