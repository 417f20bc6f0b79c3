"""What an analysis must show on simulated experiments (docs/statistics.md), and which bars one misses.

``python tests/unit/bars.py 2000`` prints the figures that docs/statistics.md quotes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.stats
from simulation import Noise, Protocol, experiments

from harness.analysis.statistics import (
    BoolArray,
    FloatArray,
    minimum_detectable_effect,
    pooled_differences,
    signed_rank,
)
from harness.analysis.verdicts import judge
from harness.core.model import FIRST_LOOK

ALPHA = 0.05
CHANGE = 0.02
CHANGED = 3  # of the ten cells

OTHER_NOISE = {
    "heavier bursts": Noise(burst_share=0.08, burst=(0.10, 0.50)),
    "bad boots": Noise(bad_boot_share=0.05, bad_boot_loss=0.15),
    "more drift": Noise(drift_sd=0.03),
    "quiet": Noise(boot_sd=0.002, sample_sd=0.001, drift_sd=0.001, burst_share=0.0),
}


@dataclass(frozen=True)
class Outcome:
    """What an analysis says of experiments; all of shape (E, C)."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    raw_changed: BoolArray  # before correcting for the number of cells
    changed: BoolArray
    same: BoolArray
    mde: FloatArray


Analysis: TypeAlias = Callable[[FloatArray], Outcome]
"""From log(IOPS) of shape (E, 2, C, n, m)."""


def differences(log: FloatArray) -> FloatArray:
    """Return contender minus baseline of the sessions' medians, shape (E, C, n)."""
    sessions: FloatArray = np.median(log, axis=-1)
    difference: FloatArray = sessions[:, 1] - sessions[:, 0]
    return difference


def ours(log: FloatArray) -> Outcome:
    """Analyse as the harness does."""
    return of_differences(differences(log))


def of_differences(difference: FloatArray) -> Outcome:
    """Analyse paired differences, shape (E, C, n), as the harness does."""
    judged = judge(difference, margin=0.02, alpha=ALPHA)
    found = judged.estimates
    cells, blocks = difference.shape[-2:]
    return Outcome(
        found.estimate,
        found.low,
        found.high,
        found.p_value < ALPHA,
        np.isin(judged.verdict, ["faster", "slower"]),
        judged.verdict == "same",
        minimum_detectable_effect(found.half_width, blocks=blocks, cells=cells, alpha=ALPHA),
    )


def figures(
    analysis: Analysis,
    count: int,
    *,
    seed: int,
    noise: Noise | None = None,
    protocol: Protocol | None = None,
) -> dict[str, float]:
    """Measure an analysis on experiments without a change, and on others with 2 % in 3 of 10 cells."""
    protocol = protocol or Protocol()
    level = analysis(experiments(count, seed=seed, noise=noise, protocol=protocol))
    found = {
        "FP": float(level.raw_changed.mean()),
        "FWER": float(level.changed.any(axis=1).mean()),
        "half-width": float(np.median((level.high - level.low) / 2)),
        "same": float(level.same.mean()),
        "MDE": float(np.median(level.mde)),
    }
    for name, size in (("", np.log1p(CHANGE)), (" at MDE", np.log1p(found["MDE"]))):
        effects = np.zeros(protocol.cells)
        effects[:CHANGED] = size
        log = experiments(count, effects, seed=seed + 1, noise=noise, protocol=protocol)
        changed = analysis(log)
        right = changed.changed & (np.sign(changed.estimate) == np.sign(effects))
        found["power" + name] = float(right[:, :CHANGED].mean())
        if not name:
            wrong = changed.changed & (np.sign(changed.estimate) == -np.sign(effects)) & (effects != 0)
            found["wrong sign"] = float(wrong[:, :CHANGED].mean())
            found["coverage"] = float(((changed.low <= effects) & (effects <= changed.high)).mean())
    return found


# name -> (lowest, highest) that statistics.md allows
VALIDITY = {"FP": (0.0, 0.055), "FWER": (0.0, 0.06), "coverage": (0.935, 0.965), "wrong sign": (0.0, 0.001)}
ALL = VALIDITY | {
    "power": (0.90, 1.0),
    "half-width": (0.0, 0.0085),
    "same": (0.95, 1.0),
    "power at MDE": (0.70, 0.90),
}


