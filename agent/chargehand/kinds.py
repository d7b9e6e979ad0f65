"""What actions and plans are to the modules that theirs are built on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["ActionLike", "Item", "Planning", "Registered"]


class Registered:
    """What `@action` makes; `Action` derives from it."""


class Planning:
    """What the first parameter of a planning action is; `Plan` derives from it."""


#: An action or its name. To a type checker a class stays what it was, whatever its decorator makes of it.
ActionLike: TypeAlias = Registered | type[Any] | str

#: What a sub-plan is made from: a plan, or an action and its inputs.
Item: TypeAlias = Planning | tuple[ActionLike, Mapping[str, Any]]
