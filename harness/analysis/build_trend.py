"""Many builds in their order, as a trend: each against the baseline and against the build before it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.analysis.costs import CHEAPER, COSTLIER, NOT_COUNTED, judge
from harness.analysis.metrics import Metric
from harness.analysis.tables import records
from harness.analysis.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.analysis.costs import CellCost, CellKey, Cost
    from harness.analysis.result import Comparison

FEWEST = 3
"""Two builds are a comparison."""
INSTRUCTIONS = Metric("instructions_per_request", "instructions a request", "", higher_is_better=False)
_VERSION = re.compile(r"version (\S+)")
_SMALL = "small: real, but within the margin"
_WORSE = {COSTLIER, Verdict.SLOWER.value}
_STEPS = {CHEAPER, Verdict.FASTER.value} | _WORSE


@dataclass(frozen=True, slots=True)
class Point:
    """One build in one cell.

    Attributes:
        build: its name in the experiment.
        value: in the metric's unit; NaN without one.
        since_baseline: the change against the baseline as a fraction; NaN for the baseline itself.
        since_previous: the change against the build before; NaN for the first.
        low: lower bound of that change: its interval, or the resolution of counts; NaN without one.
        high: upper bound.
        verdict: on that change; None for the first build, and where none was allowed.
        reason: why that is unclear, or hardly matters; None otherwise.
    """

    build: str
    value: float
    since_baseline: float = math.nan
    since_previous: float = math.nan
    low: float = math.nan
    high: float = math.nan
    verdict: str | None = None
    reason: str | None = None

    @property
    def is_step(self) -> bool:
        """Whether something changed with this build, beyond doubt and margin."""
        return self.verdict in _STEPS

    @property
    def is_worse(self) -> bool:
        """Whether it changed for the worse."""
        return self.verdict in _WORSE


@dataclass(frozen=True, slots=True)
class CellTrend:
    """One cell over all builds.

    Attributes:
        cell: its factors, in the order of the trend's.
        points: a build each, in their order.
    """

    cell: CellKey
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class BuildTrend:
    """The builds of one run as a trend.

    Attributes:
        metric: what is followed.
        factors: the names of a cell's factors.
        builds: in the experiment file's order, without those that gave nothing.
        baseline: the one that all are held against.
        margin: what counts as equal, a fraction.
        cells: in the experiment's order.
        counted: whether the values are counts of instructions: bounds are a resolution, not an interval.
        warnings: sentences.
        footer: the caller's lines.
        environment: what was recorded of host and builds.
    """

    metric: Metric
    factors: tuple[str, ...]
    builds: tuple[str, ...]
    baseline: str
    margin: float
    cells: Sequence[CellTrend]
    counted: bool
    warnings: Sequence[str] = ()
    footer: Sequence[str] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)

    def versions(self) -> list[str]:
        """Return each build's version: ``10.0.2``; empty where it is not known."""
        known = self.environment.get("builds") or {}
        said = [str((known.get(build) or {}).get("version") or "") for build in self.builds]
        return [found[1] if (found := _VERSION.search(text)) else "" for text in said]

    def steps(self) -> list[tuple[str, str, list[tuple[CellTrend, Point]]]]:
        """Return every step: the build before, the build it came with, and the cells that it is in."""
        found = []
        for number, (before, build) in enumerate(pairwise(self.builds), start=1):
            cells = [(cell, cell.points[number]) for cell in self.cells if cell.points[number].is_step]
            if cells:
                found.append((before, build, cells))
        return found

    def verdicts(self) -> set[str | None]:
        """Return every verdict on a build against the one before."""
        return {point.verdict for cell in self.cells for point in cell.points[1:]}


def trend_of_costs(
    costs: Mapping[tuple[str, CellKey], Cost],
    builds: Sequence[str],
    cells: Sequence[CellKey],
    *,
    baseline: str,
    margin: float,
) -> list[CellTrend]:
    """Return counts of instructions, cell by cell.

    Args:
        costs: what a request costs, by build and cell.
        builds: in their order.
        cells: in their order.
        baseline: the build that all are held against.
        margin: what counts as equal, a fraction.
    """
    found = []
    for key in cells:
        own = [costs.get((build, key), NOT_COUNTED) for build in builds]
        against = costs.get((baseline, key), NOT_COUNTED)
        points = [
            _counted(
                build,
                cost,
                math.nan if build == baseline else judge(key, against, cost, margin).change,
                judge(key, before, cost, margin) if before is not None else None,
            )
            for build, cost, before in zip(builds, own, [None, *own], strict=False)
        ]
        found.append(CellTrend(key, points))
    return found


def _counted(build: str, cost: Cost, since_baseline: float, step: CellCost | None) -> Point:
    if step is None:
        return Point(build, cost.per_request, since_baseline)
    return Point(
        build,
        cost.per_request,
        since_baseline,
        step.change,
        step.change - step.resolution,
        step.change + step.resolution,
        step.verdict,
        step.reason,
    )


def trend_of_samples(against_baseline: Comparison, neighbours: Sequence[Comparison]) -> list[CellTrend]:
    """Return what was measured, cell by cell.

    Args:
        against_baseline: all builds against the baseline.
        neighbours: each build against the one before it, in their order; of the same cells.
    """
    builds = [neighbours[0].baseline, *(found.contenders[0] for found in neighbours)]
    overall = {
        (name, number): row["change"]
        for name in against_baseline.contenders
        for number, row in enumerate(records(against_baseline.frames[name]))
    }
    rows = [records(found.frames[found.contenders[0]]) for found in neighbours]
    cells = []
    for number, first in enumerate(rows[0]):
        points = [Point(builds[0], first["baseline"], overall.get((builds[0], number), math.nan))]
        points += [
            _measured(build, of_pair[number], overall.get((build, number), math.nan))
            for build, of_pair in zip(builds[1:], rows, strict=True)
        ]
        key = tuple(first[name] for name in against_baseline.key_columns)
        cells.append(CellTrend(key, points))
    return cells


def _measured(build: str, row: Mapping[str, Any], since_baseline: float) -> Point:
    bounded = math.isfinite(row["ci_low"]) and math.isfinite(row["ci_high"])
    return Point(
        build,
        row["contender"],
        since_baseline,
        row["change"],
        row["ci_low"] if bounded else math.nan,
        row["ci_high"] if bounded else math.nan,
        row["verdict"] if isinstance(row["verdict"], str) else None,
        _SMALL if row["small"] else row["reason"] if isinstance(row["reason"], str) else None,
    )
