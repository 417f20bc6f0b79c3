"""Contender against baseline, cell by cell: the frame behind every table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.analysis.device import device_bound
from harness.analysis.metrics import find_metric
from harness.analysis.remarks import find_warnings
from harness.analysis.rows import Rule, paired_rows, unpaired_rows
from harness.analysis.samples import Sessions, by_session
from harness.core.model import TABLE_FACTORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.analysis.ordering import CellKey

RESULT_COLUMNS = (
    "baseline", "contender", "change", "ci_low", "ci_high", "p_value", "p_adjusted", "verdict", "n_blocks",
    "mde", "stray",
)  # fmt: skip
"""The contract's columns after the factors."""

EXTRA_COLUMNS = (
    "stray_baseline", "stray_contender", "small", "reason", "device_bound", "n_baseline", "n_contender",
    "se",
)  # fmt: skip
"""Columns beyond the contract's, in memory and in JSON; ``se``: standard error of the change, log units."""


def compare(
    samples: pd.DataFrame,
    *,
    baseline: str,
    contender: str,
    margin: float = 0.02,
    alpha: float = 0.05,
    metric: str = "iops",
    factors: Sequence[str] | None = None,
    cells: Sequence[CellKey] = (),
    no_verdict: str | None = None,
    ceilings: Mapping[CellKey, float] | None = None,
) -> pd.DataFrame:
    """Compare two variants, cell by cell, from the samples of an interleaved run.

    Args:
        samples: a row a sample, with the columns ``variant, block, session, rw, bs, iodepth, iteration``, the
            metric's (``iops``), further factors', and ``run`` when several runs are put together. Row order
            means nothing. NaN in the metric is an iteration that failed.
        baseline: the baseline's name.
        contender: the contender's name.
        margin: what counts as equal: 0.02 is 2 %.
        alpha: the chance of any false alarm among the cells; intervals are at level 1 - alpha.
        metric: a name in `metrics.METRICS`, or a short one.
        factors: names of further factors; the known ones that vary when None.
        cells: the matrix as (rw, bs, iodepth, further...), for the order of rows; cells without
            samples are rows too.
        no_verdict: why no verdict may be given (not interleaved, hosts differ): then only estimates are.
        ceilings: IOPS of cells on the host without a guest, for `device_bound`.

    Returns:
        A row a cell. ``rw, bs, iodepth``, further factors; ``baseline, contender``: median of the sessions in
        the metric's unit; ``change, ci_low, ci_high``: the Hodges-Lehmann estimate and interval as fractions
        (0.033 is +3.3 %; infinite bounds where there are too few blocks); ``p_value, p_adjusted``;
        ``verdict``; ``n_blocks``: complete blocks; ``mde``: the smallest change found with 80 % power;
        ``stray``: blocks far from the others; then `EXTRA_COLUMNS`. What cannot be computed is NaN or None.
        ``.attrs["pooled"]``: the same for all cells together, as a dict; ``.attrs["warnings"]``: sentences.

    Raises:
        InputError: columns are missing, samples occur twice or are not above zero, or a variant is unknown.
    """
    rule = Rule(find_metric(metric), margin, alpha, no_verdict)
    sessions = by_session(
        samples,
        variants=[baseline, contender],
        metric=rule.metric.name,
        factors=factors,
        cells=cells,
        paired=no_verdict is None,
    )
    rows, pooled = unpaired_rows(sessions, rule) if no_verdict is not None else paired_rows(sessions, rule)
    columns = [*TABLE_FACTORS, *sessions.factors]
    frame = pd.DataFrame([dict(zip(columns, key, strict=True)) for key in sessions.cells], columns=columns)
    frame = pd.concat([frame, pd.DataFrame(rows)], axis=1)
    limited = _device_bound(samples, sessions, rule, ceilings)
    frame["device_bound"] = [key in limited for key in sessions.cells]
    frame = frame[[*columns, *RESULT_COLUMNS, *EXTRA_COLUMNS]]
    frame.attrs = {
        "pooled": pooled,
        "warnings": find_warnings(sessions, frame, rule),
        "baseline": baseline,
        "contender": contender,
        "metric": rule.metric.name,
        "margin": margin,
        "alpha": alpha,
        "factors": sessions.factors,
        "no_verdict": no_verdict,
    }
    return frame


def compare_all(
    samples: pd.DataFrame,
    *,
    baseline: str,
    contenders: Sequence[str],
    **how: Any,
) -> dict[str, pd.DataFrame]:
    """Compare several contenders with one baseline, each by itself.

    Holm counts the cells of each contender, not the contenders: each table is one question, with its own 5 %.

    Args:
        samples: as for `compare`.
        baseline: the baseline's name.
        contenders: their names, in the order of the result.
        how: the other arguments of `compare`.

    Returns:
        A frame of `compare` for each contender.
    """
    return {name: compare(samples, baseline=baseline, contender=name, **how) for name in contenders}


def _device_bound(
    samples: pd.DataFrame, sessions: Sessions, rule: Rule, ceilings: Mapping[CellKey, float] | None
) -> frozenset[CellKey]:
    if rule.metric.name != "iops":
        if "iops" not in samples.columns:
            return frozenset()
        sessions = by_session(
            samples,
            variants=list(sessions.variants),
            metric="iops",
            factors=sessions.factors,
            paired=rule.no_verdict is None,
        )
    return device_bound(sessions, ceilings)
