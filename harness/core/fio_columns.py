"""What `fio_checks` holds against a report, and its metrics, computed for thousands of plain ones at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.core.fio_document import LARGEST
from harness.core.fio_predicates import (
    Number,
    agrees,
    agrees_roughly,
    is_whole,
    lasted,
    lies_between,
    moved_blocks,
    stands_behind,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    BoolArray = npt.NDArray[np.bool_]

_KIB = 1024


class Values(NamedTuple):
    """What the checks and the metrics need of a report; each becomes a column."""

    iops: Number
    bw: Number
    bw_bytes: Number
    io_bytes: Number
    io_kbytes: Number
    runtime: Number
    total: Number
    job_runtime: Number
    usr: Number
    sys: Number
    slat_mean: Number
    clat_min: Number
    clat_max: Number
    clat_mean: Number
    clat_samples: Number
    lat_min: Number
    lat_max: Number
    lat_mean: Number
    lat_samples: Number
    smallest: Number
    largest: Number
    in_flight: Number
    jobs: Number
    asked_ms: Number
    no_eta: Number


def agree(v: Values) -> BoolArray:
    """Return which reports agree with themselves, as `fio_checks.check_entry` and `fio_result` would say."""
    unknown = np.isnan
    with np.errstate(all="ignore"):  # what that gives is refused anyway
        per_second = 1000 / v.runtime
        good = np.array((v.runtime > 0) & (v.total >= 1) & (v.iops > 0), dtype=bool)
        good &= agrees(v.iops, v.total * per_second, 0.0)
        good &= agrees(v.bw_bytes, v.bw * _KIB, _KIB) & agrees(v.io_kbytes * _KIB, v.io_bytes, _KIB)
        good &= agrees(v.bw_bytes, v.io_bytes * per_second, _KIB + per_second)
        good &= agrees_roughly(v.bw_bytes, v.io_bytes * per_second, 1.0)
        blocks = moved_blocks(v.io_bytes / v.total, v.smallest, v.largest, v.in_flight / v.total, 1.0)
        good &= unknown(v.smallest) | blocks
        good &= stands_behind(v.job_runtime, v.jobs, v.runtime)
        # What cannot say how long it will take may be an interim report, unless it lasted.
        good &= (unknown(v.asked_ms) & (v.no_eta == 0)) | lasted(v.runtime, v.asked_ms)
        parts = np.where(unknown(v.slat_mean), 0.0, v.slat_mean)
        silent = ~(v.clat_mean > 0) | ~(v.lat_mean > 0)
        good &= silent | is_whole(v.lat_mean, parts, v.clat_mean)
    for column in v:
        good &= unknown(column) | ((column >= 0) & (column <= LARGEST))
    return good


def between(v: Values, kind: str, least: FloatArray, most: FloatArray) -> BoolArray:
    """Return where mean and percentiles of a latency lie between its least and its most."""
    low, high, mean = (getattr(v, f"{kind}_{name}") for name in ("min", "max", "mean"))
    good = most < np.inf
    bounds = [np.where(np.isnan(value), low, value) for value in (mean, least, most)]
    inside = np.logical_and.reduce([lies_between(value, low, high) for value in bounds])
    return np.array((np.isnan(most) | good) & (np.isnan(low) | ~(high > 0) | inside), dtype=bool)


def measured(v: Values, kind: str) -> BoolArray:
    """Return where a latency was measured: with gtod_reduce it is there, and all zero."""
    mean, samples = (getattr(v, f"{kind}_{name}") for name in ("mean", "samples"))
    return np.array((mean > 0) & (samples != 0), dtype=bool)


def metrics_of(v: Values, percentiles: dict[str, dict[str, FloatArray]]) -> dict[str, FloatArray]:
    """Return what `fio_output.metrics` does of each."""
    found = {"iops": v.iops, "bw_bytes": v.bw_bytes}
    for kind in ("clat", "lat"):
        known = measured(v, kind)
        mean = getattr(v, f"{kind}_mean")
        with np.errstate(all="ignore"):
            found[f"{kind}_mean_ns"] = np.where(known, mean * np.round(v.total) / np.round(v.total), np.nan)
        found |= {
            f"{kind}_{name}_ns": np.where(known, values, np.nan) for name, values in percentiles[kind].items()
        }
    busy = (v.usr + v.sys) / 100 * v.job_runtime
    with np.errstate(all="ignore"):
        found["guest_cpu_ns_per_io"] = np.where(busy > 0, busy * 1e6 / np.round(v.total), np.nan)
    return {name: values for name, values in found.items() if not np.all(np.isnan(values))}
