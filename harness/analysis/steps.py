"""Where a series of nights changes its level, and where it only seems to.

Candidates are the best segmentation of the series' normal scores (ruptures: exact, PELT); each is then tested
by itself and dropped unless noise makes such a step seldom enough. See docs/history.md for how that was
calibrated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.special
import scipy.stats

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray: TypeAlias = npt.NDArray[np.float64]

FEWEST_NIGHTS = 3
"""Nights that make a level: one or two bad ones are no step."""

_NIGHTS_A_YEAR = 365
_STRICTNESS = 0.1
"""How much rarer than once a year a step must be by its own p, for the best of many places was chosen, every
night anew. Found by simulation (tests/unit/history_bars.py)."""

_GENEROSITY = 0.4
"""What a candidate has to explain, as a share of what a step of that risk does: the test decides."""

_MOST_ALIKE = 0.8
"""Neighbouring nights are taken to be no more alike than this: else no step could be told from drift."""

_CAUTION = 2.0
"""Standard errors by which nights are taken to be more alike than estimated: few nights tell little."""

_SIDES = 2


@dataclass(frozen=True, slots=True)
class Step:
    """A change of level.

    Attributes:
        first: the place of the first value at the new level.
        change: the new level against the one before as a fraction, 0.033 is +3.3 %.
        p_value: how often noise alone makes two such neighbouring levels.
    """

    first: int
    change: float
    p_value: float


def risk_a_look(series: int) -> float:
    """Return the accepted p of one step when so many series are looked at, each every night of a year.

    So small that a year without any step raises at most one false alarm over all of them.
    """
    return _STRICTNESS / (_NIGHTS_A_YEAR * max(series, 1))


def find_steps(values: Sequence[float] | FloatArray, *, risk: float, least: float) -> list[Step]:
    """Return the steps of a series in time order.

    Args:
        values: above zero, a value a night, the oldest first.
        risk: the accepted p of one step, from `risk_a_look`.
        least: a smaller change does not matter, a fraction.
    """
    log = np.log(np.asarray(values, dtype=np.float64))
    if len(log) < _SIDES * FEWEST_NIGHTS or not np.ptp(log) > 0:
        return []
    candidates = _candidates(log, risk)
    if not candidates:
        return []
    bounds = [0, *candidates, len(log)]
    rho = _autocorrelation(log, bounds)
    smallest = math.log1p(least)
    tested = [_test(log, bounds[k - 1 : k + 2], rho) for k in range(1, len(bounds) - 1)]
    while tested:
        worst = max(range(len(tested)), key=lambda k: (abs(tested[k][0]) < smallest, tested[k][1]))
        shift, p_value = tested[worst]
        if abs(shift) >= smallest and p_value <= risk:
            break
        del bounds[worst + 1], tested[worst]
        # Its neighbours have other levels beside them now.
        for k in {worst - 1, worst} & set(range(len(tested))):
            tested[k] = _test(log, bounds[k : k + 3], rho)
    for k in range(1, len(bounds) - 1):
        bounds[k] = _settled(log, bounds[k - 1 : k + 2])
    return [Step(bound, math.expm1(shift), p) for bound, (shift, p) in zip(bounds[1:-1], tested, strict=True)]


def exact_steps(values: Sequence[float], *, least: float) -> list[Step]:
    """Return the steps of a series without noise, such as counts of instructions: every change is real.

    Args:
        values: above zero, the oldest first.
        least: a smaller change from the level so far does not matter, a fraction.
    """
    steps: list[Step] = []
    start = 0
    for place in range(1, len(values)):
        level = median(values[start:place])
        change = values[place] / level - 1
        if abs(change) > least:
            steps.append(Step(place, change, 0.0))
            start = place
    return steps


def _candidates(log: FloatArray, risk: float) -> list[int]:
    """Return the places of the best segmentation in which each further step has to explain enough."""
    import ruptures

    scores = scipy.special.ndtri((_ranks(log) - 0.5) / len(log))
    penalty = _GENEROSITY * scipy.special.ndtri(risk / 2) ** 2
    found = ruptures.KernelCPD(kernel="linear", min_size=FEWEST_NIGHTS).fit(scores[:, None])
    return [int(place) for place in found.predict(pen=penalty)[:-1]]


def _ranks(values: FloatArray) -> FloatArray:
    """Return ranks from 1; equal values share the middle of theirs."""
    _values, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _test(log: FloatArray, bounds: Sequence[int], rho: float) -> tuple[float, float]:
    """Return the shift between two neighbouring levels (Hodges and Lehmann), and its p."""
    start, middle, end = bounds
    before, after = log[start:middle], log[middle:end]
    shift = float(np.median(after[:, None] - before[None, :]))
    p_value = float(scipy.stats.mannwhitneyu(after, before).pvalue)
    z = scipy.special.ndtri(p_value / 2) / math.sqrt(_inflation(len(before), len(after), rho))
    return shift, float(2 * scipy.special.ndtr(z))


def _settled(log: FloatArray, bounds: Sequence[int]) -> int:
    """Return where the second level really begins: the place from which the values lie closer to it.

    Ranks over the whole series, which the candidates are chosen by, hardly tell apart what lies at its ends.
    """
    start, middle, end = bounds
    closer = np.abs(log[start:end] - np.median(log[start:middle]))
    closer -= np.abs(log[start:end] - np.median(log[middle:end]))
    # The cost of leaving the first so many values at the first level.
    costs = np.concatenate([[0.0], np.cumsum(closer)])
    allowed = slice(FEWEST_NIGHTS, end - start - FEWEST_NIGHTS + 1)
    return start + FEWEST_NIGHTS + int(np.argmin(costs[allowed]))


def _inflation(before: int, after: int, rho: float) -> float:
    """Return how much more two means differ by chance if neighbouring nights are alike."""

    def of_mean(n: int) -> float:
        lags = np.arange(1, n)
        return float(1 + 2 * ((1 - lags / n) * rho**lags).sum())

    return (of_mean(before) / before + of_mean(after) / after) / (1 / before + 1 / after)


def _autocorrelation(log: FloatArray, bounds: Sequence[int]) -> float:
    """Return how alike neighbouring nights are beside the steps, cautiously."""
    levels = np.repeat([np.median(log[a:b]) for a, b in pairwise(bounds)], np.diff(bounds))
    ranks = _ranks(log - levels)
    ranks -= ranks.mean()
    spread = ranks @ ranks
    # Without any noise beside the steps, as of metrics that are whole numbers, nothing is alike either.
    found = (ranks[1:] @ ranks[:-1]) / spread if spread > 0 else 0.0
    n = len(log)
    return float(np.clip(found + 1 / n + _CAUTION / math.sqrt(n), 0, _MOST_ALIKE))
