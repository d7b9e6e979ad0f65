"""What an action says of itself beside its code: the options of `@action`, of a plan, and of `[[action]]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from chargehand.config.asking import is_word
from chargehand.config.quantities import parse_rate
from chargehand.context import ActionError, Cancelled, Unretriable, seconds
from chargehand.kinds import ActionLike
from chargehand.plan.life import ENDED, PlanState
from chargehand.wire import Lock, Policy

__all__ = [
    "ActionOptions",
    "HookAction",
    "Lock",
    "Options",
    "Retry",
    "read_hooks",
    "read_labels",
    "read_locks",
    "read_options",
    "shared",
]

#: What a hook runs: an action or its name, alone or with inputs.
HookAction: TypeAlias = ActionLike | tuple[ActionLike, Mapping[str, Any]]

OnLost = Literal["rerun", "pause"]
Rescue = Literal["pause", "skip", "fail", "revert"]

#: The words by which hooks name states of a plan -> their letters; "ended" is every end.
_STATES = {state.name.lower(): chr(state) for state in PlanState} | {"ended": "".join(sorted(map(chr, ENDED)))}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Retry:
    """How a failed attempt is tried again.

    attempts: in all, the first included. backoff: before the second one, doubling each time up to
    max_backoff, with jitter; seconds, or a string with a unit ("500ms", "5s", "2m"). on: the exceptions that
    are worth another attempt (default: all). unless: those that are not. A time-out counts as `TimeoutError`,
    failed sub-plans as `SubPlansFailed`, a failed command as `CommandFailed`.
    """

    attempts: int = 3
    backoff: float | str = 1.0
    max_backoff: float | str = 60.0
    on: tuple[type[BaseException], ...] | type[BaseException] | None = None
    unless: tuple[type[BaseException], ...] | type[BaseException] = ()

    def helps(self, error: BaseException) -> bool:
        """True when another attempt is worth making after this error."""
        if isinstance(error, (ActionError, Unretriable, Cancelled, self.unless)):
            return False
        return self.on is None or isinstance(error, self.on)


class ActionOptions(TypedDict, total=False):
    """The keywords of `@action`; `action` describes them."""

    name: str
    queue: str
    timeout: float | str | None
    retry: Retry | None
    on_lost: OnLost
    exclusive: bool
    privileged: bool
    rescue: Rescue
    limit: int | None
    rate: str | None
    reboots: bool
    singleton: bool | Literal["reject"]
    locks: Iterable[str | Lock]
    hooks: Mapping[str, HookAction]
    labels: Iterable[str]


def shared(name: str) -> Lock:
    """A lock that any number of plans hold at once, while none holds it alone."""
    return Lock(name, most=0)


@dataclass(frozen=True, slots=True)
class Options:
    """The same, checked."""

    policy: Policy
    privileged: bool
    retry: Retry
    locks: tuple[Lock, ...]  # that a plan with a step of it holds
    rejects: bool  # such a plan is refused while another holds one
    hooks: Mapping[str, HookAction]  # letters of plan states -> what runs then
    labels: tuple[str, ...]


def read_options(given: ActionOptions, name: str) -> Options:
    """`name`: the action's. Raises `ActionError`, naming the action and the option."""
    where = f"action {name!r}"
    queue = given.get("queue", "default")
    for word, what in ((name, "name"), (queue, "queue")):
        if not isinstance(word, str) or not _NAME.fullmatch(word):
            raise ActionError(f"{where}: {what} {word!r} may hold only letters, digits, '.', '_' and '-'")
    unknown = sorted(set(given) - set(ActionOptions.__annotations__))
    if unknown:
        known = ", ".join(sorted(ActionOptions.__annotations__))
        raise ActionError(f"{where}: there is no option {unknown[0]!r} (there are: {known})")
    for option, words in (("on_lost", get_args(OnLost)), ("rescue", get_args(Rescue))):
        if option in given and given[option] not in words:  # type: ignore[literal-required] # both are options
            listed = f"{', '.join(repr(word) for word in words[:-1])} or {words[-1]!r}"
            raise ActionError(f"{where}: {option} is {listed}, not {given[option]!r}")  # type: ignore[literal-required]
    for flag in ("exclusive", "privileged", "reboots"):
        if not isinstance(given.get(flag, False), bool):
            raise ActionError(f"{where}: {flag} is True or False, not {given.get(flag)!r}")
    limit = given.get("limit")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise ActionError(f"{where}: limit is the most of its steps that run at once, 1 or more, not {limit!r}")
    singleton = given.get("singleton", False)
    if singleton not in {True, False, "reject"}:
        raise ActionError(f"{where}: singleton is True, False or 'reject', not {singleton!r}")
    retry = _read_retry(given.get("retry"), where)
    locks = read_locks(given.get("locks", ()), where)
    if singleton:
        locks = (*locks, Lock(f"action {name}"))
    return Options(
        policy=Policy(
            action=name,
            queue=queue,
            attempts=retry.attempts,
            backoff_ms=round(seconds(retry.backoff, f"{where}: backoff") * 1000),
            max_backoff_ms=round(seconds(retry.max_backoff, f"{where}: max_backoff") * 1000),
            timeout_ms=round(seconds(given.get("timeout") or 0, f"{where}: timeout") * 1000),
            on_lost=given.get("on_lost", "rerun"),
            exclusive=given.get("exclusive", False),
            rescue=given.get("rescue", "pause"),
            limit=limit or 0,
            rate=_read_rate(given.get("rate"), where),
            reboots=given.get("reboots", False),
        ),
        privileged=given.get("privileged", False),
        retry=retry,
        locks=locks,
        rejects=singleton == "reject",
        hooks=read_hooks(given.get("hooks", {}), where),
        labels=read_labels(given.get("labels", ()), where),
    )


