"""Telemetry of a session: what was seen of QEMU's process and of the host, moment by moment.

A file of JSON Lines: a header, then a reading a line. Numbers that grow (CPU time, faults, switches) count
from the start of the process or of the host: their differences mean something.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.core.mappings import Mappings
from harness.core.perf_events import ThreadCounts  # noqa: TC001 - pydantic reads the annotation
from harness.core.type_adapters import adapter_of

if TYPE_CHECKING:
    from collections.abc import Sequence

TELEMETRY_VERSION = 1
"""The file's format; readers accept this and older ones, and refuse newer ones."""


class Occasion(StrEnum):
    """Why a reading was taken."""

    FULL = "full"
    """At intervals: everything."""
    BEGIN = "begin"
    """Right before an iteration: CPU time and counters only."""
    MARK = "mark"
    """At an exact moment of an iteration: CPU time and counters only."""
    END = "end"
    """Right after an iteration: everything."""
    LAST = "last"
    """Before the guest is ended: CPU time only."""


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """One thread of QEMU.

    Attributes:
        tid: its id.
        name: its comm.
        cpu_ns: nanoseconds on a CPU since its start; None when they could not be read.
    """

    tid: int
    name: str
    cpu_ns: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen at one moment; None is what was not looked at, or could not be read.

    Attributes:
        occasion: why it was taken.
        at: the wall clock's time, ISO 8601 in UTC.
        seconds: of a clock that never goes back, since the header.
        iteration: the number in the plan of the iteration that was under way, or had just ended.
        cpu_ns: nanoseconds on a CPU of the whole process, threads that ended included.
        threads: those that live, each with its own.
        counts: the hardware counters of each thread, those that ended since `Occasion.BEGIN` included.
        vmas: virtual memory areas, as `Mappings` has them.
        coroutines: likewise.
        rss_bytes: resident memory.
        voluntary_switches: context switches because a thread waited, summed over the threads that live.
        involuntary_switches: because another thread's turn came, likewise.
        minor_faults: page faults without I/O, of the whole process.
        major_faults: page faults with I/O, likewise.
        load: the host's load average over one minute.
        host_busy_seconds: CPU time of all the host's CPUs since it was started.
        host_steal_seconds: of it, what a hypervisor below the host gave to others.
        frequency_mhz: of the host's CPUs, their mean.
        throttled: how often the host's CPUs were throttled for heat, summed.
    """

    occasion: Occasion
    at: str
    seconds: float
    iteration: int | None = None
    cpu_ns: int | None = None
    threads: tuple[ThreadTime, ...] = ()
    counts: tuple[ThreadCounts, ...] = ()
    vmas: int | None = None
    coroutines: int | None = None
    rss_bytes: int | None = None
    voluntary_switches: int | None = None
    involuntary_switches: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    load: float | None = None
    host_busy_seconds: float | None = None
    host_steal_seconds: float | None = None
    frequency_mhz: float | None = None
    throttled: int | None = None


@dataclass(frozen=True, slots=True)
class TelemetryHeader:
    """A telemetry file's first line.

    Attributes:
        format_version: of the file.
        pid: QEMU's process; None when it is on another host.
        started: the wall clock's time when reading began, ISO 8601 in UTC.
        max_map_count: the host's ``vm.max_map_count`` then; None when it could not be read.
        process_clock: where ``cpu_ns`` of the process comes from: ``clock`` (exact) or ``ticks``.
        thread_clock: where that of threads comes from: ``schedstat`` (behind by up to a scheduler tick) or
            ``ticks``.
        threads: the names of the threads that lived then, by id.
        unreadable: what could not be read from the start, and why: a field of `Reading` -> a reason.
        counters: what the values of `Reading.counts` are (``user_instructions`` ...); none where nothing can
            be counted. ``unreadable`` has why, and why not in kernel mode, where only that is missing.
    """

    format_version: int
    pid: int | None
    started: str
    max_map_count: int | None
    process_clock: str | None
    thread_clock: str | None
    threads: dict[int, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    counters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Telemetry:
    """A telemetry file, read."""

    header: TelemetryHeader
    readings: tuple[Reading, ...]

    def of(self, iteration: int) -> list[Reading]:
        """Return the readings of one iteration, in order."""
        return self._by_iteration.get(iteration, [])

    @functools.cached_property
    def _by_iteration(self) -> dict[int | None, list[Reading]]:
        found: dict[int | None, list[Reading]] = {}
        for reading in self.readings:
            found.setdefault(reading.iteration, []).append(reading)
        return found

    def peak(self, iteration: int | None = None) -> Mappings | None:
        """Return the most areas and the most coroutines seen, in an iteration or at all."""
        seen = self.readings if iteration is None else self.of(iteration)
        return peak([Mappings(r.vmas, r.coroutines or 0) for r in seen if r.vmas is not None])


@dataclass(frozen=True, slots=True)
class TelemetryRecord:
    """What a boot's record keeps of its telemetry.

    Attributes:
        file: its name in the session's directory.
        sha256: of that file.
        readings: how many it holds.
        seconds: from the first to the last.
        cpu_seconds: CPU time that taking them cost the harness.
        qemu_cpu_seconds: QEMU's own CPU time, as last seen; None when it could not be read.
        peak: the most areas and coroutines seen; None when none could be.
        problem: why it ends early; None when it does not.
    """

    file: str
    sha256: str
    readings: int
    seconds: float
    cpu_seconds: float
    qemu_cpu_seconds: float | None = None
    peak: Mappings | None = None
    problem: str | None = None

    @property
    def share(self) -> float | None:
        """The share of one core that the readings took; None when there was no time between them."""
        return self.cpu_seconds / self.seconds if self.seconds > 0 else None


def parse_telemetry(data: bytes) -> Telemetry:
    """Read a telemetry file.

    A last line without its newline is what a crash leaves behind, and is left out.

    Raises:
        ValueError: any other line is damaged, there is no header, or the format is newer than this.
    """
    *lines, _torn = data.split(b"\n")
    if not lines:
        raise ValueError("has no header")
    try:
        header = adapter_of(TelemetryHeader).validate_json(lines[0])
    except ValidationError as error:
        raise ValueError(f"line 1: {_first(error)}") from None
    if header.format_version > TELEMETRY_VERSION:
        raise ValueError(f"has format version {header.format_version}; known are up to {TELEMETRY_VERSION}")
    readings, as_reading = [], adapter_of(Reading)
    for number, line in enumerate(lines[1:], start=2):
        try:
            reading = as_reading.validate_json(line)
        except ValidationError as error:
            raise ValueError(f"line {number}: {_first(error)}") from None
        # Where the header names none, nobody looks at them.
        for counts in (reading.counts or ()) if header.counters else ():
            if counts.values is not None and len(counts.values) != len(header.counters):
                raise ValueError(f"line {number}: thread {counts.tid} has values of other counters")
        readings.append(reading)
    return Telemetry(header, tuple(readings))


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    where = ".".join(map(str, detail["loc"]))
    return f"{where}: {detail['msg']}" if where else detail["msg"]


def peak(seen: Sequence[Mappings]) -> Mappings | None:
    """Return the most areas and the most coroutines of several counts; None without any."""
    if not seen:
        return None
    return Mappings(max(m.vmas for m in seen), max(m.coroutines for m in seen))
