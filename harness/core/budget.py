"""The protocol that gives the narrowest expected interval within a wall time.

The noise model is that of docs/statistics.md: sessions differ (boot to boot), samples within a session
differ less; half of the sampling noise averages out over time, half is autocorrelated and does not. So
short samples over many boots win, until a boot costs much more than the cells it carries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.planning import Costs

RUNTIMES = (1.0, 2.0, 5.0, 10.0)
REPEATS = (1, 3)
"""Passes over the cells of a session; never two: a median of two is a mean, and as easily led astray."""
MOST_BLOCKS = 1000
"""No plan has more, however long the budget: longer samples do as well from there on."""

_REFERENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Noise:
    """How much numbers differ, as standard deviations of log(metric).

    Attributes:
        session: between boots.
        sample: between samples of ``_REFERENCE_SECONDS`` within a boot.
    """

    session: float
    sample: float

    def of_session(self, *, runtime: float, repeats: int) -> float:
        """Return the standard deviation of a session's number."""
        white = self.sample**2 / 2 * _REFERENCE_SECONDS / runtime
        slow = self.sample**2 / 2
        return math.sqrt(self.session**2 + (white + slow) / repeats)


@dataclass(frozen=True, slots=True)
class Choice:
    """A protocol.

    Attributes:
        wall_seconds: what it takes.
        spread: what makes the interval wide: the session's noise over the root of the blocks.
    """

    blocks: int
    repeats: int
    runtime: float
    wall_seconds: float
    spread: float


def choose(
    *,
    budget: float,
    variants: int,
    guests: int,
    cells: int,
    ramp: float,
    costs: Costs,
    noise: Noise,
    min_blocks: int,
) -> Choice | None:
    """Return the best protocol within a wall time; None when not even the fewest blocks fit.

    Args:
        budget: seconds.
        variants: sessions of a block for one guest configuration.
        guests: guest configurations.
        cells: of all guest configurations together.
        ramp: seconds before measuring starts, kept as it is.
        costs: measured on this host, or a guess.
        noise: likewise.
        min_blocks: below which nothing can be called.
    """
    found: list[Choice] = []
    for runtime in RUNTIMES:
        for repeats in REPEATS:
            cell_seconds = variants * cells * repeats * (ramp + runtime + costs.iteration)
            block = variants * guests * costs.session + cell_seconds
            # Blocks mirror each other in pairs.
            blocks = min(int(budget // block) // 2 * 2, MOST_BLOCKS)
            if blocks >= min_blocks:
                spread = noise.of_session(runtime=runtime, repeats=repeats) / math.sqrt(blocks)
                found.append(Choice(blocks, repeats, runtime, blocks * block, spread))
    return min(found, key=lambda choice: (choice.spread, choice.wall_seconds), default=None)
