"""When to stop measuring: by the width of the intervals, and by nothing else.

A rule that looks at p values or signs finds changes that are not there (docs/statistics.md); the width says
nothing about the direction. So this module returns widths only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.samples import by_session
from harness.analysis.statistics import signed_rank
from harness.core.model import FIRST_LOOK

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from harness.analysis.ordering import CellKey


@dataclass(frozen=True, slots=True)
class StopDecision:
    """Whether to stop.

    Attributes:
        stop: whether.
        widest: half-width of the widest cell's interval, as a fraction; infinite when there is none yet.
        reason: why, in plain words, when stopping.
    """

    stop: bool
    widest: float
    reason: str | None = None


def widest_half_width(
    samples: pd.DataFrame,
    *,
    baseline: str,
    contenders: Sequence[str],
    alpha: float = 0.05,
    metric: str = "iops",
    factors: Sequence[str] | None = None,
    cells: Sequence[CellKey] = (),
    min_blocks: int = 1,
) -> float:
    """Return the half-width of the widest interval over all cells and contenders.

    Args:
        samples: as for `compare`.
        baseline: the baseline's name.
        contenders: the contenders' names.
        alpha: 1 - the level of the intervals.
        metric: what is compared.
        factors: further factors; those that vary when None.
        cells: the matrix; a cell of it that has no samples yet counts as infinitely wide.
        min_blocks: a cell with fewer complete blocks counts as infinitely wide.

    Returns:
        A fraction (0.01 is 1 %); infinite while any cell has too few blocks for an interval.
    """
    sessions = by_session(
        samples, variants=[baseline, *contenders], metric=metric, factors=factors, cells=cells
    )
    if set(cells) - set(sessions.cells):
        return np.inf
    widest = 0.0
    for contender in contenders:
        differences = sessions.variants[contender].log - sessions.variants[baseline].log
        for row in differences:
            complete = row[~np.isnan(row)]
            enough = complete.size >= max(min_blocks, 1)
            half = signed_rank(complete, alpha=alpha).half_width if enough else np.inf
            widest = max(widest, float(np.expm1(half)))
    return widest


def should_stop(
    widest: float, *, blocks_done: int, target: float, max_blocks: int = 60, min_blocks: int = FIRST_LOOK
) -> StopDecision:
    """Decide after a block whether to go on (``until: 1%``).

    Args:
        widest: what `widest_half_width` returned.
        blocks_done: blocks so far.
        target: the half-width to reach, a fraction.
        max_blocks: where to stop whatever was reached.
        min_blocks: before which not to stop.
    """
    looking = blocks_done >= min_blocks and blocks_done % 2 == 0  # blocks mirror each other in pairs
    if looking and widest <= target:
        reason = (
            f"after {blocks_done} blocks the widest interval is +-{widest:.2%}, {target:.2%} was asked for"
        )
        return StopDecision(stop=True, widest=widest, reason=reason)
    if blocks_done >= max_blocks:
        # Not narrow enough is no failure: the table says what was found all the same.
        found = f"+-{widest:.2%}" if np.isfinite(widest) else "without bounds"
        reason = (
            f"all {blocks_done} blocks are done: the widest interval is {found}, {target:.2%} was asked for"
        )
        return StopDecision(stop=True, widest=widest, reason=reason)
    return StopDecision(stop=False, widest=widest)
