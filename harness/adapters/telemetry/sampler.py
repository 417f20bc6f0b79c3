"""The telemetry of one boot: a thread that reads QEMU's process and the host, and a file that keeps it."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from harness.adapters.files import sha256_of, write_atomic
from harness.adapters.host.facts import read_setting
from harness.adapters.telemetry.counters import Offer, ThreadCounters, offer
from harness.adapters.telemetry.process_reader import ProcessReader
from harness.core.mappings import Mappings
from harness.core.perf_events import HARDWARE_EVENTS, Mode
from harness.core.records import boot_file
from harness.core.telemetry import (
    TELEMETRY_VERSION,
    Occasion,
    Reading,
    TelemetryHeader,
    TelemetryRecord,
    peak,
)
from harness.core.telemetry_metrics import mark_times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.adapters.emulator import MappingsProbe
    from harness.core.perf_events import Event, ThreadCounts
    from harness.core.telemetry import ThreadTime

_INTERVAL_S = 1.0
_SHARE = 0.003
"""Of a core, that full readings may take: counting 60,000 mappings costs tens of milliseconds."""


class TelemetryRecorder:
    """Takes readings while a guest runs, and writes each as a line of its own as soon as it has it.

    Full readings come at intervals that grow with what the last one cost; CPU times and hardware counters
    alone are read at exact moments of each iteration.

    Args:
        path: the file; an existing one is replaced.
        pid: QEMU's process; None when it cannot be seen: then there is a header that says so, and no reading.
        probe: counts its mappings, and remembers the last count for whoever explains a crash.
        events: what is counted of each of its threads, where the machine can.

    Attributes:
        record: what is kept of the telemetry in the boot's record; None until it is closed.
    """

    def __init__(
        self,
        path: Path,
        pid: int | None,
        probe: MappingsProbe,
        *,
        events: Sequence[Event] = HARDWARE_EVENTS,
    ) -> None:
        self._path, self._pid, self._probe = path, pid, probe
        self._events = events
        self._counters = ThreadCounters(())
        self.record: TelemetryRecord | None = None
        self._reader: ProcessReader | None = None
        self._descriptor: int | None = None
        self._thread: threading.Thread | None = None
        # One reading at a time; and what both threads know.
        self._lock = threading.Lock()
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._closing = False
        self._iteration: int | None = None
        self._marks: list[float] = []
        self._next_full = self._began = time.monotonic()
        self._elapsed = 0.0
        self._cost = self._thread_cost = 0.0
        self._count = 0
        self._qemu_ns: int | None = None
        self._peak: Mappings | None = None
        self._problem: str | None = None

    def start(self) -> None:
        """Write the header and begin.

        Raises:
            HarnessError: the file cannot be made.
        """
        with self._counted():
            self._began = time.monotonic()
            if self._pid is not None:
                self._reader = ProcessReader(self._pid, self._probe)
                offered = offer(self._pid, self._events)
                self._counters = ThreadCounters(offered.events)
                self._reader.unreadable |= _uncounted(offered)
            write_atomic(self._path, _line(self._header()))
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if self._reader:
            self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
            self._thread.start()

    def begin(self, iteration: int, *, ramp: float = 0.0, runtime: float = 0.0) -> None:
        """Say that an iteration starts now.

        Args:
            iteration: its number in the plan.
            ramp: seconds fio takes before it measures.
            runtime: seconds it measures; 0 where that means nothing, and CPU time is not looked at.
        """
        with self._counted(), self._lock:
            self._iteration = iteration
            now = time.monotonic()
            self._take(Occasion.BEGIN)
            times = mark_times(ramp=ramp, runtime=runtime) if runtime else []
            self._marks = [now + after for after in times]
        self._wakes.put(None)

    def end(self) -> Mappings | None:
        """Say that the iteration ended; return QEMU's mappings now, None when they cannot be seen."""
        with self._counted(), self._lock:
            self._marks = []
            reading = self._take(Occasion.END)
            self._iteration = None
        return _mappings(reading)

    def close(self) -> None:
        """Take a last reading, end the thread and fill in `record`. Once is enough; more do no harm."""
        if self._descriptor is None:
            return
        self._closing = True
        self._wakes.put(None)
        if self._thread:
            self._thread.join()
        with self._counted(), self._lock:
            self._take(Occasion.LAST)
        with self._writing():
            os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None
        self._counters.close()
        self.record = TelemetryRecord(
            file=self._path.name,
            sha256=sha256_of(self._path),
            readings=self._count,
            seconds=round(self._elapsed, 3),
            cpu_seconds=round(self._cost + self._thread_cost, 6),
            qemu_cpu_seconds=None if self._qemu_ns is None else round(self._qemu_ns / 1e9, 3),
            peak=self._peak,
            problem=self._problem,
        )

    def _header(self) -> TelemetryHeader:
        limit, reader = read_setting("/proc/sys/vm/max_map_count"), self._reader
        hidden = {"pid": self._probe.hidden or "QEMU's process cannot be seen"}
        return TelemetryHeader(
            format_version=TELEMETRY_VERSION,
            pid=self._pid,
            started=_now(),
            max_map_count=int(limit) if limit and limit.isdigit() else None,
            process_clock=reader.process_clock if reader else None,
            thread_clock=reader.thread_clock if reader else None,
            threads=dict(reader.names) if reader else {},
            unreadable=reader.unreadable if reader else hidden,
            counters=tuple(event.label for event in self._counters.events),
        )

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                due = min([self._next_full, *self._marks[:1]])
            with contextlib.suppress(queue.Empty):
                self._wakes.get(timeout=max(0.0, due - time.monotonic()))
            if not self._closing:
                self._take_due()
            self._thread_cost = time.thread_time()

    def _take_due(self) -> None:
        with self._lock:
            now = time.monotonic()
            if self._marks and self._marks[0] <= now:
                del self._marks[0]
                self._take(Occasion.MARK)
            elif self._next_full <= now:
                self._take(Occasion.FULL)

    def _take(self, occasion: Occasion) -> Reading | None:
        """Take a reading and write it; the lock is held."""
        if self._reader is None:
            return None
        full = occasion in {Occasion.FULL, Occasion.END}
        before = time.thread_time()
        at, seconds = _now(), time.monotonic() - self._began
        found = self._reader.everything() if full else self._reader.cpu()
        if occasion in {Occasion.BEGIN, Occasion.MARK}:
            found["counts"] = self._counts_of(found["threads"], occasion)
        reading = Reading(occasion, at, round(seconds, 6), self._iteration, **found)
        if reading.cpu_ns is None and not reading.threads:
            return None  # the process is gone
        self._write(_line(reading))
        self._note(reading)
        if full:
            cost = time.thread_time() - before
            self._next_full = time.monotonic() + max(_INTERVAL_S, cost / _SHARE)
        return reading

    def _counts_of(self, threads: Sequence[ThreadTime], occasion: Occasion) -> tuple[ThreadCounts, ...]:
        names = {thread.tid: thread.name for thread in threads}
        if occasion is Occasion.BEGIN:
            self._counters.forget(names)
        return self._counters.read(names)

    def _note(self, reading: Reading) -> None:
        self._elapsed = reading.seconds
        self._qemu_ns = self._qemu_ns if reading.cpu_ns is None else reading.cpu_ns
        self._peak = peak([seen for seen in (self._peak, _mappings(reading)) if seen])

    def _write(self, line: bytes) -> None:
        """Append a line in one go, so that whatever happens at most the last one is torn."""
        if self._descriptor is None or self._problem:
            return
        with self._writing():
            if os.write(self._descriptor, line) < len(line):
                # A further line would make the torn one look whole.
                self._problem = f"{self._path.name} ends early: the disk is full"
            else:
                self._count += 1

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Measure on without telemetry when it cannot be written: what fio says goes to disk by itself."""
        try:
            yield
        except OSError as error:
            self._problem = self._problem or f"{self._path.name} ends early: {error.strerror}"

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Add what is done in the caller's thread to the cost."""
        before = time.thread_time()
        try:
            yield
        finally:
            self._cost += time.thread_time() - before


def telemetry_file(boot: int) -> str:
    """Return the name of the telemetry file of a session's boot, counted from 0."""
    return boot_file("telemetry.jsonl", boot)


def _uncounted(offered: Offer) -> dict[str, str]:
    """Return why counters, or those of kernel mode, cannot be read."""
    if offered.refused is None:
        return {}
    kernel = any(event.mode is Mode.KERNEL for event in offered.events)
    name = "kernel_counts" if offered.events and not kernel else "counts"
    return {name: f"{offered.refused.reason}: {offered.refused.remedy}"}


def _mappings(reading: Reading | None) -> Mappings | None:
    if reading is None or reading.vmas is None:
        return None
    return Mappings(reading.vmas, reading.coroutines or 0)


def _line(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
