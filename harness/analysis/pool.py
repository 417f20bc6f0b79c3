"""Does a coroutine pool grow without bound? Rounds of pool-growth to a slope with an interval, and a word."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.statistics import t_quantile
from harness.core.mappings import Mappings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.statistics import FloatArray

FLAT = 0.01
"""Growth of less than this part of a burst's mappings a round is none: some other allocation."""

VMAS_OF_COROUTINE = 2
"""A coroutine's stack and its guard page."""

_FEWEST_POINTS = 3
_LEVEL = 0.95


class Growth(StrEnum):
    """Whether a pool grows from round to round."""

    BOUNDED = "bounded"
    UNBOUNDED = "unbounded"
    UNCLEAR = "unclear"


class Fate(StrEnum):
    """What became of QEMU."""

    SURVIVED = "survived"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class PoolSession:
    """One session of pool-growth.

    Attributes:
        rounds: the mappings after each round that was survived, from the first on.
        death: how QEMU died (``SIGABRT (...)``); None when it did not.
        message: QEMU's own last words.
        last_seen: the mappings last seen of a QEMU that died.
    """

    rounds: tuple[Mappings, ...]
    death: str | None = None
    message: str | None = None
    last_seen: Mappings | None = None


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth in mappings (VMAs) a round.

    Attributes:
        estimate: least squares; NaN with too few rounds.
        low: of the 95 % interval.
        high: of the same.
    """

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PoolVariant:
    """What the rounds say of one variant.

    Attributes:
        name: the variant's.
        rounds: the median over its sessions after each round that any of them survived.
        slope: of the VMAs.
        growth: what that means.
        fate: whether QEMU died in any session.
        round: the round it died in, the earliest; or the last one it survived. Counted from 1.
        sessions: what it rests on.
        limit: vm.max_map_count; None when it is unknown.
    """

    name: str
    rounds: tuple[Mappings, ...]
    slope: Slope
    growth: Growth
    fate: Fate
    round: int
    sessions: tuple[PoolSession, ...] = field(repr=False)
    limit: int | None

    @property
    def fatal(self) -> PoolSession | None:
        """The session in which QEMU died earliest; None when it survived."""
        dead = [session for session in self.sessions if session.death is not None]
        return min(dead, key=lambda session: len(session.rounds), default=None)

    @property
    def rounds_to_limit(self) -> float | None:
        """How many more rounds lead to the limit at this rate; None when it does not grow, or died."""
        if self.limit is None or self.growth is not Growth.UNBOUNDED or self.fate is Fate.ABORTED:
            return None
        return max(0.0, (self.limit - self.rounds[-1].vmas) / self.slope.estimate)


def judge_pool(
    name: str, sessions: Sequence[PoolSession], *, in_flight: int, limit: int | None
) -> PoolVariant:
    """Judge one variant.

    Args:
        name: the variant's.
        sessions: one or more, each with its rounds in order.
        in_flight: the most requests in flight at once: what any pool may need.
        limit: vm.max_map_count; None when it is unknown.
    """
    slope = growth_slope([[mappings.vmas for mappings in session.rounds] for session in sessions])
    dead = [session for session in sessions if session.death is not None]
    last = min(len(session.rounds) for session in dead) + 1 if dead else max(len(s.rounds) for s in sessions)
    return PoolVariant(
        name=name,
        rounds=_medians(sessions),
        slope=slope,
        growth=_word(slope, FLAT * VMAS_OF_COROUTINE * in_flight),
        fate=Fate.ABORTED if dead else Fate.SURVIVED,
        round=last,
        sessions=tuple(sessions),
        limit=limit,
    )


def growth_slope(sessions: Sequence[Sequence[float]]) -> Slope:
    """Return the growth a round, by least squares with a level of its own for each session.

    The first round fills an empty pool, in any QEMU: it is left out where three others remain. The interval
    is Student's, with N - S - 1 degrees of freedom for N points in S sessions (N. R. Draper, H. Smith,
    *Applied Regression Analysis*, chapter 1; for one session it is the textbook's interval of a slope).

    Args:
        sessions: values after each round; a session may have ended early.
    """
    parts = [_centred(values) for values in sessions]
    usable = [part for part in parts if part is not None]
    if not usable:
        return Slope(math.nan, -math.inf, math.inf)
    x = np.concatenate([part[0] for part in usable])
    y = np.concatenate([part[1] for part in usable])
    spread = float(x @ x)
    estimate = float(x @ y) / spread
    freedom = len(x) - len(usable) - 1
    error = math.sqrt(float(np.sum((y - estimate * x) ** 2)) / freedom / spread)
    half = t_quantile((1 - _LEVEL) / 2, freedom) * error
    return Slope(estimate, estimate - half, estimate + half)


def _centred(values: Sequence[float]) -> tuple[FloatArray, FloatArray] | None:
    """Return a session's rounds and values, each about its mean; None with too few of them."""
    first = 1 if len(values) > _FEWEST_POINTS else 0
    y = np.asarray(values[first:], dtype=float)
    if len(y) < _FEWEST_POINTS:
        return None
    x = np.arange(len(y), dtype=float)
    return x - x.mean(), y - y.mean()


def _word(slope: Slope, flat: float) -> Growth:
    if slope.low > flat:
        return Growth.UNBOUNDED
    return Growth.BOUNDED if slope.high < flat else Growth.UNCLEAR


def _medians(sessions: Sequence[PoolSession]) -> tuple[Mappings, ...]:
    by_round: dict[int, list[Mappings]] = defaultdict(list)
    for session in sessions:
        for number, mappings in enumerate(session.rounds):
            by_round[number].append(mappings)
    return tuple(
        Mappings(round(median(m.vmas for m in found)), round(median(m.coroutines for m in found)))
        for _number, found in sorted(by_round.items())
    )
