"""What a benchmark found: one piece of work, done by several, in the same run on the same machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Who(StrEnum):
    """Who did the work."""

    BARE = "the limit"
    HARNESS = "this project"
    ANSIBLE = "an Ansible loop"
    FIO_PLOT = "fio-plot"


@dataclass(frozen=True, slots=True)
class Target:
    """What this project wants to stay below.

    Attributes:
        of: whose figure it is a multiple of; None is an absolute figure, in the work's unit.
        most: the most that this project's figure, or its multiple, may be.
    """

    of: Who | None
    most: float


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work, and what it took.

    Attributes:
        name: what was done.
        unit: of the figures; "s", "s a cell", "MB".
        took: who -> figure; the smaller the better.
        targets: for this project.
        note: how it was measured, a sentence or two, for the page.
    """

    name: str
    unit: str
    took: Mapping[Who, float]
    targets: Sequence[Target] = ()
    note: str = ""

    def ratio(self, of: Who) -> float | None:
        """Return this project's figure as a multiple of another's; None where one is missing."""
        ours, theirs = self.took.get(Who.HARNESS), self.took.get(of)
        return ours / theirs if ours is not None and theirs else None

    def met(self, target: Target) -> bool | None:
        """Return whether a target was met; None where that cannot be said."""
        found = self.took.get(Who.HARNESS) if target.of is None else self.ratio(target.of)
        return None if found is None else found <= target.most


@dataclass(frozen=True, slots=True)
class Curve:
    """How something grows.

    Attributes:
        name: what was done.
        columns: what the numbers of a row are.
        rows: by size.
        slope: d log(effort) / d log(size); near 1 it is linear.
        note: how it was measured.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[float]]
    slope: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """What one run of the benchmarks found.

    Attributes:
        machine: what it ran on; a name -> a value.
        works: in their order.
        curves: likewise.
    """

    machine: Mapping[str, str]
    works: Sequence[Work] = field(default_factory=list)
    curves: Sequence[Curve] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it, with every ratio to a target."""
        return {
            "version": 1,
            "machine": dict(self.machine),
            "works": [_document(work) for work in self.works],
            "curves": [asdict(curve) for curve in self.curves],
        }


def _document(work: Work) -> dict[str, Any]:
    targets = [
        {**asdict(target), "ratio": target.of and work.ratio(target.of), "met": work.met(target)}
        for target in work.targets
    ]
    return {
        "name": work.name,
        "unit": work.unit,
        "took": {who.name.lower(): value for who, value in work.took.items()},
        "targets": targets,
        "note": work.note,
    }
