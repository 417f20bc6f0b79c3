"""What stands behind a comparison's medians: every session's number, and an interval for each variant."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.rows import stray_sides
from harness.analysis.samples import by_session, of_variants

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from harness.analysis.ordering import CellKey
    from harness.analysis.result import Comparison
    from harness.analysis.statistics import FloatArray


def session_values(samples: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Return what each session gave in each cell.

    Args:
        samples: a row a sample, as `compare` takes them.
        comparison: made from these samples.

    Returns:
        A row a cell, variant and session, in the order of the samples: the key columns, ``variant``,
        ``block``, ``session``, ``value`` (the median of its samples, in the metric's unit) and ``stray``:
        whether that session lies far from the others, as the table counts them.
    """
    metric, keys = comparison.metric.name, comparison.key_columns
    own = of_variants(samples, [comparison.baseline, *comparison.contenders])
    groups = own.dropna(subset=[metric]).groupby(
        [*keys, "variant", "block", "session"], sort=False, dropna=False
    )
    found = groups[metric].median().reset_index(name="value")
    stray = set() if comparison.no_verdict else set(_stray(samples, comparison))
    places = zip(
        found["variant"],
        found[keys].itertuples(index=False, name=None),
        found["block"].astype(str),
        strict=True,
    )
    found["stray"] = [place in stray for place in places]
    return found


def _stray(samples: pd.DataFrame, comparison: Comparison) -> Iterator[tuple[str, CellKey, str]]:
    """Yield variant, cell and block of every stray session."""
    for contender, frame in comparison.frames.items():
        names = (comparison.baseline, contender)
        sessions = by_session(
            samples,
            variants=names,
            metric=comparison.metric.name,
            factors=comparison.factors,
            cells=list(frame[comparison.key_columns].itertuples(index=False, name=None)),
        )
        old, new = (sessions.variants[name].log for name in names)
        for cell, change in enumerate(frame["change"]):
            complete = np.flatnonzero(~np.isnan(new[cell] - old[cell]))
            if not complete.size:
                continue
            before, after = old[cell][complete], new[cell][complete]
            sides = stray_sides(after - before, np.asarray(np.log1p(change)), before, after)
            for name, marked in zip(names, sides, strict=True):
                yield from (
                    (name, sessions.cells[cell], sessions.blocks[block]) for block in complete[marked]
                )


def median_interval(values: FloatArray, *, alpha: float) -> tuple[float, float]:
    """Return an interval of a median, from order statistics, at level 1 - alpha or more.

    Nothing is assumed of the distribution: how many of n values lie below the median is binomial (W. J.
    Conover, *Practical Nonparametric Statistics*, 3.2).

    Returns:
        The bounds; NaN where there are too few values for any (fewer than 6, at 95 %).
    """
    count = len(values)
    cutoff = order_cutoff(count, alpha / 2)
    if cutoff == 0:
        return math.nan, math.nan
    ordered = np.sort(values)
    return float(ordered[cutoff - 1]), float(ordered[count - cutoff])


@lru_cache(maxsize=256)
def order_cutoff(count: int, tail: float) -> int:
    """Return how many values may be left out at each end; 0 means that there is no interval."""
    # Exact, and without scipy, which takes as long to import as a small run to compare.
    below = itertools.accumulate(math.comb(count, number) for number in range(count))
    return sum(1 for _ in itertools.takewhile(lambda ways: ways / 2**count <= tail, below))
