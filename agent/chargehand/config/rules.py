"""Rules over typed settings: values that are well-formed and still cannot be right. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from chargehand.config.problems import Problem
from chargehand.config.quantities import format_duration
from chargehand.config.settings import ActionSettings, Parameter, RedisSettings, Settings

__all__ = ["SCHEMES", "broken_rules"]

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
HELD_SHARE = 0.8  # of the ttl: when a holder that could not renew steps down by itself

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


def broken_rules(settings: Settings) -> Iterator[Problem]:
    yield from _redis(settings.redis)
    yield from _orchestrator(settings)
    yield from _agent(settings)
    if not settings.worker and not settings.orchestrator.enabled:
        yield _problem("worker", found="no worker, and the orchestrator is disabled", expected="something to run")
    for worker in settings.worker:
        if not worker.queues:
            yield _problem("worker", worker.name, "queues", found="none", expected="at least one queue")
    for action in settings.action:
        yield from _action(action)


def _problem(*key: str, found: str, expected: str, advice: str = "") -> Problem:
    return Problem(None, None, key, found, expected, advice)


def _redis(redis: RedisSettings) -> Iterator[Problem]:
    if redis.url is not None:
        try:
            parts = urlsplit(redis.url)
            password, scheme = parts.password, parts.scheme
            _ = parts.port if scheme != "redis+sentinel" else None
        except ValueError as error:
            yield _problem("redis", "url", found=f"not a URL ({error})", expected="redis://HOST:PORT/DB")
            return
        if password is not None:
            yield _problem(
                "redis",
                "url",
                found="a password in the URL",
                expected="password_file = PATH",
                advice="a URL is shown in logs and status lines",
            )
        if scheme not in SCHEMES:
            yield _problem(
                "redis",
                "url",
                found=f'scheme "{scheme}"',
                expected="one of " + ", ".join(f"{one}://" for one in SCHEMES),
            )
        elif not (parts.hostname or scheme == "unix"):
            yield _problem("redis", "url", found="no host", expected="redis://HOST:PORT/DB")
        elif scheme == "unix" and not parts.path:
            yield _problem("redis", "url", found="no path", expected="unix:///PATH/OF/SOCKET")
        if redis.embedded:
            yield _problem("redis", "embedded", found="true beside a url", expected="one of the two")
    elif not redis.embedded:
        yield _problem("redis", "embedded", found="false without a url", expected="a url, or embedded = true")
    tls = [name for name in ("ca_file", "cert_file", "key_file") if getattr(redis, name) is not None]
    if tls and not (redis.url or "").startswith("rediss://"):
        yield _problem("redis", tls[0], found="a TLS file without TLS", expected="a url of rediss://")
    if (redis.cert_file is None) != (redis.key_file is None):
        yield _problem("redis", "cert_file", found="a certificate or a key alone", expected="both, or neither")
    for name in ("password_file", "sentinel_password_file", "ca_file", "cert_file", "key_file"):
        value = getattr(redis, name)
        if value is not None and not value.startswith("/"):
            yield _problem("redis", name, found=f'"{value}"', expected="an absolute path")


def _orchestrator(settings: Settings) -> Iterator[Problem]:
    orchestrator = settings.orchestrator
    if orchestrator.threads != 1:
        yield _problem(
            "orchestrator",
            "threads",
            found=str(orchestrator.threads),
            expected="1",
            advice="an orchestrator decides in one thread; for more work add worker threads, or an executor",
        )
    ttl, renew, timeout = (
        float(value) for value in (orchestrator.lease.ttl, orchestrator.lease.renew, settings.redis.timeout)
    )
    if ttl < 1:
        yield _problem("orchestrator", "lease", "ttl", found=format_duration(ttl), expected="at least 1s")
    if renew <= 0:
        yield _problem("orchestrator", "lease", "renew", found=format_duration(renew), expected="more than 0s")
    elif renew * 3 > ttl:
        yield _problem(
            "orchestrator",
            "lease",
            "renew",
            found=f"{format_duration(renew)} with ttl {format_duration(ttl)}",
            expected=f"at most a third of the ttl ({format_duration(ttl / 3)})",
            advice="one lost renewal must not cost the lease",
        )
    elif renew + timeout > HELD_SHARE * ttl:
        yield _problem(
            "redis",
            "timeout",
            found=f"{format_duration(timeout)} with renew {format_duration(renew)} and ttl {format_duration(ttl)}",
            expected=f"timeout + renew of at most 0.8 ttl ({format_duration(round(HELD_SHARE * ttl, 6))})",
            advice="a renewal that is not answered must be noticed before the lease runs out",
        )


def _agent(settings: Settings) -> Iterator[Problem]:
    agent = settings.agent
    if not 1 <= agent.ready_timeout <= 80:
        yield _problem(
            "agent",
            "ready_timeout",
            found=format_duration(agent.ready_timeout),
            expected="from 1s to 80s",
            advice="systemd gives up at TimeoutStartSec, 90 s",
        )
    for name in ("state_dir", "runtime_dir"):
        value = getattr(agent, name)
        if not value.startswith("/"):
            yield _problem("agent", name, found=f'"{value}"', expected="an absolute path")


def _action(action: ActionSettings) -> Iterator[Problem]:
    used = {name for argument in action.argv for name in _PLACE.findall(argument)}
    for name in sorted(used - set(action.params)):
        yield _problem("action", action.name, "argv", found=f"{{{name}}}", expected=f"params.{name} to be declared")
    for name in sorted(set(action.params) - used):
        yield _problem(
            "action",
            action.name,
            "params",
            name,
            found="a parameter that argv does not use",
            expected=f"{{{name}}} in argv",
        )
    if "{" in action.argv[0]:
        yield _problem(
            "action",
            action.name,
            "argv",
            found=f'"{action.argv[0]}" as the program',
            expected="a fixed program",
            advice="a parameter must not choose what is run",
        )
    for name, parameter in action.params.items():
        yield from _parameter(action.name, name, parameter)


def _parameter(action: str, name: str, parameter: Parameter) -> Iterator[Problem]:
    where = ("action", action, "params", name)
    if parameter.pattern is not None:
        if parameter.type != "string":
            yield _problem(*where, "pattern", found=f"a pattern for a {parameter.type}", expected="it for strings only")
        try:
            re.compile(parameter.pattern)
        except re.error as error:
            yield _problem(
                *where, "pattern", found=f'"{parameter.pattern}"', expected=f"a regular expression ({error})"
            )
            return
    numeric = parameter.type in {"integer", "number"}
    if not numeric and (parameter.minimum is not None or parameter.maximum is not None):
        yield _problem(*where, found=f"a minimum or maximum for a {parameter.type}", expected="them for numbers only")
    values: Iterable[object] = [*(parameter.choices or []), *([] if parameter.default is None else [parameter.default])]
    for value in values:
        if not isinstance(value, _TYPES[parameter.type]) or (isinstance(value, bool) != (parameter.type == "boolean")):
            yield _problem(*where, found=f"{value!r} as default or choice", expected=f"a {parameter.type}")
    default = parameter.default
    if default is None:
        return
    if parameter.pattern is not None and isinstance(default, str) and not re.fullmatch(parameter.pattern, default):
        yield _problem(*where, "default", found=f'"{default}"', expected=f"a match of {parameter.pattern}")
    if parameter.choices is not None and default not in parameter.choices:
        yield _problem(*where, "default", found=repr(default), expected=f"one of {parameter.choices}")
    if numeric and isinstance(default, int | float):
        low, high = parameter.minimum, parameter.maximum
        if (low is not None and default < low) or (high is not None and default > high):
            yield _problem(*where, "default", found=repr(default), expected=f"within minimum {low} and maximum {high}")
