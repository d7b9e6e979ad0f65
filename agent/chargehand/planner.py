"""Planning: what a planning action does to its `Plan`.

Steps run as soon as what they depend on has finished. A step depends on every step whose output it is given,
and on what `sequence` puts before it; everything else runs at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import Raw

from chargehand.actions import Action, ActionError, BadInput, Planning
from chargehand.wire import MAX_INPUT, Definition, Policy, Step, encode

__all__ = ["Output", "Plan"]

#: Outputs of neighbouring steps in one list are written as a range from this length on.
_RANGE = 8


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


class _Frame:
    """One nesting of `sequence` or `concurrence`."""

    def __init__(self, entry: set[int], *, ordered: bool) -> None:
        self.ordered = ordered
        self.entry = entry  # what its next element waits for
        self.exits: set[int] = set()  # what the element after it waits for

    def close_element(self, exits: set[int]) -> None:
        if not exits:
            return
        if self.ordered:
            self.entry = self.exits = set(exits)
        else:
            self.exits |= exits


class Plan(Planning):
    """A plan while it is made. Not thread-safe."""

    def __init__(self, label: str, actions: Mapping[str, Action[..., Any]] | None = None) -> None:
        self.label = label
        self._actions = actions or {}
        self._policies: dict[Policy, int] = {}
        self._steps: list[Step] = []
        self._frames = [_Frame(set(), ordered=False)]

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, action: Action[..., Any] | str, /, *, node: str | None = None, **inputs: Any) -> Output:
        """Add one step. `node` aims it at a node: it runs there and nowhere else.

        A planning action is planned in place; what it returns is returned. Raises `BadInput` for an input
        that the action does not take, `ActionError` for an unknown action.
        """
        found = self._find(action)
        if found.plans:
            return self._plan_in_place(found, inputs)
        checked = found.check(inputs, unknown_yet=_holds_output)
        sources: set[int] = set()
        given = encode(self._encode(checked, sources, found.name))
        if len(given) > MAX_INPUT:
            raise BadInput(
                f"action {found.name!r}: the input is {len(given):,} bytes, the most is {MAX_INPUT:,}; "
                "pass a path or a key instead of the data"
            )
        frame = self._frames[-1]
        index = len(self._steps)
        policy = self._policies.setdefault(found.policy, len(self._policies))
        self._steps.append(Step(policy, Raw(given), _compress(sources | frame.entry), node))
        frame.close_element({index})
        return Output(self, index)

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

    def definition(self, by: str = "") -> Definition:
        """The plan as it travels."""
        return Definition(
            label=self.label, policies=list(self._policies), total=len(self._steps), steps=self._steps, by=by
        )

    # ---------------------------------------------------------------------------------------------

    @contextmanager
    def _frame(self, *, ordered: bool) -> Iterator[None]:
        outer = self._frames[-1]
        frame = _Frame(set(outer.entry), ordered=ordered)
        self._frames.append(frame)
        try:
            yield
        finally:
            self._frames.pop()
        outer.close_element(frame.exits)

    def _find(self, action: Action[..., Any] | str) -> Action[..., Any]:
        if isinstance(action, Action):
            return action
        found = self._actions.get(action)
        if found is None:
            known = ", ".join(sorted(self._actions)) or "none"
            raise ActionError(f"there is no action {action!r} (known: {known})")
        return found

    def _plan_in_place(self, found: Action[..., Any], inputs: dict[str, Any]) -> Output:
        with self._frame(ordered=False):
            result = found.function(self, **found.check(inputs, unknown_yet=_holds_output))
        return result if isinstance(result, Output) else Output(self, max(len(self._steps) - 1, 0))

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
        sources.add(output.step)


def _holds_output(value: Any) -> bool:
    if isinstance(value, Output):
        return True
    if isinstance(value, dict):
        return any(_holds_output(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_output(inner) for inner in value)
    return False


def _compress(steps: set[int]) -> list[int | tuple[int, int]]:
    """Sorted, with runs of neighbours as half-open ranges."""
    found: list[int | tuple[int, int]] = []
    run: list[int] = []
    for step in sorted(steps):
        if run and step != run[-1] + 1:
            found.append(run[0] if len(run) == 1 else (run[0], run[-1] + 1))
            run = []
        run.append(step)
    if run:
        found.append(run[0] if len(run) == 1 else (run[0], run[-1] + 1))
    return found
