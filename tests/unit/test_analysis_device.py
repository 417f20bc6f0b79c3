"""Cells in which the device is the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from simulation import Noise, Protocol, experiments, frame

from harness.analysis import compare, device_bound
from harness.analysis.samples import by_session

if TYPE_CHECKING:
    import pandas as pd

DEPTHS = (1, 8, 16, 32, 64)


def measured(small: list[float], large: list[float], *, noise: Noise | None = None) -> pd.DataFrame:
    """Return samples of 4k and 128k cells around given IOPS."""
    samples = frame(experiments(1, seed=1, noise=noise or Noise(), protocol=Protocol())[0], level=1.0)
    levels = dict(
        zip([("4k", d) for d in DEPTHS] + [("128k", d) for d in DEPTHS], small + large, strict=True)
    )
    scale = [levels[key] for key in zip(samples["bs"], samples["iodepth"], strict=True)]
    return samples.assign(iops=samples["iops"] * scale)


def marked(samples: pd.DataFrame) -> set[tuple[str, int]]:
    table = compare(samples, baseline="OLD", contender="NEW")
    chosen = table[table["device_bound"]]
    return set(zip(chosen["bs"], chosen["iodepth"], strict=True))


GROWING = [113725.0, 192968, 207138, 212399, 218319]


def test_the_seeds_128k_rows_and_none_of_its_4k_rows() -> None:
    samples = measured(GROWING, [17587.0, 17614, 17608, 17552, 17484])
    assert marked(samples) == {("128k", depth) for depth in DEPTHS}


def test_a_depth_below_the_ceiling_is_not_marked() -> None:
    samples = measured(GROWING, [9000.0, 17000, 17614, 17600, 17590])
    assert marked(samples) == {("128k", depth) for depth in (16, 32, 64)}


def test_a_busy_iothread_is_not_the_device() -> None:
    """Flat over depth, but as many requests at 128k as at 4k: what is scarce is QEMU's time."""
    assert marked(measured([60000.0] * 5, [59000.0] * 5)) == set()


def test_noise_marks_nothing() -> None:
    samples = measured(GROWING, [17587.0] * 5, noise=Noise(boot_sd=0.2))
    assert marked(samples) == set()


def test_one_block_size_tells_nothing() -> None:
    samples = measured([17600.0] * 5, [17600.0] * 5)
    assert marked(samples[samples["bs"] == "4k"]) == set()


def test_the_ceiling_measured_on_the_host() -> None:
    samples = measured(GROWING, [9000.0, 10000, 12000, 14000, 17614])
    sessions = by_session(samples, variants=["OLD", "NEW"], metric="iops")
    key = ("randread", "128k", 64)
    assert device_bound(sessions, {key: 17700.0}) == {key}
    assert device_bound(sessions, {key: 20000.0}) == frozenset()


def test_other_metrics_are_marked_by_their_iops() -> None:
    samples = measured(GROWING, [17600.0] * 5)
    samples["clat_p99_ns"] = np.exp(-np.log(samples["iops"])) * 1e9
    table = compare(samples, baseline="OLD", contender="NEW", metric="p99")
    assert table["device_bound"].sum() == 5
    blind = compare(samples.drop(columns="iops"), baseline="OLD", contender="NEW", metric="p99")
    assert not blind["device_bound"].any()
