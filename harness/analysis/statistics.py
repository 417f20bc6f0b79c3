"""The arithmetic of a verdict: signed ranks, Hodges-Lehmann intervals, Holm, the smallest visible effect.

Everything works on arrays whose last axis is the blocks (and, where cells are compared with each other, whose
axis before that is the cells), so that thousands of simulated experiments cost one call. Differences are in
log units: d = log(contender) - log(baseline). docs/statistics.md explains why these methods and no others.

Sources:
    F. Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1 (1945).
    J. L. Hodges and E. L. Lehmann, Estimates of location based on rank tests, Ann. Math. Stat. 34 (1963).
    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979).
    M. Hollander and D. A. Wolfe, Nonparametric Statistical Methods, chapter 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

# Below this a difference is the rounding of the logarithm, not a measurement.
ROUNDING = 1e-12
TRIM = 0.2
"""Share of the cells the pooled row leaves out at each end, block by block."""
STRAY_SCALE = 4 * 1.4826
"""A session is stray beyond this many median absolute deviations: 4 sigma of a normal distribution."""
POWER = 0.8
_SIGNED_RANK_EFFICIENCY = 0.955  # of the signed rank against t, for normal noise: 3/pi
_MDE_ALLOWANCE = 1.05
_SPREAD_TAIL = 0.1
_FEW_DEGREES = 500
_MIDDLE = 0.5
_LEAST_TAIL = 1e-7  # below it, a half minus nearly a half has too few digits


@lru_cache(maxsize=256)
def null_cdf(blocks: int) -> FloatArray:
    """Return the exact null distribution of the signed-rank statistic.

    Each rank k = 1..n is in the sum or not, by the toss of a coin: the distribution is the convolution of
    {1/2 at 0, 1/2 at k} (Wilcoxon 1945).

    Args:
        blocks: n, how many differences there are.

    Returns:
        F(w) for w = 0..n(n+1)/2; read-only, because it is shared.
    """
    total = blocks * (blocks + 1) // 2
    probability = np.zeros(total + 1)
    probability[0] = 1.0
    for rank in range(1, blocks + 1):
        shifted = np.zeros_like(probability)
        shifted[rank:] = probability[:-rank]
        probability = (probability + shifted) / 2
    cdf = np.minimum(np.cumsum(probability), 1.0)
    cdf.setflags(write=False)
    return cdf


def rank_cutoff(blocks: int, tail: float) -> int:
    """Return k, the number of w with F(w) <= tail; 0 means that the interval has no bounds."""
    # F is summed from powers of 1/2: the last bit of the sum must not decide.
    return int(np.count_nonzero(null_cdf(blocks) <= tail * (1 + ROUNDING)))


def walsh_averages(differences: FloatArray) -> FloatArray:
    """Return (d_i + d_j) / 2 for all i <= j, sorted: shape (..., n) becomes (..., n(n+1)/2)."""
    first, second = np.triu_indices(differences.shape[-1])
    averages = (differences[..., first] + differences[..., second]) / 2
    averages.sort(axis=-1)
    return averages


@dataclass(frozen=True, slots=True)
class SignedRank:
    """What the differences of the blocks say of each cell; all fields have shape (...), in log units.

    Attributes:
        estimate: the Hodges-Lehmann estimate.
        low, high: its interval at level 1 - alpha; infinite when there are too few blocks for one.
        inner_low, inner_high: its interval at level 1 - 2 alpha (90 % for alpha 5 %), for equivalence.
        p_value: two-sided and exact.
        standard_error: of the estimate, from its inner 80 % interval, which no single burst reaches; infinite
            below 4 blocks.
    """

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    inner_low: FloatArray
    inner_high: FloatArray
    p_value: FloatArray
    standard_error: FloatArray

    @property
    def half_width(self) -> FloatArray:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def signed_rank(differences: FloatArray, *, alpha: float) -> SignedRank:
    """Estimate the typical difference, its interval and its p value (Hollander and Wolfe, 3.1 to 3.3).

    A Walsh average of zero (a tie: two builds level, or two blocks that cancel) counts for both sides.
    Without ties that is `scipy.stats.wilcoxon(method="exact")`; with them p is the larger, cautious one, the
    same whichever build is called the baseline, and at most alpha exactly when the interval leaves zero out.

    Args:
        differences: shape (..., n), n >= 1, no NaN; log units.
        alpha: 1 - the level of the interval.
    """
    blocks = differences.shape[-1]
    averages = walsh_averages(differences)
    cdf = null_cdf(blocks)
    at_most = np.count_nonzero(averages <= ROUNDING, axis=-1)
    at_least = np.count_nonzero(averages >= -ROUNDING, axis=-1)
    low, high = _bounds(averages, blocks, alpha / 2)
    inner_low, inner_high = _bounds(averages, blocks, alpha)
    return SignedRank(
        estimate=np.median(averages, axis=-1),
        low=low,
        high=high,
        inner_low=inner_low,
        inner_high=inner_high,
        p_value=np.minimum(1.0, 2 * cdf[np.minimum(at_most, at_least)]),
        standard_error=_standard_error(averages, blocks),
    )


def _standard_error(averages: FloatArray, blocks: int) -> FloatArray:
    """Return half of an inner interval, divided by what Student's t has at its exact level."""
    cutoff = rank_cutoff(blocks, _SPREAD_TAIL)
    if cutoff == 0 or blocks == 1:
        return np.full(averages.shape[:-1], np.inf)
    low, high = _bounds(averages, blocks, _SPREAD_TAIL)
    half: FloatArray = (high - low) / 2
    return half / t_quantile(float(null_cdf(blocks)[cutoff - 1]), blocks - 1)


