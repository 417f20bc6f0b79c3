"""Instructions a request: two counts and their difference, how exact that is, and what follows from it.

There is no sampling here, hence no p-value and no interval. What is known is the resolution: how far
repeats of the same count lie apart.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.analysis.pool_costs import PoolCost
    from harness.core.model import FactorValue

COSTLIER, CHEAPER, SAME, UNCLEAR = "costlier", "cheaper", "same", "unclear"
_MIDDLE = 3
_BEND_INEXACTNESS = 4

CellKey = tuple["FactorValue", ...]
"""A cell's factors in the order of the table's columns."""


@dataclass(frozen=True, slots=True)
class Count:
    """One count that took place.

    Attributes:
        requests: how many were served.
        repeat: which of the counts of so many requests, from 0.
        instructions: of the counted threads together.
        threads: of every thread by its name, counted or not.
    """

    variant: str
    cell: CellKey
    requests: int
    repeat: int
    instructions: int
    threads: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request costs one variant in one cell.

    Attributes:
        per_request: instructions; NaN when it was not counted.
        resolution: how far repeats of both counts lie apart, as a fraction of it; NaN without repeats.
        bend: how far the cost of the first half of the requests and that of the second lie apart, as a
            fraction; NaN when there is no count between the fewest and the most.
        repeats: how often both ends were counted.
        threads: instructions a request of every thread by its name.
    """

    per_request: float
    resolution: float
    bend: float
    repeats: int
    threads: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CellCost:
    """One cell of a comparison.

    Attributes:
        change: the contender against the baseline as a fraction; 0.033 is 3.3 % more instructions.
        resolution: the worse one of both.
        verdict: ``costlier``, ``cheaper``, ``same`` or ``unclear``.
        reason: why it is unclear; None otherwise.
    """

    cell: CellKey
    baseline: Cost
    contender: Cost
    change: float
    resolution: float
    verdict: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class CostComparison:
    """The variants of one run, cell by cell.

    Attributes:
        factors: the names of a cell's factors, in the order of its key.
        contenders: each with its cells in the experiment's order.
        margin: a smaller change does not matter.
        ruler: what was counted, of what, in a sentence.
        warnings: sentences.
        footer: sentences.
        environment: what was recorded of the host and the builds.
        pool: what misses of the coroutine pool cost each variant in each cell; None where that was not asked.
    """

    factors: tuple[str, ...]
    baseline: str
    contenders: Mapping[str, Sequence[CellCost]]
    margin: float
    ruler: str
    warnings: Sequence[str] = ()
    footer: Sequence[str] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    pool: Mapping[tuple[str, CellKey], PoolCost] | None = None

    def verdicts(self) -> list[str]:
        """Return every verdict of every contender."""
        return [cell.verdict for cells in self.contenders.values() for cell in cells]


NOT_COUNTED = Cost(math.nan, math.nan, math.nan, 0)


def costs_of(counts: Iterable[Count]) -> dict[tuple[str, CellKey], Cost]:
    """Return the cost of each variant in each cell that was counted at all."""
    grouped: dict[tuple[str, CellKey], list[Count]] = defaultdict(list)
    for count in counts:
        grouped[count.variant, count.cell].append(count)
    return {key: cost_of(group) for key, group in grouped.items()}


def cost_of(counts: Sequence[Count]) -> Cost:
    """Return what a request costs, from the counts of one variant in one cell.

    The median of the counts of the most requests, less that of the fewest, is what the requests between
    them cost.
    """
    points: dict[int, list[Count]] = defaultdict(list)
    for count in counts:
        points[count.requests].append(count)
    few, many = min(points, default=0), max(points, default=0)
    if few == many:
        return NOT_COUNTED
    apart = many - few
    low, high = ([count.instructions for count in points[number]] for number in (few, many))
    value = (median(high) - median(low)) / apart
    repeats = min(len(low), len(high))
    spread = (max(high) - min(high) + max(low) - min(low)) / apart
    resolution = _fraction(spread, value) if repeats > 1 else math.nan
    threads = {
        name: (_of_thread(points[many], name) - _of_thread(points[few], name)) / apart
        for name in sorted({name for count in counts for name in count.threads})
    }
    return Cost(value, resolution, _bend(points, value), repeats, threads)


def _of_thread(counts: Sequence[Count], name: str) -> float:
    return median(count.threads.get(name, 0) for count in counts)


def _fraction(part: float, whole: float) -> float:
    return part / abs(whole) if whole else math.inf if part else 0.0


def _bend(points: Mapping[int, Sequence[Count]], value: float) -> float:
    """Return how far both halves differ, as a fraction; NaN when nothing was counted in between."""
    numbers = sorted(points)
    if len(numbers) < _MIDDLE:
        return math.nan
    few, middle, many = numbers[0], numbers[1], numbers[-1]
    low, half, high = (median(count.instructions for count in points[n]) for n in (few, middle, many))
    first, second = (half - low) / (middle - few), (high - half) / (many - middle)
    return _fraction(abs(second - first), value)


def judge(cell: CellKey, baseline: Cost, contender: Cost, margin: float) -> CellCost:
    """Return one cell with its verdict.

    A verdict is given only where the resolution cannot turn it over: the change has to be beyond the
    margin, or within it, by more than repeats differ.
    """
    both = (baseline, contender)
    usable = not math.isnan(baseline.per_request) and baseline.per_request > 0
    change = contender.per_request / baseline.per_request - 1 if usable else math.nan
    resolution = max((cost.resolution for cost in both), key=lambda value: (math.isnan(value), value))
    verdict, reason = UNCLEAR, _why_unusable(both, change, resolution, margin)
    if reason is None:
        if change - resolution > margin:
            verdict = COSTLIER
        elif change + resolution < -margin:
            verdict = CHEAPER
        elif abs(change) + resolution <= margin:
            verdict = SAME
        else:
            reason = "too close to the margin"
    return CellCost(cell, baseline, contender, change, resolution, verdict, reason)


def _why_unusable(both: Sequence[Cost], change: float, resolution: float, margin: float) -> str | None:
    if math.isnan(change):
        return "not counted"
    if math.isnan(resolution):
        return "one repeat: no resolution"
    if resolution > margin:
        return "repeats differ"
    # The middle count is as inexact as the others, and stands in both halves, which are half as long.
    if any(cost.bend > margin + _BEND_INEXACTNESS * cost.resolution for cost in both):
        return "not linear"
    return None
