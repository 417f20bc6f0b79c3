"""A plan as JSON, of either kind of run: what has to stand in it before anything is made of it."""

from __future__ import annotations

import collections
from typing import Annotated, Any, NotRequired, TypeVar

from pydantic import ConfigDict, Field, ValidationError, with_config
from typing_extensions import TypedDict

from harness.core.model import Counter, FactorValue  # noqa: TC001 - pydantic reads these annotations
from harness.core.type_adapters import adapter_of

_Number = Annotated[int, Field(ge=0)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_T = TypeVar("_T")
_STRICT = ConfigDict(strict=True)


@with_config(_STRICT)
class SessionEntry(TypedDict):
    """One session."""

    number: _Number
    block: _Number
    variant: str
    guest: dict[str, FactorValue]
    iterations: list[_Number]


@with_config(_STRICT)
class IterationEntry(TypedDict):
    """One iteration, with what every cell has; the guest factors are its session's."""

    number: _Number
    session: _Number
    repeat: _Number
    rw: str
    bs: str
    iodepth: Annotated[int, Field(ge=1)]
    numjobs: Annotated[int, Field(ge=1)]
    ioengine: str


@with_config(_STRICT)
class CountEntry(IterationEntry):
    """One count; callgrind's where no counter is named."""

    requests: Annotated[int, Field(ge=1)]
    counter: NotRequired[Annotated[Counter, Field(strict=False)]]


@with_config(_STRICT)
class PlanDocument(TypedDict):
    """The plan of a run that boots guests."""

    seed: int
    variants: list[str]
    runtime: _Seconds
    ramp: _Seconds
    sessions: list[SessionEntry]
    iterations: list[IterationEntry]


@with_config(_STRICT)
class CountPlanDocument(TypedDict):
    """The plan of a run of counts."""

    variants: list[str]
    sessions: list[SessionEntry]
    iterations: list[CountEntry]


def read_plan(data: Any) -> PlanDocument:
    """Return a plan's JSON as what it is.

    Raises:
        ValueError: it is no plan, or contradicts itself; says where.
    """
    plan = _validated(PlanDocument, data)
    _check(plan["variants"], plan["sessions"], plan["iterations"])
    return plan


def read_count_plan(data: Any) -> CountPlanDocument:
    """Return a plan of counts; otherwise as `read_plan`."""
    plan = _validated(CountPlanDocument, data)
    _check(plan["variants"], plan["sessions"], plan["iterations"])
    return plan


def _validated(kind: type[_T], data: Any) -> _T:
    try:
        return adapter_of(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "its top"
        raise ValueError(f"not a plan: at {where:.200}: {first['msg']}") from error


def _check(
    variants: list[str], sessions: list[SessionEntry], iterations: list[IterationEntry] | list[CountEntry]
) -> None:
    """Refuse a plan in which something is there twice, in two places or nowhere."""
    _once("session", [session["number"] for session in sessions])
    _once("iteration", [iteration["number"] for iteration in iterations])
    _once("iteration", [number for session in sessions for number in session["iterations"]])
    homes = {number: session["number"] for session in sessions for number in session["iterations"]}
    for iteration in iterations:
        if homes.pop(iteration["number"], None) != iteration["session"]:
            raise ValueError(f"not a plan: iteration {iteration['number']} is not its session's")
    if homes:
        raise ValueError(f"not a plan: nothing is said of iteration {min(homes)}")
    for session in sessions:
        if session["variant"] not in variants:
            raise ValueError(f"not a plan: {session['variant']!r:.60} is none of its variants")


def _once(what: str, numbers: list[int]) -> None:
    number, times = max(collections.Counter(numbers).items(), key=lambda item: item[1], default=(0, 1))
    if times > 1:
        raise ValueError(f"not a plan: {what} {number} is there {times} times")