def _bounds(averages: FloatArray, blocks: int, tail: float) -> tuple[FloatArray, FloatArray]:
    cutoff = rank_cutoff(blocks, tail)
    if cutoff == 0:
        shape = averages.shape[:-1]
        return np.full(shape, -np.inf), np.full(shape, np.inf)
    return averages[..., cutoff - 1], averages[..., -cutoff]


def holm(p_values: FloatArray) -> FloatArray:
    """Adjust p values for the number of cells looked at (Holm 1979).

    Args:
        p_values: shape (..., C), no NaN.

    Returns:
        The same shape; the chance of any false alarm among the C is at most alpha when those below alpha
        are called.
    """
    cells = p_values.shape[-1]
    order = np.argsort(p_values, axis=-1, kind="stable")
    ordered = np.take_along_axis(p_values, order, axis=-1) * np.arange(cells, 0, -1)
    stepped = np.minimum(np.maximum.accumulate(ordered, axis=-1), 1.0)
    result = np.empty_like(stepped)
    np.put_along_axis(result, order, stepped, axis=-1)
    return result


def blocks_needed(cells: int, alpha: float) -> int:
    """Return below how many blocks no difference, however large, can be called: ceil(1 + log2(C / alpha))."""
    return math.ceil(1 + math.log2(max(cells, 1) / alpha) - ROUNDING)


@lru_cache(maxsize=256)
def t_quantile(exceeded: float, freedom: int) -> float:
    """Return what Student's t exceeds with a given probability."""
    if freedom <= _FEW_DEGREES and _LEAST_TAIL <= exceeded < _MIDDLE:
        return _t_by_search(exceeded, freedom)
    # scipy takes as long to import as a small run to compare.
    from scipy.special import stdtrit

    # By the lower tail: 1 - probability is exact there however small it is.
    return -float(stdtrit(freedom, exceeded))


def _t_by_search(exceeded: float, freedom: int) -> float:
    low, high = 0.0, 1.0
    while _t_tail(high, freedom) > exceeded:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _t_tail(middle, freedom) > exceeded else (low, middle)
    return high


