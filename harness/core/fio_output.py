"""What an iteration measured, and whether it counts; the way in to fio's output.

`parse_fio` reads it (see `fio_result`), `metrics` turns it into numbers, `accept` says why an iteration does
not count.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from harness.core.fio_document import FioOutputError
from harness.core.fio_options import block_size, pattern
from harness.core.fio_result import Direction, FioJob, FioResult, Latency, parse_fio

if TYPE_CHECKING:
    from harness.core.model import Cell

__all__ = [
    "PERCENTILES", "Direction", "FioJob", "FioOutputError", "FioResult", "Latency",
    "accept", "metrics", "parse_fio", "why_rejected",
]  # fmt: skip

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9, "p9999": 99.99}
"""Names of the percentiles that become metrics."""

# fio ends with its last requests and looks at the clock now and then.
_RUNTIME_TOLERANCE = 0.1
_RUNTIME_SLACK_S = 0.5


def metrics(result: FioResult) -> dict[str, float]:
    """Return the numbers of one measurement: one job, its clones, or a group.

    Jobs that ran at the same time add up, and so do the directions of a mixed pattern: ``iops`` and
    ``bw_bytes`` are reads plus writes, ``clat_mean_ns`` weighs them by their requests. Percentiles of
    different distributions cannot be combined, so they are there only when there is one.

    Returns:
        Metric name -> value; what fio did not measure is absent, never 0.

    Raises:
        FioOutputError: the jobs did not run at the same time, so that they are several measurements.
    """
    if len({job.group for job in result.jobs}) > 1:
        raise FioOutputError("the output holds several measurements, one after the other")
    parts = [direction for job in result.jobs for direction in job.directions]
    if not parts:
        return {}
    values = {"iops": sum(p.iops for p in parts), "bw_bytes": sum(p.bw_bytes for p in parts)}
    values |= _latencies("clat", [(part.clat, part.total_ios) for part in parts])
    values |= _latencies("lat", [(part.lat, part.total_ios) for part in parts])
    cpu_ms = [_cpu_ms(job) for job in result.jobs]
    busy = [ms for ms in cpu_ms if ms is not None]
    total = sum(part.total_ios for part in parts)
    if len(busy) == len(cpu_ms) and sum(busy) > 0 and total:
        values["guest_cpu_ns_per_io"] = sum(busy) * 1e6 / total
    return values


def _latencies(kind: str, parts: list[tuple[Latency | None, int]]) -> dict[str, float]:
    known = [(latency, ios) for latency, ios in parts if latency is not None]
    total = sum(ios for _latency, ios in known)
    if len(known) < len(parts) or not total:
        return {}
    values = {f"{kind}_mean_ns": sum(latency.mean_ns * ios for latency, ios in known) / total}
    if len(known) == 1:
        percentiles = known[0][0].percentiles_ns
        values |= {
            f"{kind}_{name}_ns": percentiles[percentile]
            for name, percentile in PERCENTILES.items()
            if percentile in percentiles
        }
    return values


def _cpu_ms(job: FioJob) -> float | None:
    if job.usr_cpu is None or job.sys_cpu is None or job.job_runtime_ms is None:
        return None
    return (job.usr_cpu + job.sys_cpu) / 100 * job.job_runtime_ms


def accept(
    result: FioResult, *, exit_code: int, cell: Cell, runtime: float | None, ramp: float = 0.0
) -> str | None:
    """Say why an iteration does not count.

    Args:
        result: what fio printed.
        exit_code: fio's.
        cell: what was asked for.
        runtime: the measured seconds that were asked for; None where any will do.
        ramp: the seconds before them.

    Returns:
        The reason in plain words; None when the iteration counts.
    """
    errors = [job.error for job in result.jobs if job.error]
    if errors:
        name = errno.errorcode.get(abs(errors[0]), "unknown")
        return f"fio reports error {errors[0]} ({name}), exit code {exit_code}"
    if exit_code != 0:
        return f"fio ended with exit code {exit_code}"
    if not result.jobs or any(job.total_ios == 0 for job in result.jobs):
        return "fio did no I/O (total_ios is 0)"
    if len({job.group for job in result.jobs}) > 1:
        return "fio ran several measurements one after the other"
    other = _other_cell(result, cell)
    return other if other or runtime is None else _other_runtime(result, runtime, ramp)


def _other_cell(result: FioResult, cell: Cell) -> str | None:
    asked: dict[str, Any] = {
        "rw": pattern(cell.rw),
        "bs": block_size(cell.bs),
        "iodepth": cell.iodepth,
        "numjobs": cell.numjobs,
        "ioengine": cell.ioengine,
    }
    for job in result.jobs:
        for name, value in asked.items():
            found = getattr(job, name)
            if found is not None and found != value:
                return f"fio ran {name}={found}, not {name}={value} as asked"
    return None


def _other_runtime(result: FioResult, runtime: float, ramp: float) -> str | None:
    slack = runtime * _RUNTIME_TOLERANCE + _RUNTIME_SLACK_S
    for job in result.jobs:
        measured = max(direction.runtime_ms for direction in job.directions) / 1000
        if abs(measured - runtime) > slack:
            with_ramp = ramp > 0 and abs(measured - runtime - ramp) <= slack
            return f"fio measured for {measured:.1f} s, not for {runtime:g} s as asked" + (
                ", as if the ramp time were in it" if with_ramp else ""
            )
    return None


def why_rejected(
    stdout: str, stderr: str, *, exit_code: int, cell: Cell, runtime: float | None, ramp: float = 0.0
) -> str | None:
    """Say why an iteration does not count, from what the guest sent; None when it counts.

    As `accept`. Where fio did not end well its own first words are quoted: the JSON may say ``"error": 0``
    while the cause stands on stderr only, as for a block size larger than the disk.
    """
    try:
        reason = accept(parse_fio(stdout), exit_code=exit_code, cell=cell, runtime=runtime, ramp=ramp)
    except FioOutputError as error:
        if exit_code == 0:
            return error.message
        reason = f"fio ended with exit code {exit_code}"
    said = _first_words(stdout, stderr) if reason and exit_code != 0 else ""
    return f"{reason}: {said}" if said else reason


def _first_words(stdout: str, stderr: str) -> str:
    """Return the first line that is for people: of stderr, else of what stands before the JSON."""
    lines = (stderr + "\n" + stdout.partition("{")[0]).splitlines()
    return next((line.strip() for line in lines if line.strip()), "")[:200]
