"""Several hosts, one answer: the arithmetic.

The host is a block level above the block: each host's change is estimated from its own blocks, and the pooled
change is the plain mean of the hosts' (in log units: the geometric mean). Every host counts the same, however
noisy, so that what is estimated does not depend on the noise. docs/fleet.md says why, and what was simulated.

All arrays have the hosts on axis 0, and cells behind.

Sources:
    B. L. Welch, On the comparison of several mean values, Biometrika 38 (1951): the test whether hosts agree.
    F. E. Satterthwaite, An approximate distribution of estimates of variance components, Biometrics 2 (1946).
    J. Hartung and G. Knapp, Statistics in Medicine 20 (2001): the mean over hosts as a sample; with equal
        weights it is Student's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.statistics import POWER, ROUNDING, SignedRank, holm

if TYPE_CHECKING:
    from harness.analysis.statistics import BoolArray, FloatArray, IntArray

FEWEST_HOSTS = 2
FEWEST_BLOCKS = 6
"""Of a host: below, its own interval has no bounds, and its noise is a guess."""
_KNOWN_FREEDOM = 0.6
"""Share of a standard error's degrees of freedom that one from ranks has, as simulated."""


@dataclass(frozen=True, slots=True)
class HostEstimates:
    """What each host says; arrays of shape (H, ...).

    Attributes:
        estimate: the change, log units.
        standard_error: of it.
        blocks: how many stand behind it.
    """

    estimate: FloatArray
    standard_error: FloatArray
    blocks: IntArray

    def only(self, hosts: BoolArray) -> HostEstimates:
        """Return some of the hosts."""
        return HostEstimates(self.estimate[hosts], self.standard_error[hosts], self.blocks[hosts])


@dataclass(frozen=True, slots=True)
class Pooled:
    """What the hosts say together; arrays of shape (...), log units.

    Attributes:
        estimates: the mean over these hosts, with its interval and p value.
        across_low, across_high: the interval of the mean over all hosts such as these: a few hosts tell
            little of it, whatever the number of blocks.
        p_agree: of the hypothesis that the change is the same on all hosts (Welch 1951).
        freedom: degrees of freedom of the standard error.
    """

    estimates: SignedRank
    across_low: FloatArray
    across_high: FloatArray
    p_agree: FloatArray
    freedom: FloatArray


def pool_hosts(hosts: HostEstimates, *, alpha: float) -> Pooled:
    """Put hosts together.

    Args:
        hosts: at least two, each with `FEWEST_BLOCKS` or more; no NaN.
        alpha: 1 - the level of the intervals.
    """
    count = len(hosts.estimate)
    squares = np.maximum(hosts.standard_error, ROUNDING) ** 2
    mean = hosts.estimate.mean(axis=0)
    error = np.sqrt(squares.sum(axis=0)) / count
    freedom = squares.sum(axis=0) ** 2 / (squares**2 / (hosts.blocks - 1)).sum(axis=0)
    across = hosts.estimate.std(axis=0, ddof=1) / np.sqrt(count) * _t(alpha / 2, np.array(count - 1.0))
    half, inner = error * _t(alpha / 2, freedom), error * _t(alpha, freedom)
    return Pooled(
        SignedRank(
            estimate=mean,
            low=mean - half,
            high=mean + half,
            inner_low=mean - inner,
            inner_high=mean + inner,
            p_value=_two_sided(mean / error, freedom),
            standard_error=error,
        ),
        across_low=mean - across,
        across_high=mean + across,
        p_agree=agreement_p(hosts),
        freedom=freedom,
    )


def agreement_p(hosts: HostEstimates) -> FloatArray:
    """Return p of the hypothesis that all hosts have the same change, however noisy each is (Welch 1951)."""
    from scipy.special import fdtrc

    count = len(hosts.estimate)
    weights = 1 / np.maximum(hosts.standard_error, ROUNDING) ** 2
    share = weights / weights.sum(axis=0)
    centre = (share * hosts.estimate).sum(axis=0)
    between = (weights * (hosts.estimate - centre) ** 2).sum(axis=0) / (count - 1)
    freedom = _KNOWN_FREEDOM * (hosts.blocks - 1)
    unsure = ((1 - share) ** 2 / freedom).sum(axis=0)
    ratio = between / (1 + 2 * (count - 2) / (count**2 - 1) * unsure)
    return np.asarray(fdtrc(count - 1, (count**2 - 1) / (3 * unsure), ratio), dtype=np.float64)


def odd_hosts(hosts: HostEstimates, *, alpha: float) -> BoolArray:
    """Return which hosts must be left out for the others to agree, shape (H,); of one cell, shape (H,) each.

    One after the other, the one that lies furthest from the mean of the others in units of its own noise.
    Where no two agree, all are odd.
    """
    kept = np.ones(len(hosts.estimate), dtype=bool)
    while kept.sum() >= FEWEST_HOSTS and float(agreement_p(hosts.only(kept))) < alpha:
        if kept.sum() == FEWEST_HOSTS:
            kept[:] = False
            break
        places = np.flatnonzero(kept)
        kept[places[int(np.argmax(_distance(hosts.only(kept))))]] = False
    return ~kept


def _distance(hosts: HostEstimates) -> FloatArray:
    """Return how far each host lies from the mean of the others, in standard errors of that difference."""
    others = len(hosts.estimate) - 1
    squares = hosts.standard_error**2
    rest = (hosts.estimate.sum(axis=0) - hosts.estimate) / others
    error = np.sqrt(squares + (squares.sum(axis=0) - squares) / others**2)
    distance: FloatArray = np.abs(hosts.estimate - rest) / np.maximum(error, ROUNDING)
    return distance


def disagree(p_agree: FloatArray, *, alpha: float) -> BoolArray:
    """Return in which cells the hosts disagree, adjusted for the number of cells; shape (..., C)."""
    return holm(p_agree) < alpha


def detectable(pooled: Pooled, *, cells: int, alpha: float) -> FloatArray:
    """Return the change that these hosts together find with 80 % power, a fraction."""
    found = _t(alpha / (2 * cells), pooled.freedom) + _t(1 - POWER, pooled.freedom)
    return np.expm1(found * pooled.estimates.standard_error)


def _t(exceeded: float, freedom: FloatArray) -> FloatArray:
    """Return what Student's t exceeds with a given probability."""
    from scipy.special import stdtrit

    return -np.asarray(stdtrit(freedom, exceeded), dtype=np.float64)


def _two_sided(ratio: FloatArray, freedom: FloatArray) -> FloatArray:
    from scipy.special import stdtr

    p_value: FloatArray = 2 * stdtr(freedom, -np.abs(ratio))
    return p_value