def _t_tail(value: float, freedom: int) -> float:
    """Return how probable it is that Student's t exceeds a value above zero.

    For whole degrees of freedom that is a finite sum (M. Abramowitz and I. Stegun, *Handbook of Mathematical
    Functions*, 26.7.3 and 26.7.4).
    """
    angle = math.atan(value / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term, total = 1.0, float(freedom > 1)
    for number in range(2 + odd, freedom - 1, 2):
        term *= square * (number - 1) / number
        total += term
    if odd:
        return 0.5 - (angle + sine * math.cos(angle) * total) / math.pi
    return 0.5 - sine * total / 2


def minimum_detectable_effect(half_width: FloatArray, *, blocks: int, cells: int, alpha: float) -> FloatArray:
    """Return the change that would be found with 80 % power, from the width of an interval.

    Args:
        half_width: of the interval at level 1 - alpha, log units, shape (...).
        blocks: how many stand behind it.
        cells: how many are looked at (Holm).
        alpha: the chance of a false alarm.

    Returns:
        A fraction (0.01 is 1 %), shape (...); NaN when there is no interval. Optimistic below 20 blocks.
    """
    if blocks <= 1:
        return np.full_like(half_width, np.nan)
    freedom = blocks - 1
    found = t_quantile(alpha / (2 * cells), freedom) + t_quantile(1 - POWER, freedom)
    bounded = np.where(np.isfinite(half_width), half_width, np.nan)
    return np.expm1(_MDE_ALLOWANCE * found * bounded / t_quantile(alpha / 2, freedom))


def expected_mde(*, blocks: int, cells: int, session_sd: float, alpha: float = 0.05) -> float:
    """Return the effect a plan will be able to find with 80 % power, before anything is run.

    Args:
        blocks: how many are planned.
        cells: in the matrix.
        session_sd: session-to-session standard deviation of a cell (0.01 is 1 %), from an A/A run or a guess.
        alpha: the chance of a false alarm.

    Returns:
        A fraction; NaN below two blocks, infinite where nothing can be called.
    """
    if blocks <= 1:
        return math.nan
    if blocks < blocks_needed(cells, alpha):
        return math.inf
    half = expected_half_width(blocks=blocks, session_sd=session_sd, alpha=alpha)
    return float(minimum_detectable_effect(np.array(half), blocks=blocks, cells=cells, alpha=alpha))


def expected_half_width(*, blocks: int, session_sd: float, alpha: float = 0.05) -> float:
    """Return the half-width (log units) to expect: a t interval's, a little wider for the signed rank."""
    spread = math.sqrt(2) * session_sd / math.sqrt(blocks * _SIGNED_RANK_EFFICIENCY)
    return t_quantile(alpha / 2, blocks - 1) * spread


def stray(values: FloatArray, center: FloatArray) -> BoolArray:
    """Return which values lie far from the others: beyond 4 robust standard deviations.

    Args:
        values: shape (..., n).
        center: what they are far from, shape (...).
    """
    distance = np.abs(values - center[..., np.newaxis])
    spread = np.median(np.abs(values - np.median(values, axis=-1, keepdims=True)), axis=-1, keepdims=True)
    limit: FloatArray = np.maximum(STRAY_SCALE * spread, ROUNDING)
    return distance > limit


def pooled_differences(differences: FloatArray) -> FloatArray:
    """Return one difference a block for all cells together.

    The cells' own effects are taken off first (their medians), so that a block in which some cells failed
    is not pulled towards the others; a trimmed mean keeps a burst in a few cells out; what all cells have
    in common, the mean of their medians, is put back.

    Args:
        differences: shape (..., C, n); NaN where a cell has no difference in a block. Every cell has at
            least one.

    Returns:
        Shape (..., n); NaN for blocks without any.
    """
    medians = np.nanmedian(differences, axis=-1, keepdims=True)
    centred = differences - medians
    common: FloatArray = medians.mean(axis=-2)
    return _trimmed_mean(centred) + common


def _trimmed_mean(values: FloatArray) -> FloatArray:
    """Return the mean over axis -2 without the top and bottom 20 % of what is not NaN."""
    ordered = np.sort(values, axis=-2)  # NaN last
    present = np.count_nonzero(~np.isnan(values), axis=-2, keepdims=True)
    cut = np.floor(TRIM * present + ROUNDING)
    position = np.arange(values.shape[-2])[:, np.newaxis]
    kept = (position >= cut) & (position < present - cut)
    count = kept.sum(axis=-2)
    total = np.where(kept, ordered, 0.0).sum(axis=-2)
    mean: FloatArray = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean
