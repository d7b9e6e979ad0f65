"""Planning: what a planning action does to its `Plan`.

Steps run as soon as what they depend on has finished. A step depends on every step whose output it is given,
and on what `sequence` puts before it; everything else runs at once. The finalize phases of class actions come
after all of that, one after another in the order of planning.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal, overload

import msgspec
from msgspec import Raw

from chargehand.actions import Action, ActionError, BadInput, find, find_hook
from chargehand.context import seconds
from chargehand.kinds import ActionLike, Planning
from chargehand.options import HookAction, Options, read_hooks, read_labels, read_locks
from chargehand.wire import MAX_INPUT, Definition, Hook, Lock, Policy, Step, encode

__all__ = ["Output", "Plan", "Time"]

#: Outputs of neighbouring steps in one list are written as a range from this length on.
_RANGE = 8

#: A moment: with a time zone, or from now on (seconds, or "90s", "2h").
Time = datetime | float | str


class Output:
    """The output of a planned step, or a part of it (`step["digest"]`, `step[0]`), to be given to later steps."""

    __slots__ = ("path", "plan", "step")

    def __init__(self, plan: Plan, step: int, path: tuple[str | int, ...] = ()) -> None:
        self.plan = plan
        self.step = step
        self.path = path

    def __getitem__(self, key: str | int) -> Output:
        return Output(self.plan, self.step, (*self.path, key))

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("the output of a step is not known while planning; give it to another step")

    def __repr__(self) -> str:
        return f"<output of step {self.step}{''.join(f'[{key!r}]' for key in self.path)}>"


#: Steps as a definition names them: an index, or a half-open range. All that wait for the same share it: never changed.
_Edges = list[int | tuple[int, int]]


class _Frame:
    """One nesting of `sequence` or `concurrence`."""

    def __init__(self, entry: _Edges, *, ordered: bool) -> None:
        self.ordered = ordered
        self.entry = entry  # what its next element waits for
        self.exits: set[int] = set()  # what the element after it waits for

    def close_element(self, exits: set[int]) -> None:
        if not exits:
            return
        if self.ordered:
            self.exits = exits
            self.entry = _edges(exits)
        else:
            self.exits |= exits


class Plan(Planning):
    """A plan while it is made. Not thread-safe. Its options can be changed until `definition` is called.

    label: what it is called, as the action that was asked for. labels: what people may look for. start_at: not before.
    start_before: when it has not started by then, it fails. after: ids of plans that must have ended before;
    after_failure: when one of them ends otherwise than well it fails ("fail"), or starts all the same ("run").
    locks: what it holds while it is under way, beside what its actions ask for; busy: when another holds one it
    waits its turn ("wait"), or is refused ("reject"). limit: most of its steps that stand at once (0: no limit).
    hooks: plan state -> action that then runs, as a plan of its own, with `plan` (the id) and `state` as inputs.
    plan_on: where planning actions plan, "client" (here, at once) or "worker" (when it starts; the default with
    start_at). actions: those that are known by name.
    """

    def __init__(
        self,
        label: str,
        actions: Mapping[str, Action[..., Any]] | None = None,
        *,
        labels: Iterable[str] = (),
        start_at: Time | None = None,
        start_before: Time | None = None,
        after: Iterable[str] = (),
        after_failure: Literal["fail", "run"] = "fail",
        locks: Iterable[str | Lock] = (),
        busy: Literal["wait", "reject"] = "wait",
        limit: int = 0,
        hooks: Mapping[str, HookAction] | None = None,
        plan_on: Literal["client", "worker"] | None = None,
    ) -> None:
        self.label = label
        self.labels = labels
        self.start_at = start_at
        self.start_before = start_before
        self.after = after
        self.after_failure = after_failure
        self.locks = locks
        self.busy = busy
        self.limit = limit
        self.hooks = dict(hooks or {})
        self.plan_on = plan_on
        self._actions = actions or {}
        self._used: dict[Action[..., Any], int] = {}  # -> index into the policies
        self._asking: dict[int, Options] = {}  # what the actions of its steps ask for, by identity
        self._policies: list[Policy] = []
        self._steps: list[Step] = []
        self._frames = [_Frame([], ordered=False)]
        self._planning: list[Action[..., Any]] = []  # whose planning code runs, the innermost last
        self._finalizing: list[Step] = []
        self._made_ms: int | None = None  # when its relative times began

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def add(self, action: ActionLike, /, *, node: str | None = None, **inputs: Any) -> Output: ...

    @overload
    def add(self, action: ActionLike, /, *, node: Sequence[str], **inputs: Any) -> list[Output]: ...

    def add(
        self, action: ActionLike, /, *, node: str | Sequence[str] | None = None, **inputs: Any
    ) -> Output | list[Output]:
        """Add one step. `node` aims it at a node: it runs there and nowhere else; several nodes: a step each.

        A planning action is planned in place; what it returns is returned. Raises `BadInput` for an input
        that the action does not take, `ActionError` for an unknown action.
        """
        found = find(self._actions, action)
        if not found.plans:
            return self._add(found, found.check(inputs, unknown_yet=_holds_output), node)
        if node is not None:
            raise ActionError(f"action {found.name!r} plans its steps itself: node=... is for one that runs")
        if self._planning or not self._plans_later:
            return self._plan_in_place(found, inputs)
        phase = found.phase("plan")
        assert phase is not None
        return self._add(phase, found.check(inputs, unknown_yet=_holds_output), None)

    @overload
    def run(self, *, node: str | None = None, **inputs: Any) -> Output: ...

    @overload
    def run(self, *, node: Sequence[str], **inputs: Any) -> list[Output]: ...

    def run(self, *, node: str | Sequence[str] | None = None, **inputs: Any) -> Output | list[Output]:
        """Add the run phase of the class whose `plan` calls this; otherwise as `add`."""
        if not self._planning or not self._planning[-1].runs:
            whose = f"action {self._planning[-1].name!r} has no run()" if self._planning else "no action plans here"
            raise ActionError(f"plan.run(...) adds the run() of the class that plans, but {whose}")
        found = self._planning[-1]
        return self._add(found, found.run_signature.check(inputs, unknown_yet=_holds_output), node)

    @contextmanager
    def sequence(self) -> Iterator[None]:
        """Inside, each step (or nested block) starts after the one before it has finished."""
        with self._frame(ordered=True):
            yield

    @contextmanager
    def concurrence(self) -> Iterator[None]:
        """Inside, steps run at once: for blocks within a sequence. Outside of blocks this is the default."""
        with self._frame(ordered=False):
            yield

    def definition(self, by: str = "", *, now_ms: int | None = None) -> Definition:
        """The plan as it travels. Times from now on count from the first call (`now_ms`: instead of the clock).

        Raises `ActionError` for options that say nothing.
        """
        if self._made_ms is None:
            self._made_ms = int(time.time() * 1000) if now_ms is None else now_ms
        where = f"plan {self.label!r}"
        for option, words in (("after_failure", {"fail", "run"}), ("busy", {"wait", "reject"})):
            if getattr(self, option) not in words:
                raise ActionError(f"{where}: {option} is {' or '.join(map(repr, sorted(words)))}")
        if not isinstance(self.limit, int) or self.limit < 0:
            raise ActionError(f"{where}: limit is the most of its steps that stand at once, not {self.limit!r}")
        if isinstance(self.after, str):
            raise ActionError(f"{where}: after is a list of plan ids, as [{self.after!r}]")
        asking = self._asking.values()
        labels = [*read_labels(self.labels, where), *(label for one in asking for label in one.labels)]
        locks = [*read_locks(self.locks, where), *(lock for one in asking for lock in one.locks)]
        start_at = _moment(self.start_at, self._made_ms, f"{where}: start_at")
        start_before = _moment(self.start_before, self._made_ms, f"{where}: start_before")
        if start_before and start_before <= start_at:
            raise ActionError(
                f"{where}: it could never start, for start_before ({self.start_before}) is not after "
                f"start_at ({self.start_at})"
            )
        hooks = self._hooks(where)  # they may use further policies
        steps = self._steps if not self._finalizing else [*self._steps, *self._finalize()]
        return Definition(
            label=self.label,
            policies=list(self._policies),
            total=len(steps),
            steps=steps,
            by=by,
            labels=list(dict.fromkeys(labels)),
            start_at_ms=start_at,
            start_before_ms=start_before,
            after=list(dict.fromkeys(self.after)),
            after_failure=self.after_failure,
            locks=_strongest(locks),
            busy="reject" if any(one.rejects for one in asking) else self.busy,
            limit=self.limit,
            hooks=hooks,
        )

    # ---------------------------------------------------------------------------------------------

    @contextmanager
    def _frame(self, *, ordered: bool) -> Iterator[None]:
        outer = self._frames[-1]
        frame = _Frame(outer.entry, ordered=ordered)
        self._frames.append(frame)
        try:
            yield
        finally:
            self._frames.pop()
        outer.close_element(frame.exits)

    @property
    def _plans_later(self) -> bool:
        return self.plan_on == "worker" or (self.plan_on is None and self.start_at is not None)

    def _plan_in_place(self, found: Action[..., Any], inputs: dict[str, Any]) -> Output:
        self._asking[id(found.options)] = found.options
        self._planning.append(found)
        try:
            with self._frame(ordered=False):
                result = found.make(self, found.check(inputs, unknown_yet=_holds_output))
        finally:
            self._planning.pop()
        return result if isinstance(result, Output) else Output(self, max(len(self._steps) - 1, 0))

    def _add(
        self, found: Action[..., Any], checked: dict[str, Any], node: str | Sequence[str] | None
    ) -> Output | list[Output]:
        sources: set[int] = set()
        given = self._given(found, checked, sources)
        if node is None or isinstance(node, str):
            return self._append(found, checked, given, sources, node)
        with self._frame(ordered=False):
            return [self._append(found, checked, given, sources, one) for one in node]

    def _append(
        self, found: Action[..., Any], checked: dict[str, Any], given: Raw, sources: set[int], node: str | None
    ) -> Output:
        frame = self._frames[-1]
        index = len(self._steps)
        after = _edges(sources, frame.entry) if sources else frame.entry
        self._steps.append(Step(self._use(found), given, after, node))
        frame.close_element({index})
        output = Output(self, index)
        later = found.phase("finalize")
        if later is not None:
            wanted = later.signature.pick(checked | {"output": output})
            self._finalizing.append(Step(self._use(later), self._given(later, wanted, set()), [], node))
        return output

    def _given(self, found: Action[..., Any], checked: dict[str, Any], sources: set[int]) -> Raw:
        given = encode(self._encode(checked, sources, found.name))
        if len(given) > MAX_INPUT:
            raise BadInput(
                f"action {found.name!r}: the input is {len(given):,} bytes, the most is {MAX_INPUT:,}; "
                "pass a path or a key instead of the data"
            )
        return Raw(given)

    def _use(self, found: Action[..., Any]) -> int:
        """A step of it is added: its policy's index."""
        self._asking[id(found.options)] = found.options
        return self._policy(found)

    def _policy(self, found: Action[..., Any]) -> int:
        index = self._used.get(found)
        if index is None:
            index = self._used[found] = len(self._policies)
            self._policies.append(found.policy)
        return index

    def _finalize(self) -> list[Step]:
        """The finalize steps: the first after all steps, each further one after the one before it."""
        first = len(self._steps)
        before = _edges(range(first))
        return [
            Step(step.policy, step.input, before if not number else [first + number - 1], step.node)
            for number, step in enumerate(self._finalizing)
        ]

    def _hooks(self, where: str) -> list[Hook]:
        asked = [*read_hooks(self.hooks, where).items()]
        asked += [item for one in self._asking.values() for item in one.hooks.items()]
        found: list[Hook] = []
        for states, what in asked:
            action, inputs = find_hook(self._actions, what)
            hook = Hook(states, self._policy(action), self._given(action, inputs, set()))
            if hook not in found:
                found.append(hook)
        return found

    def _encode(self, value: Any, sources: set[int], action: str) -> Any:
        """Replace outputs by references, noting the steps they come from."""
        if isinstance(value, Output):
            self._source(value, sources)
            return {"$ref": value.step, "path": value.path} if value.path else {"$ref": value.step}
        if isinstance(value, dict):
            for key in value:
                if isinstance(key, str) and key.startswith("$"):
                    raise BadInput(f"action {action!r}: the key {key!r} begins with '$', which is kept for references")
            return {key: self._encode(inner, sources, action) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            packed = self._range(value, sources)
            return packed if packed is not None else [self._encode(inner, sources, action) for inner in value]
        if isinstance(value, str | int | float | bool | None):
            return value
        try:
            return msgspec.to_builtins(value)
        except TypeError as error:
            raise BadInput(f"action {action!r}: {type(value).__name__} cannot be written as JSON") from error

    def _range(self, values: list[Any] | tuple[Any, ...], sources: set[int]) -> dict[str, Any] | None:
        if len(values) < _RANGE or not all(isinstance(value, Output) for value in values):
            return None
        first = values[0]
        if any(value.step != first.step + at or value.path != first.path for at, value in enumerate(values)):
            return None
        for value in values:
            self._source(value, sources)
        return {"$refs": [first.step, first.step + len(values)], "path": first.path}

    def _source(self, output: Output, sources: set[int]) -> None:
        if output.plan is not self:
            raise BadInput(f"{output!r} belongs to another plan")
        if output.step >= len(self._steps):
            raise BadInput(f"{output!r} is of an action that added no step")
        sources.add(output.step)


def _moment(when: Time | None, now_ms: int, what: str) -> int:
    """In ms since the epoch; 0 for none. Raises `ActionError`, which begins with `what`."""
    if when is None:
        return 0
    if not isinstance(when, datetime):
        return now_ms + round(seconds(when, what) * 1000)
    if when.tzinfo is None:
        raise ActionError(f"{what}: {when} has no time zone; say which, as in datetime.now(UTC)")
    return max(1, round(when.timestamp() * 1000))


def _strongest(locks: Iterable[Lock]) -> list[Lock]:
    """One of each name: the one that lets the fewest others hold it too."""
    found: dict[str, Lock] = {}
    for lock in locks:
        known = found.get(lock.name)
        if known is None or not known.most or 0 < lock.most < known.most:
            found[lock.name] = lock
    return list(found.values())


def _holds_output(value: Any) -> bool:
    if isinstance(value, Output):
        return True
    if isinstance(value, dict):
        return any(_holds_output(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_output(inner) for inner in value)
    return False


def _edges(steps: Iterable[int], more: _Edges | None = None) -> _Edges:
    """Sorted, with neighbours as one range."""
    ranges = [(step, step + 1) for step in steps]
    ranges += [(edge, edge + 1) if isinstance(edge, int) else edge for edge in more or ()]
    joined: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    return [first if end == first + 1 else (first, end) for first, end in joined]
