"""Writes reports as fio's stat.c does, of any version: what it prints in which unit, and since when.

Read in fio's own history (tags fio-2.3 to fio-3.41), since versions before 3.33 cannot be run here: io_bytes
is in KiB before 2.21, and io_kbytes beside it since; bw_bytes came in 3.2, job_runtime in 3.8; latencies are
in microseconds under slat, clat and lat before 2.99; job options came in 2.3.
"""

from __future__ import annotations

import json
import re
from typing import Any

from harness.core.fio_options import PERFORMS
from harness.core.units import parse_size

_US = (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000)
_SCALES = (
    ("latency_ns", 1.0, _US),
    ("latency_us", 1e3, _US),
    ("latency_ms", 1e6, (*_US, 2000)),
)


def report(
    *,
    iops: float = 1000.0,
    rw: str = "randread",
    bs: str = "4k",
    iodepth: int = 8,
    numjobs: int = 1,
    version: str = "3.33",
    grouped: bool = False,
    runtime_ms: int = 5000,
    moment: int = 1_795_000_000,
    options: dict[str, str] | None = None,
    shared: dict[str, str] | None = None,
    name: str = "cell",
) -> dict[str, Any]:
    """Return fio's JSON of one cell that made `iops` in all, its jobs one by one or grouped."""
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    asked = {
        "rw": rw,
        "bs": bs,
        "iodepth": str(iodepth),
        "ioengine": "libaio",
        "runtime": f"{runtime_ms // 1000}",
    }
    if numjobs > 1:
        asked["numjobs"] = str(numjobs)
    asked |= options or {}
    own = {key: value for key, value in asked.items() if key not in (shared or {})}
    entries = 1 if grouped else numjobs
    jobs = [
        _entry(
            own if number >= (2, 3) else None,
            rw=rw,
            size=parse_size(bs),
            iops=iops / entries,
            latency_ns=1e9 * iodepth * numjobs / iops,
            runtime_ms=runtime_ms,
            behind=numjobs // entries,
            number=number,
            name=name,
        )
        for _ in range(entries)
    ]
    head: dict[str, Any] = {"fio version": f"fio-{version}", "timestamp": moment}
    if number >= (2, 14):
        head["timestamp_ms"] = moment * 1000 + 123
    if shared is not None:
        head["global options"] = shared
    return {**head, "jobs": jobs, "disk_util": []}


def text(**cell: Any) -> str:
    """Return a report as text, laid out as fio does."""
    return json.dumps(report(**cell), indent=2, separators=(",", " : ")) + "\n"


def _entry(
    own: dict[str, str] | None,
    *,
    rw: str,
    size: int,
    iops: float,
    latency_ns: float,
    runtime_ms: int,
    behind: int,
    number: tuple[int, ...],
    name: str,
) -> dict[str, Any]:
    performed = sorted(PERFORMS[rw])
    entry: dict[str, Any] = {"jobname": name, "groupid": 0, "error": 0, "eta": 0, "elapsed": 6}
    if own is not None:
        entry["job options"] = own
    for direction in ("read", "write", "trim"):
        share = iops / len(performed) if direction in performed else 0.0
        entry[direction] = _direction(share, size, latency_ns, runtime_ms, number)
    if number >= (3, 8):
        entry["job_runtime"] = behind * (runtime_ms - 1)
    edge = 0.0
    for key, unit, names in _SCALES:
        if key == "latency_ns" and number < (2, 99):
            continue
        entry[key] = {}
        for upper in names:
            inside = edge <= latency_ns < upper * unit
            entry[key][str(upper)] = 100.0 if inside else 0.0
            edge = upper * unit
    entry["latency_ms"][">=2000"] = 100.0 if latency_ns >= edge else 0.0
    return entry | {"usr_cpu": 1.5, "sys_cpu": 4.5}


def _direction(
    iops: float, size: int, latency_ns: float, runtime_ms: int, number: tuple[int, ...]
) -> dict[str, Any]:
    ios = round(iops * runtime_ms / 1000)
    done = ios * size
    section: dict[str, Any] = {"io_bytes": done >> 10 if number < (2, 21) else done}
    if number >= (2, 21):
        section["io_kbytes"] = done >> 10
    if number >= (3, 2):
        section["bw_bytes"] = 1000 * done // runtime_ms
    section["bw"] = 1000 * done // runtime_ms // 1024
    section["iops"] = round(1000 * ios / runtime_ms, 6)
    section["runtime"] = runtime_ms if ios else 0
    section["total_ios"] = ios
    suffix, unit = ("_ns", 1.0) if number >= (2, 99) else ("", 1e3)
    for kind, part in (("slat", 0.05), ("clat", 0.95), ("lat", 1.0)):
        mean = latency_ns * part / unit if ios else 0.0
        section[kind + suffix] = _latency(mean, ios if number >= (3, 0) else None, percentiles=kind == "clat")
    return section


def _latency(mean: float, samples: int | None, *, percentiles: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "min": int(mean / 2),
        "max": int(mean * 3),
        "mean": round(mean, 6),
        "stddev": 1.5,
    }
    if samples is not None:
        found["N"] = samples
    if percentiles:
        found["percentile"] = {
            "50.000000": int(mean),
            "99.000000": int(mean * 1.5),
            "99.900000": int(mean * 2),
        }
        if samples is None:
            found["percentile"]["0.00"] = 0
    return found
