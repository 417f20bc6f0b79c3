"""What validates the project's types, built by pydantic when first asked for: that takes milliseconds."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter

_T = TypeVar("_T")
_BUILT: dict[Any, TypeAdapter[Any]] = {}


def adapter_of(kind: type[_T]) -> TypeAdapter[_T]:
    """Return what validates a type: a dataclass, a TypedDict, or a container of such."""
    found = _BUILT.get(kind)
    if found is None:
        found = _BUILT[kind] = TypeAdapter(kind)
    return found