def _read_retry(retry: Retry | None, where: str) -> Retry:
    if retry is None:
        return Retry(attempts=1)
    if not isinstance(retry, Retry):
        raise ActionError(f"{where}: retry is Retry(...), not {retry!r}")
    if not isinstance(retry.attempts, int) or retry.attempts < 1:
        raise ActionError(f"{where}: attempts counts the first one too, so it is 1 or more, not {retry.attempts!r}")
    for option, classes in (("on", retry.on or ()), ("unless", retry.unless)):
        for one in classes if isinstance(classes, tuple) else (classes,):
            if not (isinstance(one, type) and issubclass(one, BaseException)):
                raise ActionError(f"{where}: Retry({option}=...) takes exception classes, not {one!r}")
    return retry


def _read_rate(rate: str | None, where: str) -> tuple[int, int]:
    if rate is None:
        return (0, 0)
    try:
        return parse_rate(str(rate))
    except ValueError as error:
        raise ActionError(f"{where}: rate: {error}") from error


def read_locks(locks: Iterable[str | Lock], where: str) -> tuple[Lock, ...]:
    """Locks by name or as they are. Raises `ActionError`, which begins with `where`."""
    if isinstance(locks, str | Lock):
        raise ActionError(f"{where}: locks is a list, as [{locks!r}]")
    found = tuple(Lock(one) if isinstance(one, str) else one for one in locks)
    for lock in found:
        if not isinstance(lock, Lock):
            raise ActionError(f"{where}: a lock is a name, Lock(...) or shared(...), not {lock!r}")
        if not is_word(lock.name):
            raise ActionError(f"{where}: a lock's name has 1 to 200 printable characters, not {lock.name!r}")
        if not isinstance(lock.most, int) or lock.most < 0:
            raise ActionError(f"{where}: lock {lock.name!r}: most is how many hold it at once, not {lock.most!r}")
    return found


def read_labels(labels: Iterable[str], where: str) -> tuple[str, ...]:
    """Raises `ActionError`, which begins with `where`."""
    if isinstance(labels, str):
        raise ActionError(f"{where}: labels is a list, as [{labels!r}]")
    found = tuple(labels)
    for label in found:
        if not is_word(label):
            raise ActionError(f"{where}: a label has 1 to 200 printable characters, not {label!r}")
    return found


def read_hooks(hooks: Mapping[str, HookAction], where: str) -> dict[str, HookAction]:
    """By the letters of their states. Raises `ActionError`, which begins with `where`."""
    found: dict[str, HookAction] = {}
    for word, what in hooks.items():
        if word not in _STATES:
            raise ActionError(f"{where}: there is no plan state {word!r} for a hook (there are: {', '.join(_STATES)})")
        found[_STATES[word]] = what
    return found
