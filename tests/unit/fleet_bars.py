"""What the pooled answer of a fleet must show on simulated hosts (docs/fleet.md).

``python tests/unit/fleet_bars.py 2000`` prints the figures that docs/fleet.md quotes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
from bars import ALPHA, OTHER_NOISE, differences
from simulation import Noise, Protocol, experiments

from harness.analysis.fleet_statistics import HostEstimates, disagree, pool_hosts
from harness.analysis.statistics import holm, signed_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.statistics import FloatArray

CELLS = 10
ONE_NOISE = (Noise(),)
UNEQUAL = (Noise(), OTHER_NOISE["quiet"], OTHER_NOISE["bad boots"])
"""Hosts that are not equally noisy, in turn."""

VALIDITY = {
    "FP": (0.0, 0.055),
    "FWER": (0.0, 0.06),
    "coverage": (0.935, 1.0),
    "disagreement FWER": (0.0, 0.06),
    "across coverage": (0.93, 1.0),
}


def simulated(
    count: int,
    *,
    hosts: int,
    blocks: int,
    seed: int,
    noises: Sequence[Noise] = ONE_NOISE,
    effects: FloatArray | None = None,
) -> HostEstimates:
    """Return what simulated hosts say, arrays of shape (H, E, C).

    Args:
        count: E, experiments.
        hosts: H.
        blocks: of each host.
        seed: of the random numbers.
        noises: of the hosts, in turn.
        effects: log effect on each host, shape (H, E) or (H, 1); none when None.
    """
    each = []
    for host in range(hosts):
        log = experiments(
            count,
            seed=1000 * seed + host,
            noise=noises[host % len(noises)],
            protocol=Protocol(blocks=blocks, cells=CELLS),
        )
        shift = 0.0 if effects is None else effects[host][:, np.newaxis, np.newaxis]
        each.append(signed_rank(differences(log) + shift, alpha=ALPHA))
    estimate = np.array([one.estimate for one in each])
    return HostEstimates(
        estimate, np.array([one.standard_error for one in each]), np.full(estimate.shape, blocks)
    )


def fleet_figures(
    count: int,
    *,
    hosts: int,
    blocks: int,
    seed: int,
    noises: Sequence[Noise] = ONE_NOISE,
    spread: float = 0.0,
) -> dict[str, float]:
    """Measure the pooled answer on fleets whose hosts' true changes are spread about none, or not at all.

    Args:
        count: experiments.
        hosts: in a fleet.
        blocks: of each host.
        seed: of the random numbers.
        noises: of the hosts, in turn.
        spread: standard deviation of the hosts' true changes, log units.
    """
    true = np.random.default_rng(seed).normal(0.0, 1.0, (hosts, count)) * spread
    found = simulated(count, hosts=hosts, blocks=blocks, seed=seed, noises=noises, effects=true)
    pooled = pool_hosts(found, alpha=ALPHA)
    mean = true.mean(axis=0)[:, np.newaxis]
    estimates = pooled.estimates
    return {
        "FP": float((estimates.p_value < ALPHA).mean()),
        "FWER": float((holm(estimates.p_value) < ALPHA).any(axis=1).mean()),
        "coverage": float(((estimates.low <= mean) & (mean <= estimates.high)).mean()),
        "half-width": float(np.median(estimates.half_width)),
        "disagreement FWER": float(disagree(pooled.p_agree, alpha=ALPHA).any(axis=1).mean()),
        "across coverage": float(((pooled.across_low <= 0) & (pooled.across_high >= 0)).mean()),
        "across half-width": float(np.median(pooled.across_high - pooled.across_low) / 2),
    }


def main(count: int) -> None:
    """Print the figures of docs/fleet.md."""
    rows = [
        (f"{hosts} hosts, {blocks} blocks", fleet_figures(count, hosts=hosts, blocks=blocks, seed=1))
        for hosts in (2, 3, 5, 10)
        for blocks in (8, 30)
    ]
    for hosts, blocks in ((3, 8), (3, 30), (10, 8), (10, 30)):
        name = f"unequal noise, {hosts} hosts, {blocks} blocks"
        rows.append((name, fleet_figures(count, hosts=hosts, blocks=blocks, seed=2, noises=UNEQUAL)))
    for hosts in (3, 10):
        name = f"hosts differ by 2 %, {hosts} hosts, 30 blocks"
        rows.append((name, fleet_figures(count, hosts=hosts, blocks=30, seed=3, spread=0.02)))
    for name, found in rows:
        sys.stdout.write(f"{name}: " + ", ".join(f"{key} {value:.2%}" for key, value in found.items()) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
