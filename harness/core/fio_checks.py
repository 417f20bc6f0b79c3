"""Does fio's JSON agree with itself? A file whose units are wrong, or that was edited, gives no number.

fio prints one measurement several times over: counts, rates, bytes, latencies and their distribution. What is
checked, and since when fio prints it (read in the history of its stat.c):

- ``iops`` is total_ios / runtime, and the bandwidth io_bytes / runtime: exactly, but for integers cut off.
- ``io_bytes`` counts KiB before 2.21 and bytes since, when ``io_kbytes`` came beside it; ``bw`` is in KiB/s
  always, and ``bw_bytes`` since 3.2.
- Latencies are in microseconds under ``clat`` before 3.0 (2.99), and in nanoseconds under ``clat_ns`` since.
- ``latency_ns``, ``_us`` and ``_ms`` tell which share of the requests took how long, whatever the unit above.
- ``job_runtime`` (3.8) adds up the jobs that stand behind an entry.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.core.fio_document import FioOutputError, non_negative, subsection
from harness.core.fio_options import PERFORMS, size_limits
from harness.core.fio_predicates import (
    LEAST_SHARE,
    LEAST_WHOLE,
    agrees,
    is_mean_of,
    is_whole,
    lies_between,
    moved_blocks,
    stands_behind,
)

if TYPE_CHECKING:
    from harness.core.fio_document import Document
    from harness.core.fio_result import FioJob

_REMEDY = "take the file out: a unit in it is wrong, or it was edited"
_KIB = 1024
UNITS = {"latency_ns": 1.0, "latency_us": 1e3, "latency_ms": 1e6}
"""Sections of a distribution -> nanoseconds."""
_VERSION = re.compile(r"fio-(\d+)\.(\d+)")
_NANOSECONDS_SINCE = (2, 99)
_BYTES_SINCE = (2, 21)


def check_entry(entry: Document, job: FioJob, version: str | None) -> None:
    """Refuse an entry of fio's job list that contradicts itself.

    Args:
        entry: as fio printed it.
        job: what was read from it.
        version: fio's, as in ``fio version``; None when the output does not tell.

    Raises:
        FioOutputError: says which two numbers disagree.
    """
    release = fio_release(version)
    names = [direction.name for direction in job.directions]
    for name in names:
        _check_direction(subsection(entry, name, job.name), name, job, release)
    _check_pattern(job, names)
    _check_jobs_behind(job)
    _check_latency(entry, job)
    failed = non_negative(entry, "total_err", "job")
    if failed:
        raise FioOutputError(
            f"{failed:.0f} requests failed and were counted all the same (continue_on_error)"
        )


def fio_release(version: str | None) -> tuple[int, int] | None:
    """Return fio's version as numbers (``fio-3.33-12-g1a2b`` -> (3, 33)); None when there is none."""
    match = _VERSION.match(version or "")
    return (int(match[1]), int(match[2])) if match else None


def _check_direction(section: Document, where: str, job: FioJob, release: tuple[int, int] | None) -> None:
    runtime, total, iops, bw, bw_bytes, io_bytes = (
        non_negative(section, key, where)
        for key in ("runtime", "total_ios", "iops", "bw", "bw_bytes", "io_bytes")
    )
    if not runtime or total is None or iops is None:
        raise FioOutputError(f"{where} has no runtime or no count of requests")
    cut = 1.0 if isinstance(section["iops"], int) else 0.0  # fio 2.1 prints whole numbers
    _agree(f"{where}.iops", iops, total * 1000 / runtime, cut)
    if bw is not None and bw_bytes is not None:
        _agree(f"{where}.bw_bytes", bw_bytes, bw * _KIB, _KIB)
    rate = bw_bytes if bw_bytes is not None else (bw or 0.0) * _KIB
    if io_bytes is None:
        raise FioOutputError(f"{where} has no io_bytes")
    unit = _unit_of_io_bytes(section, where, release)
    _agree(f"{where}.bw", rate, io_bytes * unit * 1000 / runtime, _KIB + unit * 1000 / runtime)
    _check_block_size(where, io_bytes * unit, total, unit, job)
    _check_latencies(section, where, release)


def _check_latencies(section: Document, where: str, release: tuple[int, int] | None) -> None:
    for key in ("clat", "lat"):
        if release and f"{key}_ns" in section and release < _NANOSECONDS_SINCE:
            raise FioOutputError(
                f"{where}.{key}_ns is there, but fio {release[0]}.{release[1]} had none", remedy=_REMEDY
            )
        if release and release >= _NANOSECONDS_SINCE and subsection(section, key, where):
            raise FioOutputError(
                f"{where}.{key} is there, but fio {release[0]}.{release[1]} had {key}_ns", remedy=_REMEDY
            )
        _check_percentiles(section, f"{key}_ns" if f"{key}_ns" in section else key, where)
    _check_whole_latency(section, where, "_ns" if "clat_ns" in section else "")


def _unit_of_io_bytes(section: Document, where: str, release: tuple[int, int] | None) -> int:
    """Return what io_bytes counts, in bytes; the other counts beside it have to agree."""
    if "io_kbytes" in section or "bw_bytes" in section:
        kib = non_negative(section, "io_kbytes", where)
        if kib is not None:
            _agree(f"{where}.io_kbytes", kib * _KIB, non_negative(section, "io_bytes", where) or 0.0, _KIB)
        return 1
    return 1 if release is not None and release >= _BYTES_SINCE else _KIB


