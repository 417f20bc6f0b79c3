"""From anybody's fio output to measurements of cells: what was asked, what was set up, what came out.

Nothing is taken from file names, and no measurement is returned that the JSON itself contradicts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from harness.core.fio_checks import check_entry
from harness.core.fio_document import FioOutputError, entries_of, non_negative
from harness.core.fio_options import DEFAULTS, settings, size_bytes
from harness.core.fio_output import metrics
from harness.core.fio_predicates import lasted
from harness.core.fio_result import FioJob, FioResult, job_entries, read_document
from harness.core.fio_snapshots import UNKNOWN_ETA, final_documents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.core.fio_document import Document
    from harness.core.model import FactorValue

_TIME = re.compile(r"([0-9]{1,20})(us|ms|s|m|h|d)?")
_MS = {"us": 0.001, "ms": 1.0, None: 1000.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0, "d": 86_400_000.0}
_SHORT = 0.01  # fio ends with its last requests
_ENDS_EARLY = ("steadystate", "ss", "number_ios")
_UNEVEN, _UNEVEN_MS = 0.1, 500.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What was asked of a measurement.

    Attributes:
        factors: rw, bs, iodepth, numjobs, ioengine.
        settings: what else (direct, filename, size ...), and fio's version; in client mode the servers.
    """

    factors: Mapping[str, FactorValue]
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement of one cell.

    Attributes:
        setup: what was asked.
        numbers: metric -> value, as `fio_output.metrics`.
        identity: equal for two copies of one measurement; 0 when too little is there to tell.
    """

    setup: Setup
    numbers: Mapping[str, float]
    identity: int


def read_measurements(text: str) -> tuple[list[Measurement], list[str]]:
    """Return what an output measured, and why parts of it are left out (``job 'x': fio reports error 28``).

    Raises:
        FioOutputError: nothing in it can be used.
    """
    found: list[Measurement] = []
    problems: list[str] = []
    for document, reported_before in final_documents(text):
        result = read_document(document)
        if not result.jobs:
            raise FioOutputError("fio ran no job")
        entries = job_entries(document)
        _refuse_mixed_up_client(document, result)
        for group in dict.fromkeys(job.group for job in result.jobs):
            pairs = [
                (entry, job)
                for entry, job in zip(entries, result.jobs, strict=True)
                if job.group == group and isinstance(entry, dict)
            ]
            try:
                _refuse_overlapping(entries, result.jobs, group)
                found.append(_measurement(document, result, pairs, reported_before=reported_before))
            except FioOutputError as error:
                problems.append(f"job {pairs[0][1].name!r}: {error.message}")
    return found, problems


def _measurement(
    document: Document, result: FioResult, pairs: list[tuple[Document, FioJob]], *, reported_before: bool
) -> Measurement:
    """Return one measurement of a file: jobs that ran at the same time.

    Raises:
        FioOutputError: it is not one cell's, or fio failed.
    """
    jobs = tuple(job for _entry, job in pairs)
    _refuse_unmeasured(jobs)
    setup = setup_of(result, jobs)
    for entry, job in pairs:
        check_entry(entry, job, result.fio_version)
        _refuse_cut_short(entry, job, reported_before=reported_before)
    _refuse_uneven(jobs)
    values = metrics(FioResult(result.fio_version, result.timestamp, jobs, result.client))
    when = non_negative(document, "timestamp_ms", "fio") or non_negative(document, "timestamp", "fio")
    parts = [(job.host, part.total_ios, part.runtime_ms) for job in jobs for part in job.directions]
    name = named(setup.factors, jobs[0].name, jobs[0].group, tuple(host for host, _ios, _ms in parts))
    counts = tuple(number for _host, ios, ms in parts for number in (ios, ms))
    identity = identity_of(when, name, counts, values.get("clat_mean_ns"))
    return Measurement(setup, values, identity)


def setup_of(result: FioResult, jobs: tuple[FioJob, ...]) -> Setup:
    """Return what was asked of jobs that ran at the same time.

    Raises:
        FioOutputError: they are no cell.
    """
    asked = settings(jobs[0].options)
    if result.fio_version:
        asked["fio version"] = result.fio_version
    if result.client:
        asked["servers"] = ", ".join(sorted({job.host or "unknown" for job in jobs}))
    return Setup(_factors(jobs, client=result.client), asked)


def named(factors: Mapping[str, FactorValue], job: str, group: int, hosts: tuple[str | None, ...]) -> int:
    """Return a number for what is asked and printed in words: 64 bits of a hash.

    Args:
        factors: of the cell.
        job: its name.
        group: its number.
        hosts: the server of every job and direction.
    """
    whole = repr((tuple(factors.values()), job, group, hosts))
    return int.from_bytes(blake2b(whole.encode(errors="surrogatepass"), digest_size=8).digest())


def identity_of(when: float | None, name: int, counts: tuple[float, ...], latency: float | None) -> int:
    """Return what tells a measurement from every other, the same for its copies: 64 bits of a hash.

    Args:
        when: fio's clock at its end, in whatever unit it was printed; None or 0 gives no identity, 0.
        name: as `named`.
        counts: of every job and direction the requests, and then the milliseconds.
        latency: mean completion latency in ns; None where it was not measured.
    """
    if not when:
        return 0
    # Of numbers alone Python's own hash is the same in every process, whatever PYTHONHASHSEED says.
    return hash((when, name, *counts, -1.0 if latency is None else latency)) % 2**64 or 1


def _refuse_unmeasured(jobs: tuple[FioJob, ...]) -> None:
    failed = [job.error for job in jobs if job.error]
    if failed:
        raise FioOutputError(f"fio reports error {failed[0]}")
    if any(job.total_ios == 0 for job in jobs):
        raise FioOutputError("fio did no I/O")
    if any("latency_target" in job.options for job in jobs):
        raise FioOutputError("fio chose the I/O depth itself (latency_target): no iodepth can be said")


def _factors(jobs: tuple[FioJob, ...], *, client: bool) -> dict[str, FactorValue]:
    asked = {(job.rw, job.bs, job.iodepth, job.numjobs, job.ioengine) for job in jobs}
    if len(asked) > 1 or len({job.name for job in jobs}) > 1:
        raise FioOutputError("different jobs ran at the same time: they are no cell of a matrix")
    job = jobs[0]
    named = {"rw": job.rw, "bs": job.bs, "iodepth": job.iodepth, "numjobs": job.numjobs}
    factors = {name: value for name, value in named.items() if value is not None}
    unknown = [name for name in named if name not in factors]
    if unknown:
        why = (
            "fio's server did not pass on the options of this job"
            if client
            else "fio before 2.3 does not write it"
        )
        raise FioOutputError(f"the JSON does not tell {', '.join(unknown)}: {why}")
    numjobs = job.numjobs or 1
    for host in dict.fromkeys(other.host for other in jobs):
        there = sum(other.host == host for other in jobs)
        if there not in {1, numjobs}:
            raise FioOutputError(f"{there} jobs are there, but numjobs is {numjobs}")
    return {**factors, "ioengine": job.ioengine or "default"}


def _refuse_mixed_up_client(document: Document, result: FioResult) -> None:
    """Refuse what a server's options cannot be trusted for.

    fio counts options by group and jobs by clone, so that with clones before them jobs get no options or
    others'. With --status-interval all reports stand in one list (both seen with fio 3.33).
    """
    if not result.client:
        return
    everything = entries_of(document)
    names = [entry.get("jobname") for entry in everything if isinstance(entry, dict)]
    total = names.index("All clients") if "All clients" in names else len(names) - 1
    if total != len(names) - 1:
        raise FioOutputError(
            "interim reports stand in one list with the last one (--status-interval, --client)"
        )
    kinds = {(job.name, job.group) for job in result.jobs}
    lacking = any(isinstance(entry, dict) and "job options" not in entry for entry in job_entries(document))
    clones = any(job.numjobs != int(DEFAULTS["numjobs"]) for job in result.jobs)
    if len(kinds) > 1 and (lacking or clones):
        raise FioOutputError(
            "fio's server mixes up the options of several jobs when one of them has numjobs",
            remedy="one job in each job file",
        )


def _refuse_overlapping(entries: list[object], jobs: tuple[FioJob, ...], group: int) -> None:
    """Refuse groups that ran at the same time (new_group); fio 3.36 tells when they began."""
    begins: dict[int, float] = {}
    lasted: dict[int, float] = {}
    for entry, job in zip(entries, jobs, strict=True):
        start = non_negative(entry, "job_start", job.name) if isinstance(entry, dict) else None
        if start:
            begins[job.group] = start
            lasted[job.group] = max((part.runtime_ms for part in job.directions), default=0.0)
    for other in begins:
        first, second = sorted((group, other), key=lambda one: begins.get(one, 0.0))
        if other != group and group in begins and begins[second] < begins[first] + lasted[first] / 2:
            raise FioOutputError("another group ran at the same time (new_group without stonewall)")


def _refuse_cut_short(entry: Document, job: FioJob, *, reported_before: bool) -> None:
    """Refuse a job that ended before its time although it had more to do.

    Where interim reports stand before this one (--status-interval), this may be one of them; and where fio
    could not say yet how long it would take, the first of them.
    """
    reported_before = reported_before or entry.get("eta") == UNKNOWN_ETA
    asked_ms = asked_ms_of(job)
    measured_ms = max(part.runtime_ms for part in job.directions)
    if asked_ms is None and not reported_before:
        return
    if asked_ms is not None and lasted(measured_ms, asked_ms):
        return
    if any(key in job.options for key in _ENDS_EARLY):
        return
    share = _share_done(entry, job)
    over = job.options.get("time_based") in {"1", ""} or (share or 0) > 1 + _UNEVEN
    if asked_ms is not None and (over or (reported_before and share is None)):
        raise FioOutputError(
            f"it ended after {measured_ms / 1000:g} s of the {asked_ms / 1000:g} s asked for: fio was stopped"
        )
    if reported_before and share is not None and share < 1 - _SHORT:
        raise FioOutputError(f"the last report is an interim one: {share:.0%} of the size was done")


def asked_ms_of(job: FioJob) -> float | None:
    """Return how long a job was to run, in ms; None where it was not told."""
    asked = _TIME.fullmatch(job.options.get("runtime", "").strip().lower())
    return int(asked[1]) * _MS[asked[2]] if asked and int(asked[1]) else None


def _share_done(entry: Document, job: FioJob) -> float | None:
    """Return which part of its size a job did, more than 1 with time_based; None when it cannot be told."""
    try:
        size = size_bytes(job.options.get("io_size") or job.options.get("size", ""))
    except ValueError:
        return None
    done = [non_negative(entry[part.name], "io_bytes", part.name) for part in job.directions]
    if (
        not size
        or "loops" in job.options
        or any("io_kbytes" not in entry[part.name] for part in job.directions)
    ):
        return None
    return sum(value or 0.0 for value in done) / (size * _clones(job))


def _clones(job: FioJob) -> int:
    """Return how many clones stand behind an entry: all with group_reporting, else one."""
    longest = max(part.runtime_ms for part in job.directions)
    alone = job.job_runtime_ms is not None and job.job_runtime_ms < 1.5 * longest
    return 1 if alone else job.numjobs or 1


def _refuse_uneven(jobs: tuple[FioJob, ...]) -> None:
    times = [max(part.runtime_ms for part in job.directions) for job in jobs]
    if max(times) - min(times) > _UNEVEN * max(times) + _UNEVEN_MS:
        raise FioOutputError(
            f"its jobs ran for {min(times) / 1000:g} s to {max(times) / 1000:g} s: their rates do not add up"
        )
