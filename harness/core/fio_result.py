"""fio's JSON as types: what was asked of fio, what it measured, and whether an iteration counts.

Nothing is guessed and nothing missing becomes 0. ``iops`` is fio's own (total_ios / runtime), not
``iops_mean``, which is a mean of interval samples and another number. Old fio (2.x) counts latencies in
microseconds under ``clat``; everything here is in nanoseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.fio_document import (
    DIRECTIONS,
    Document,
    FioOutputError,
    entries_of,
    is_client,
    last_document,
    non_negative,
    subsection,
)
from harness.core.fio_options import ALIASES, DEFAULTS, block_label, pattern
from harness.core.fio_predicates import agrees_roughly

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLIENT_TOTAL = "All clients"
_BYTES_PER_KIB = 1024
_NS_PER_US = 1000.0


@dataclass(frozen=True, slots=True)
class Latency:
    """A latency distribution.

    Attributes:
        mean_ns: the mean.
        percentiles_ns: percentile (99.9) -> nanoseconds; empty when fio gave none.
        samples: how many requests stand behind it; None when fio does not say (2.x).
    """

    mean_ns: float
    percentiles_ns: Mapping[float, float]
    samples: int | None = None


@dataclass(frozen=True, slots=True)
class Direction:
    """What one direction of one job did.

    Attributes:
        name: ``read``, ``write``, ``trim``, or ``mixed`` (unified_rw_reporting).
        iops: requests a second, over the measured time.
        bw_bytes: bytes a second.
        total_ios: requests in the measured time.
        runtime_ms: the measured time, without ramp.
        clat: completion latency; None when fio did not measure it (gtod_reduce).
        lat: latency from submission on; None likewise.
    """

    name: str
    iops: float
    bw_bytes: float
    total_ios: int
    runtime_ms: float
    clat: Latency | None
    lat: Latency | None


@dataclass(frozen=True, slots=True)
class FioJob:
    """One entry of fio's job list: a job, one of its clones, or a group (group_reporting).

    Attributes:
        name: the job's name.
        group: fio's group number; jobs of one group ran at the same time.
        options: what was asked, global and own options merged, all as fio printed them.
        rw, bs, iodepth, numjobs: as asked, or fio's default; None when the output does not tell.
        ioengine: as asked; None when it was not (the default depends on the system).
        error: fio's error number, 0 for none.
        usr_cpu, sys_cpu: percent of the job's time.
        job_runtime_ms: the time those percents speak of, summed over a group's jobs.
        directions: those that did any I/O.
        host: in client mode, the server that ran it (``host:port``); else None.
    """

    name: str
    group: int
    options: Mapping[str, str]
    rw: str | None
    bs: str | None
    iodepth: int | None
    numjobs: int | None
    ioengine: str | None
    error: int
    usr_cpu: float | None
    sys_cpu: float | None
    job_runtime_ms: float | None
    directions: tuple[Direction, ...]
    host: str | None = None

    @property
    def total_ios(self) -> int:
        """Requests of all directions."""
        return sum(direction.total_ios for direction in self.directions)


@dataclass(frozen=True, slots=True)
class FioResult:
    """One fio invocation.

    Attributes:
        fio_version: ``fio-3.33``; None when the output does not tell.
        timestamp: seconds since 1970; None likewise.
        jobs: in fio's order.
        client: whether fio ran as the client of servers.
    """

    fio_version: str | None
    timestamp: int | None
    jobs: tuple[FioJob, ...]
    client: bool = False


def parse_fio(text: str) -> FioResult:
    """Read fio's JSON output (``json`` or ``json+``, any of fio 2.x and 3.x, client mode too).

    Args:
        text: all that fio printed; see `fio_document.last_document` for what may stand around the JSON.

    Raises:
        FioOutputError: it is none, is cut off, or its numbers contradict each other.
    """
    return read_document(last_document(text))


def read_document(document: Document) -> FioResult:
    """Read one decoded document of fio's.

    Raises:
        FioOutputError: its numbers contradict each other.
    """
    client = is_client(document)
    shared = subsection(document, "global options", "fio")
    # Through a server that does not pass on the [global] section an absent key does not mean fio's default.
    defaults = DEFAULTS if not client or "global options" in document else {}
    version, timestamp = document.get("fio version"), document.get("timestamp")
    return FioResult(
        fio_version=version if isinstance(version, str) else None,
        timestamp=timestamp if isinstance(timestamp, int) else None,
        jobs=tuple(
            _job(entry, shared, defaults, number=number) for number, entry in enumerate(job_entries(document))
        ),
        client=client,
    )


def job_entries(document: Document) -> list[object]:
    """Return a document's list of jobs; of a client's without the sum over all servers that ends it."""
    if not is_client(document):
        return list(entries_of(document))
    return [
        entry
        for entry in entries_of(document)
        if not (isinstance(entry, dict) and entry.get("jobname") == _CLIENT_TOTAL)
    ]


def _job(entry: object, shared: Document, defaults: Mapping[str, str], *, number: int) -> FioJob:
    if not isinstance(entry, dict):
        raise FioOutputError(f"job {number} is not an object")
    where = f"job {entry.get('jobname', number)!s:.60}"
    own = entry.get("job options")
    options = {
        ALIASES.get(key, key): str(value)
        for key, value in {**shared, **(own if isinstance(own, dict) else {})}.items()
    }
    # fio says only what it was told. Without any options (fio < 2.3) nothing is known of them.
    known = {**defaults, **options} if options or own is not None else options
    return FioJob(
        name=str(entry.get("jobname", "")),
        group=int(non_negative(entry, "groupid", where) or 0),
        options=options,
        rw=pattern(known.get("rw")),
        bs=block_label(known),
        iodepth=_whole(known.get("iodepth"), "iodepth", where),
        numjobs=_whole(known.get("numjobs"), "numjobs", where),
        ioengine=known.get("ioengine"),
        error=_error(entry.get("error", 0), where),
        usr_cpu=non_negative(entry, "usr_cpu", where),
        sys_cpu=non_negative(entry, "sys_cpu", where),
        job_runtime_ms=non_negative(entry, "job_runtime", where),
        directions=_directions(entry, where),
        host=_server(entry),
    )


def _server(entry: Document) -> str | None:
    host, port = entry.get("hostname"), entry.get("port")
    if not isinstance(host, str):
        return None
    return f"{host}:{port}" if isinstance(port, int) else host


def _error(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise FioOutputError(f"{where}.error is {value!r:.40}, not a number")
    return value


def _whole(value: str | None, key: str, where: str) -> int | None:
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value.strip()) is None:
        raise FioOutputError(f"{where}: option {key} is {value!r:.40}, not a whole number")
    return int(value)


def _directions(entry: Document, where: str) -> tuple[Direction, ...]:
    # unified_rw_reporting=both gives the sum beside its parts: take the sum alone.
    names = ("mixed",) if "mixed" in entry else DIRECTIONS
    found = (_direction(name, subsection(entry, name, where), f"{where}.{name}") for name in names)
    return tuple(direction for direction in found if direction is not None)


def _direction(name: str, section: Document, where: str) -> Direction | None:
    """Return what a direction did; None when it did nothing."""
    iops = non_negative(section, "iops", where)
    total = non_negative(section, "total_ios", where)
    if not iops and not total:
        return None
    runtime = non_negative(section, "runtime", where)
    bw_bytes = non_negative(section, "bw_bytes", where)
    if bw_bytes is None:
        kib = non_negative(section, "bw", where)  # fio 2.x: KiB/s only
        bw_bytes = None if kib is None else kib * _BYTES_PER_KIB
    if iops is None or bw_bytes is None or runtime is None:
        raise FioOutputError(f"{where} has no iops, bw or runtime")
    if total is None:
        total = iops * runtime / 1000
    _agree(f"{where}.iops", iops, total * 1000, runtime, rounding=1.0)
    io_bytes = non_negative(section, "io_bytes", where)
    if io_bytes is not None and "bw_bytes" in section:  # in 2.x io_bytes counts KiB
        _agree(f"{where}.bw_bytes", bw_bytes, io_bytes * 1000, runtime, rounding=1.0)
    clat, lat = (_latency(section, kind, where) for kind in ("clat", "lat"))
    return Direction(name, iops, bw_bytes, round(total), runtime, clat, lat)


def _agree(what: str, rate: float, total_ms: float, runtime_ms: float, *, rounding: float) -> None:
    """Refuse a rate that the counts beside it contradict: a unit is wrong, or the file was edited."""
    if runtime_ms <= 0:
        return
    expected = total_ms / runtime_ms
    if not agrees_roughly(rate, expected, rounding):
        raise FioOutputError(
            f"{what} is {rate:g}, but the counts beside it make {expected:g}",
            remedy="take the file out: a unit in it is wrong, or it was edited",
        )


def _latency(section: Document, kind: str, where: str) -> Latency | None:
    for key, factor in ((f"{kind}_ns", 1.0), (kind, _NS_PER_US)):
        found = subsection(section, key, where)
        mean = non_negative(found, "mean", f"{where}.{key}")
        samples = non_negative(found, "N", f"{where}.{key}")
        # With gtod_reduce the section is there, full of zeros: not measured, which is not 0 ns.
        if mean and samples != 0:
            percentiles = {
                percentile: value * factor
                for percentile, value in _percentiles(subsection(found, "percentile", where), where).items()
            }
            return Latency(mean * factor, percentiles, None if samples is None else int(samples))
    return None


def _percentiles(section: Document, where: str) -> dict[float, float]:
    result: dict[float, float] = {}
    for key in section:
        value = non_negative(section, key, f"{where}.percentile")
        try:
            percentile = float(key)
        except ValueError:
            continue  # fio 2.x writes "0.00" : 0 to fill up; other keys are nothing we know
        if value is not None and percentile > 0:
            result[percentile] = value
    return result
