"""From estimates to words: faster, slower, same, unclear."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from harness.analysis.statistics import (
    BoolArray,
    FloatArray,
    SignedRank,
    blocks_needed,
    holm,
    signed_rank,
)


class Verdict(StrEnum):
    """What can be said of a cell."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdicts of cells, shape (..., C).

    Attributes:
        verdict: values of `Verdict`.
        small: real but small: called, though the whole inner interval lies inside the margin.
        estimates: what they rest on.
        p_adjusted: Holm over the last axis.
    """

    verdict: npt.NDArray[np.str_]
    small: BoolArray
    estimates: SignedRank
    p_adjusted: FloatArray


def judge(differences: FloatArray, *, margin: float, alpha: float, higher_is_better: bool = True) -> Judged:
    """Judge whole experiments at once, all cells with the same number of blocks.

    Args:
        differences: shape (..., C, n), log units, no NaN.
        margin: what counts as equal (0.02 is 2 %).
        alpha: the chance of any false alarm in an experiment.
        higher_is_better: whether a rise is an improvement.
    """
    estimates = signed_rank(differences, alpha=alpha)
    p_adjusted = holm(estimates.p_value)
    callable_ = np.asarray(differences.shape[-1] >= blocks_needed(differences.shape[-2], alpha))
    verdict, small = classify(
        estimates,
        p_adjusted,
        enough=np.broadcast_to(callable_, p_adjusted.shape),
        margin=margin,
        alpha=alpha,
        higher_is_better=higher_is_better,
    )
    return Judged(verdict, small, estimates, p_adjusted)


def classify(
    estimates: SignedRank,
    p_adjusted: FloatArray,
    *,
    enough: BoolArray,
    margin: float,
    alpha: float,
    higher_is_better: bool,
) -> tuple[npt.NDArray[np.str_], BoolArray]:
    """Apply the rule of docs/statistics.md, all arrays of shape (...).

    `same` is two one-sided tests (D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987): the interval at
    level 1 - 2 alpha lies inside the margin. A change may be both real and inside it: it is called, and
    marked.

    Args:
        estimates: of the cells.
        p_adjusted: their adjusted p values.
        enough: whether a cell has enough blocks for any verdict.
        margin: what counts as equal.
        alpha: the chance of a false alarm.
        higher_is_better: whether a rise is an improvement.

    Returns:
        Values of `Verdict`, and which called changes are small.
    """
    bound = math.log1p(margin)
    inside = (estimates.inner_low > -bound) & (estimates.inner_high < bound)
    called = enough & (p_adjusted < alpha)
    better = (estimates.estimate > 0) == higher_is_better
    verdict = np.select(
        [called & better, called, enough & inside],
        [Verdict.FASTER.value, Verdict.SLOWER.value, Verdict.SAME.value],
        default=Verdict.UNCLEAR.value,
    )
    return verdict, called & inside