def missed(found: dict[str, float], bars: dict[str, tuple[float, float]], *, count: int) -> list[str]:
    """Return the bars that figures miss.

    Args:
        found: from `figures`.
        bars: what is allowed.
        count: experiments behind the figures. Below 2,000, two standard errors of a share of that many
            independent experiments are allowed beyond the bar: otherwise luck would decide.
    """
    lines = []
    for name, (low, high) in bars.items():
        slack = 0.0
        if count < 2000 and name != "half-width":
            slack = 2 * float(np.sqrt(max(low * (1 - low), high * (1 - high)) / count))
        if not low - slack <= found[name] <= high + slack:
            lines.append(f"{name} is {found[name]:.4f}, not in [{low:g}, {high:g}] +- {slack:.4f}")
    return lines


def stopped(log: FloatArray, *, target: float, most: int) -> list[Outcome]:
    """Analyse experiments of shape (E, 2, C, most, m), each stopped by the width of its intervals alone."""
    difference = differences(log)
    running = np.arange(len(difference))
    outcomes = []
    for blocks in range(FIRST_LOOK, most + 1, 2):
        half = signed_rank(difference[running, :, :blocks], alpha=ALPHA).half_width
        stop = np.expm1(half).max(axis=1) <= target
        if blocks == most:
            stop[:] = True
        if stop.any():
            outcomes.append(of_differences(difference[running[stop], :, :blocks]))
        running = running[~stop]
        if not running.size:
            break
    return outcomes


def stopping_figures(count: int, *, seed: int, target: float = 0.009) -> dict[str, float]:
    """Measure the stopping rule on experiments without a change."""
    outcomes = stopped(experiments(count, seed=seed, protocol=Protocol(blocks=60)), target=target, most=60)
    low, high, raw, changed = (
        np.concatenate([getattr(outcome, name) for outcome in outcomes])
        for name in ("low", "high", "raw_changed", "changed")
    )
    return {
        "FP": float(raw.mean()),
        "FWER": float(changed.any(axis=1).mean()),
        "coverage": float(((low <= 0) & (high >= 0)).mean()),
        "wrong sign": 0.0,
    }


def pooled_power(count: int, *, seed: int, change: float = 0.01) -> tuple[float, float]:
    """Return how often +1 % everywhere is found by the pooled row, and by a single cell after Holm."""
    difference = differences(experiments(count, float(np.log1p(change)), seed=seed))
    together = signed_rank(pooled_differences(difference), alpha=ALPHA).p_value < ALPHA
    alone = of_differences(difference).changed
    return float(together.mean()), float(alone.mean())


def naive_false_alarms(count: int, *, seed: int) -> dict[str, float]:
    """Return how often common practice calls a cell changed that is not."""
    single = differences(experiments(count, seed=seed, protocol=Protocol(blocks=1, runtime_s=60)))
    boot = experiments(count, seed=seed, protocol=Protocol(blocks=1, runtime_s=30, samples=5))[:, :, :, 0]
    in_one_boot = scipy.stats.mannwhitneyu(boot[:, 0], boot[:, 1], axis=-1, method="exact").pvalue
    difference = differences(experiments(count, seed=seed))
    peeked = np.zeros(difference.shape[:2], dtype=bool)
    for blocks in range(2, difference.shape[-1] + 1):
        peeked |= np.asarray(scipy.stats.ttest_1samp(difference[..., :blocks], 0, axis=-1).pvalue) < ALPHA
    return {
        "one run each, beyond 2 %": float((np.abs(np.expm1(single)) > CHANGE).mean()),
        "5 runs in one boot, Mann-Whitney": float((np.asarray(in_one_boot) < ALPHA).mean()),
        "peeking at p after every block": float(peeked.mean()),
    }


def main(count: int) -> None:
    """Print the figures of docs/statistics.md."""
    rows = {"the model": figures(ours, count, seed=100)}
    rows |= {name: figures(ours, count, seed=200, noise=noise) for name, noise in OTHER_NOISE.items()}
    for name, found in rows.items():
        sys.stdout.write(f"{name}: " + ", ".join(f"{key} {value:.2%}" for key, value in found.items()) + "\n")
    stopping = stopping_figures(count, seed=300)
    sys.stdout.write("stopping: " + ", ".join(f"{key} {value:.2%}" for key, value in stopping.items()) + "\n")
    together, alone = pooled_power(count, seed=400)
    naive = naive_false_alarms(count, seed=500)
    sys.stdout.write("FP of: " + ", ".join(f"{key} {value:.0%}" for key, value in naive.items()) + "\n")
    sys.stdout.write(f"+1 % everywhere: pooled row {together:.1%}, a single cell {alone:.1%}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
