"""The noise model of docs/statistics.md: what a benchmark host does to a number.

Boot-to-boot sd 1 % (half of the variance shared by all cells of a boot), sample-to-sample sd 0.6 % at 10 s
(half of the variance autocorrelated, so that measuring longer does not average it out), slow drift of 1 %
with a time constant of 25 min, and 2 % of samples hit by a burst that takes 5 to 30 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from harness.analysis.statistics import FloatArray, IntArray

BOOT_S = 15.0
CALL_S = 1.5  # a fio call beside its runtime (ramp among it)


@dataclass(frozen=True)
class Noise:
    """A host's noise; standard deviations as fractions."""

    boot_sd: float = 0.01
    sample_sd: float = 0.006
    drift_sd: float = 0.01
    drift_tau_s: float = 25 * 60.0
    burst_share: float = 0.02
    burst: tuple[float, float] = (0.05, 0.30)
    bad_boot_share: float = 0.0
    bad_boot_loss: float = 0.10


@dataclass(frozen=True)
class Protocol:
    """How the sessions are run."""

    blocks: int = 30
    cells: int = 10
    runtime_s: float = 5.0
    samples: int = 1  # of a cell in a session
    interleaved: bool = True


def experiments(
    count: int,
    effects: FloatArray | float = 0.0,
    *,
    seed: int,
    noise: Noise | None = None,
    protocol: Protocol | None = None,
) -> FloatArray:
    """Simulate experiments.

    Args:
        count: E, how many.
        effects: log effect of the contender on each cell, shape (C,) or one for all.
        seed: of the random numbers.
        noise: the host's.
        protocol: the run's.

    Returns:
        log(IOPS), shape (E, 2, C, n, m): baseline and contender, cells, blocks, samples of a session.
    """
    noise, protocol = noise or Noise(), protocol or Protocol()
    rng = np.random.default_rng(seed)
    cells, blocks, samples = protocol.cells, protocol.blocks, protocol.samples
    shape = (count, 2, cells, blocks, samples)
    half = np.sqrt(0.5)
    log = noise.boot_sd * half * rng.standard_normal((count, 2, 1, blocks, 1))
    log = log + noise.boot_sd * half * rng.standard_normal((count, 2, cells, blocks, 1))
    log = log + noise.sample_sd * half * np.sqrt(10 / protocol.runtime_s) * rng.standard_normal(shape)
    log = log + noise.sample_sd * half * rng.standard_normal((count, 2, cells, blocks, 1))
    log = log + _drift(rng, count, noise, protocol)
    hit = rng.random(shape) < noise.burst_share
    log = log + np.where(hit, np.log1p(-rng.uniform(*noise.burst, shape)), 0.0)
    bad = rng.random((count, 2, 1, blocks, 1)) < noise.bad_boot_share
    log = log + np.where(bad, np.log1p(-noise.bad_boot_loss), 0.0)
    log[:, 1] += np.broadcast_to(np.asarray(effects, dtype=float), (cells,))[:, np.newaxis, np.newaxis]
    result: FloatArray = log
    return result


def _drift(rng: np.random.Generator, count: int, noise: Noise, protocol: Protocol) -> FloatArray:
    """Return an Ornstein-Uhlenbeck drift at the time of every sample, shape (E, 2, C, n, m)."""
    cells, blocks, samples = protocol.cells, protocol.blocks, protocol.samples
    each = cells * samples
    gap = np.tile(
        np.r_[BOOT_S + protocol.runtime_s + CALL_S, np.full(each - 1, protocol.runtime_s + CALL_S)],
        2 * blocks,
    )
    keep = np.exp(-gap / noise.drift_tau_s)
    kick = noise.drift_sd * np.sqrt(1 - keep**2)
    walk = np.empty((count, gap.size))
    level = noise.drift_sd * rng.standard_normal(count)
    for step in range(gap.size):
        level = keep[step] * level + kick[step] * rng.standard_normal(count)
        walk[:, step] = level
    passes = walk.reshape(count, 2 * blocks, samples, cells).transpose(0, 3, 1, 2)  # (E, C, sessions, m)
    first = _first(rng, count, protocol)
    # session number of (variant, block), shape (E, 2, n)
    number = np.stack([first, _second(first, protocol)], axis=1)
    index = np.arange(count)[:, np.newaxis, np.newaxis]
    drift: FloatArray = passes[index, :, number].transpose(0, 1, 3, 2, 4)
    return drift  # (E, 2, n, C, m) -> (E, 2, C, n, m)


def _first(rng: np.random.Generator, count: int, protocol: Protocol) -> IntArray:
    """Return the session number of the baseline in each block, shape (E, n)."""
    blocks = protocol.blocks
    if not protocol.interleaved:
        return np.broadcast_to(np.arange(blocks), (count, blocks))
    coin = rng.integers(0, 2, (count, (blocks + 1) // 2))
    mirrored = np.stack([coin, 1 - coin], axis=-1).reshape(count, -1)[:, :blocks]
    return 2 * np.arange(blocks) + mirrored


def _second(first: IntArray, protocol: Protocol) -> IntArray:
    if not protocol.interleaved:
        return first + protocol.blocks
    return first + 1 - 2 * (first % 2)


def frame(experiment: FloatArray, *, level: float = 100_000.0) -> pd.DataFrame:
    """Return one simulated experiment as the tidy frame of samples.

    Args:
        experiment: shape (2, C, n, m), as `experiments` gives.
        level: IOPS of an undisturbed cell.
    """
    variant, cell, block, sample = (axis.ravel() for axis in np.indices(experiment.shape))
    depths, sizes = np.array([1, 8, 16, 32, 64]), np.array(["4k", "128k"])
    plain = experiment.shape[1] <= depths.size * sizes.size
    return pd.DataFrame(
        {
            "variant": np.where(variant == 0, "OLD", "NEW"),
            "block": block,
            "session": 2 * block + variant,
            "rw": "randread",
            "bs": sizes[(cell // depths.size) % sizes.size] if plain else "4k",
            "iodepth": depths[cell % depths.size] if plain else cell + 1,
            "iteration": sample,
            "iops": level * np.exp(experiment.ravel()),
        }
    )