def _check_block_size(where: str, done_bytes: float, total: float, unit: int, job: FioJob) -> None:
    limits = block_limits(job)
    if limits is None or not total:
        return
    mean = done_bytes / total
    if not moved_blocks(mean, *limits, in_flight(job) / total, unit):
        raise FioOutputError(
            f"{where} moved {mean:.0f} bytes a request, but the block size is {job.bs}", remedy=_REMEDY
        )


def _check_pattern(job: FioJob, names: list[str]) -> None:
    allowed = PERFORMS.get(job.rw or "")
    strange = [name for name in names if allowed and name != "mixed" and name not in allowed]
    if strange:
        raise FioOutputError(
            f"rw is {job.rw}, but there is {strange[0]} I/O too: verify, or different jobs in one group"
        )


def _check_jobs_behind(job: FioJob) -> None:
    """Refuse an entry behind which more jobs stand than numjobs says: others were added to the group."""
    if job.job_runtime_ms is None or job.numjobs is None or not job.directions:
        return
    longest = max(direction.runtime_ms for direction in job.directions)
    if not stands_behind(job.job_runtime_ms, job.numjobs, longest):
        raise FioOutputError(
            f"job_runtime says {job.job_runtime_ms / longest:.1f} jobs, but numjobs is {job.numjobs}: "
            "group_reporting over different jobs, or time spent without I/O",
            remedy="separate them with stonewall, so that each is a group of its own",
        )


def _check_percentiles(section: Document, key: str, where: str) -> None:
    latency = subsection(section, key, where)
    low, high = (non_negative(latency, name, f"{where}.{key}") for name in ("min", "max"))
    if low is None or not high:
        return
    named = [("mean", non_negative(latency, "mean", f"{where}.{key}"))]
    named += [
        (name, value)
        for name, value in subsection(latency, "percentile", where).items()
        if isinstance(value, int | float) and value
    ]
    for name, value in named:
        if value is not None and not lies_between(value, low, high):
            raise FioOutputError(
                f"{where}.{key}: {name} is {value:g}, but all lie between {low:g} and {high:g}",
                remedy=_REMEDY,
            )


def _check_latency(entry: Document, job: FioJob) -> None:
    """Hold mean completion latency against the shares of requests by time: their unit is another key's."""
    measured = [
        (direction.clat.mean_ns, direction.total_ios) for direction in job.directions if direction.clat
    ]
    shares = list(_shares(entry))
    whole = sum(share for _low, _high, share in shares)
    if not measured or len(measured) < len(job.directions) or whole < LEAST_WHOLE:
        return
    mean = sum(value * ios for value, ios in measured) / sum(ios for _value, ios in measured)
    low = sum(low * share for low, _high, share in shares if share > LEAST_SHARE) / 100
    high = sum(high * share for _low, high, share in shares) / 100
    if not is_mean_of(mean, low, high):
        raise FioOutputError(
            f"the mean completion latency is {mean:g} ns, but its distribution says {low:g} to {high:g} ns",
            remedy=_REMEDY,
        )


def _check_whole_latency(section: Document, where: str, suffix: str) -> None:
    """Hold latency against its parts, submission and completion: it is their sum and some time between."""
    slat, clat, lat = (
        non_negative(subsection(section, f"{kind}{suffix}", where), "mean", f"{where}.{kind}{suffix}")
        for kind in ("slat", "clat", "lat")
    )
    if not clat or not lat:
        return
    if not is_whole(lat, slat or 0.0, clat):
        raise FioOutputError(
            f"{where}.lat{suffix}: mean is {lat:g}, but completion alone took {clat:g}", remedy=_REMEDY
        )


def _shares(entry: Document) -> list[tuple[float, float, float]]:
    """Return (from ns, to ns, percent of the requests) of the distribution's buckets that hold any."""
    sections = [subsection(entry, key, "job") for key in UNITS]
    values = [
        non_negative(section, name, key) or 0.0
        for key, section in zip(UNITS, sections, strict=True)
        for name in section
    ]
    found = zip(edges(*(tuple(section) for section in sections)), values, strict=True)
    return [(low, high, share) for (low, high), share in found if share and high >= 0]


@lru_cache(maxsize=64)
def edges(*names: tuple[str, ...]) -> tuple[tuple[float, float], ...]:
    """Return from where to where each bucket of a distribution reaches, in ns; (-1, -1) for what is none.

    Args:
        names: those of the buckets under each of `UNITS`: their upper edges, in that unit; in any order, as
            whoever wrote the text again may have sorted its keys.
    """
    uppers = [_upper(name, unit) for unit, keys in zip(UNITS.values(), names, strict=True) for name in keys]
    known = sorted({upper for upper in uppers if upper is not None})
    lowers = dict(zip(known, [0.0, *known], strict=False))
    return tuple((-1.0, -1.0) if upper is None else (lowers[upper], upper) for upper in uppers)


def _upper(name: str, unit: float) -> float | None:
    if name.startswith(">="):
        return math.inf
    try:
        upper = float(name) * unit
    except ValueError:
        return None
    return upper if upper > 0 else None


def _agree(what: str, value: float, expected: float, slack: float) -> None:
    """Refuse a number that those beside it contradict."""
    if not agrees(value, expected, slack):
        raise FioOutputError(
            f"{what} is {value:g}, but what stands beside it makes {expected:g}", remedy=_REMEDY
        )


def block_limits(job: FioJob) -> tuple[int, int] | None:
    """Return the smallest and the largest block of a job, in bytes; None where that cannot be told."""
    return size_limits({**job.options, "bs": job.options.get("bs", "4096")}) if job.bs else None


def in_flight(job: FioJob) -> float:
    """Return how many requests may be counted whose bytes are not, or the other way round."""
    return 2.0 * (job.iodepth or 1) * (job.numjobs or 1)
