"""Hardware counters: what follows from numbers and refusals, and real counters of a real process.

No hardware counter is needed: the kernel counts page faults and CPU time through the same interface, whatever
the machine.
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.emulator import MappingsProbe
from harness.adapters.telemetry.counters import ThreadCounters, offer
from harness.adapters.telemetry.process_reader import ProcessReader
from harness.adapters.telemetry.sampler import TelemetryRecorder
from harness.core.perf_events import (
    HARDWARE_EVENTS,
    Event,
    Mode,
    ThreadCounts,
    counted_rates,
    multiplexed,
    parse_group,
    refusal,
)
from harness.core.telemetry import Occasion, Reading, Telemetry, TelemetryHeader, parse_telemetry
from harness.core.telemetry_metrics import TELEMETRY_METRICS, measured, why_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PID = 100
NOBODY = 65534
EVENTS = ("user_instructions", "user_cycles", "kernel_instructions", "kernel_cycles")
_SOFTWARE, _CPU_CLOCK, _TASK_CLOCK, _PAGE_FAULTS = 1, 0, 1, 2
FAULTS = (
    Event("instructions", Mode.USER, _SOFTWARE, _PAGE_FAULTS),
    Event("cycles", Mode.USER, _SOFTWARE, _TASK_CLOCK),
    Event("instructions", Mode.KERNEL, _SOFTWARE, _PAGE_FAULTS),
    Event("cycles", Mode.KERNEL, _SOFTWARE, _TASK_CLOCK),
)
"""What every kernel counts, in the place of instructions and cycles: page faults, and time on a CPU."""
PAGE = 4096


def counts(
    tid: int, name: str, *values: int, enabled: int = 10**9, running: int | None = None
) -> ThreadCounts:
    return ThreadCounts(tid, name, values, enabled, enabled if running is None else running)


def at(seconds: float, *found: ThreadCounts) -> Reading:
    return Reading(Occasion.MARK, "2026-11-26T00:00:00.000+00:00", seconds, 3, counts=found)


BEFORE = at(
    11.0,
    counts(PID, "qemu", 10, 20, 30, 40),
    counts(PID + 1, "CPU 0/KVM", 100, 200, 300, 400),
    counts(PID + 2, "IO iothread1", 0, 0, 0, 0),
)
AFTER = at(
    13.0,
    counts(PID, "qemu", 30, 60, 50, 80, enabled=2 * 10**9),
    counts(PID + 1, "CPU 0/KVM", 300, 800, 700, 1000, enabled=2 * 10**9),
    counts(PID + 2, "IO iothread1", 2000, 3000, 4000, 5000, enabled=2 * 10**9),
    counts(PID + 9, "worker", 8, 16, 12, 24),
)


def rates(first: Reading, second: Reading) -> dict[str, float]:
    return counted_rates(first, second, events=EVENTS, pid=PID)


# What follows from numbers


def test_counts_are_told_by_mode_and_by_kind_of_thread() -> None:
    assert rates(BEFORE, AFTER) == {
        "user_instructions": (20 + 200 + 2000 + 8) / 2, "kernel_instructions": (20 + 400 + 4000 + 12) / 2,
        "user_cycles": (40 + 600 + 3000 + 16) / 2, "kernel_cycles": (40 + 600 + 5000 + 24) / 2,
        "instructions": (40 + 600 + 6000 + 20) / 2, "cycles": (80 + 1200 + 8000 + 40) / 2,
        "main_instructions": 20, "vcpu_instructions": 300, "iothread_instructions": 3000,
        "main_cycles": 40, "vcpu_cycles": 600, "iothread_cycles": 4000,
    }  # fmt: skip


@given(st.integers(0, 2))
def test_multiplexed_counters_give_no_number(thread: int) -> None:
    shared = list(AFTER.counts)
    shared[thread] = replace(shared[thread], running_ns=shared[thread].enabled_ns - 5 * 10**8)
    second = replace(AFTER, counts=tuple(shared))
    assert multiplexed(BEFORE, second) == pytest.approx(0.5)
    assert rates(BEFORE, second) == {}


def test_a_thread_that_could_not_be_counted_leaves_its_kind_and_the_sum_without_a_number() -> None:
    blind = replace(AFTER, counts=(*AFTER.counts[:2], ThreadCounts(PID + 2, "IO iothread1", None)))
    assert set(rates(BEFORE, blind)) == {
        "main_instructions", "vcpu_instructions", "main_cycles", "vcpu_cycles",
    }  # fmt: skip


def test_of_user_mode_alone_there_is_no_sum() -> None:
    first, second = at(1.0, counts(PID, "qemu", 1, 2)), at(2.0, counts(PID, "qemu", 11, 32))
    found = counted_rates(first, second, events=EVENTS[:2], pid=PID)
    assert found == {"user_instructions": 10, "user_cycles": 30}


def test_readings_without_counts_give_nothing() -> None:
    assert rates(at(1.0), at(2.0)) == {}
    assert counted_rates(BEFORE, AFTER, events=(), pid=PID) == {}


@given(st.lists(st.integers(0, 2**64 - 1), max_size=8), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_group_is_read_as_the_kernel_lays_it_out(values: list[int], enabled: int, running: int) -> None:
    data = struct.pack(f"=QQQ{len(values)}Q", len(values), enabled, running, *values)
    assert parse_group(data) == (tuple(values), enabled, running)


@given(st.binary(max_size=64))
def test_any_other_answer_is_an_error(data: bytes) -> None:
    if len(data) >= 24 and len(data) == 24 + 8 * int.from_bytes(data[:8], sys.byteorder):
        return
    with pytest.raises(ValueError, match="no group"):
        parse_group(data)


@pytest.mark.parametrize(
    ("number", "reason", "remedy"),
    [
        (errno.ENOENT, "no hardware counters", "pmu state='on'"),
        (errno.EOPNOTSUPP, "no hardware counters", "pmu state='on'"),
        (errno.EACCES, "perf_event_paranoid is 3", "CAP_PERFMON"),
        (errno.EPERM, "perf_event_paranoid is 3", "seccomp"),
        (errno.ENOSYS, "no CONFIG_PERF_EVENTS", "distribution"),
        (errno.EMFILE, "too many files", "ulimit -n"),
        (errno.EINVAL, "do not fit", "nmi_watchdog"),
        (errno.EIO, "EIO", "man perf_event_open"),
    ],
)
def test_a_refusal_says_why_and_what_helps(number: int, reason: str, remedy: str) -> None:
    found = refusal(number, paranoid="3")
    assert reason in found.reason
    assert remedy in found.remedy


def seen(*readings: Reading, counters: tuple[str, ...] = EVENTS, **unreadable: str) -> Telemetry:
    header = TelemetryHeader(1, PID, "now", 65530, "clock", "schedstat", {}, unreadable, counters)
    return Telemetry(header, readings)


def test_why_counts_are_missing() -> None:
    none = seen(counters=(), counts="this machine offers no hardware counters")
    assert why_missing("iothread_cycles_per_io", [none]) == "this machine offers no hardware counters"
    user = seen(BEFORE, AFTER, counters=EVENTS[:2], kernel_counts="this user may not count")
    assert why_missing("instructions_per_io", [user]) == "this user may not count"
    assert "a longer runtime" in why_missing("user_cycles_per_io", [user])
    half = replace(AFTER.counts[0], running_ns=15 * 10**8)
    shared = seen(BEFORE, replace(AFTER, counts=(half, *AFTER.counts[1:])))
    assert "counted only 50% of the time" in why_missing("cycles_per_io", [shared])
    blind = replace(AFTER, counts=(*AFTER.counts[:2], ThreadCounts(PID + 2, "IO iothread1", None)))
    assert "ulimit -n" in why_missing("iothread_cycles_per_io", [seen(BEFORE, blind)])
    assert "older version" in why_missing("cycles_per_io", [seen(counters=())])
    assert why_missing("vmas", [none]) == "QEMU's mappings were never seen"


# Real counters of a real process

LIKE_QEMU = """\
import ctypes, mmap, sys, threading
libc = ctypes.CDLL(None)

def touch(name, pages):
    libc.prctl(15, name, 0, 0, 0)
    ready.wait()
    go.wait()
    place = mmap.mmap(-1, pages * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    place.madvise(15)  # no huge pages: one fault a page
    for page in range(pages):
        place[page * 4096] = 1
    done.wait()
    if keep:
        threading.Event().wait()

keep = sys.argv[1] == "keep"
ready, done, go = threading.Barrier(3), threading.Barrier(3), threading.Event()
for name, pages in ((b"CPU 0/KVM", 2000), (b"IO iothread1", 500)):
    threading.Thread(target=touch, args=(name, pages), daemon=True).start()
ready.wait()
print("ready", flush=True)
sys.stdin.readline()
go.set()
done.wait()
print("done", flush=True)
sys.stdin.read()
"""
"""A process with a vCPU and an IOThread that touch so many pages once a line is read."""


@contextmanager
def like_qemu(*, keep: bool = True) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", LIKE_QEMU, "keep" if keep else "end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def work(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def by_name(found: tuple[ThreadCounts, ...]) -> dict[str, ThreadCounts]:
    return {thread.name: thread for thread in found}


def names(process: subprocess.Popen[str]) -> dict[int, str]:
    threads = ProcessReader(process.pid, MappingsProbe(process.pid)).cpu()["threads"]
    return {thread.tid: thread.name for thread in threads}


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_each_thread_is_counted_by_itself() -> None:
    with like_qemu() as process:
        threads = ThreadCounters(FAULTS)
        before = by_name(threads.read(names(process)))
        work(process)
        after = by_name(threads.read(names(process)))
        threads.close()
    for name, pages in (("CPU 0/KVM", 2000), ("IO iothread1", 500)):
        now, then = after[name], before[name]
        assert now.values is not None
        assert then.values is not None
        faults = now.values[0] - then.values[0]
        assert pages <= faults < pages + 300, "its own faults, not those of the other thread"
        assert now.enabled_ns == now.running_ns, "software events are never multiplexed"
        assert now.enabled_ns - then.enabled_ns > 0


def test_a_thread_that_ended_keeps_what_it_counted_until_it_is_forgotten() -> None:
    with like_qemu(keep=False) as process:
        threads = ThreadCounters(FAULTS)
        threads.read(names(process))
        work(process)
        wait_until(lambda: len(names(process)) == 1)
        ended = by_name(threads.read(names(process)))["IO iothread1"]
        assert ended.values is not None
        assert ended.values[0] >= 500
        threads.forget(names(process))
        assert [thread.tid for thread in threads.read(names(process))] == [process.pid]
        threads.close()


def test_an_iteration_of_a_recorder_gives_counts_a_request(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    with like_qemu() as process:
        recorder = TelemetryRecorder(path, process.pid, MappingsProbe(process.pid), events=FAULTS)
        recorder.start()
        recorder.begin(3, ramp=0.0, runtime=3.0)
        wait_until(lambda: b'"mark"' in path.read_bytes())
        work(process)
        wait_until(lambda: path.read_bytes().count(b'"mark"') >= 10)
        recorder.end()
        recorder.close()
    telemetry = parse_telemetry(path.read_bytes())
    assert telemetry.header.counters == EVENTS
    assert "counts" not in telemetry.header.unreadable
    marks = [found for found in telemetry.of(3) if found.occasion is Occasion.MARK]
    apart = marks[-1].seconds - marks[0].seconds
    found = measured(telemetry, 3, iops=1 / apart, ramp=0.0, runtime=3.0)
    assert found["iothread_instructions_per_io"] == pytest.approx(500, rel=0.7)
    assert found["vcpu_instructions_per_io"] == pytest.approx(2000, rel=0.2)
    assert found["user_instructions_per_io"] >= 2500
    assert found["cycles_per_io"] > 0
    assert not {"instructions_per_io", "iothread_cycles_per_io"} - set(TELEMETRY_METRICS)
    full = [reading for reading in telemetry.readings if reading.occasion is Occasion.END]
    assert full[0].counts == ()


def test_a_machine_is_asked_and_its_answer_kept(tmp_path: Path) -> None:
    """Whether this machine has hardware counters or not: telemetry says the same as the doctor."""
    path = tmp_path / "telemetry.jsonl"
    with like_qemu() as process:
        recorder = TelemetryRecorder(path, process.pid, MappingsProbe(process.pid))
        recorder.start()
        recorder.close()
    header, offered = parse_telemetry(path.read_bytes()).header, offer(0)
    assert header.counters == tuple(event.label for event in offered.events)
    why = {name: text for name, text in header.unreadable.items() if name.endswith("counts")}
    assert bool(why) == (offered.refused is not None)
    if offered.refused:
        assert all(text.startswith(offered.refused.reason) for text in why.values())


def test_an_ordinary_user_may_count_user_mode_where_the_kernel_is_closed() -> None:
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text(encoding="ascii"))
    was = os.geteuid()
    os.seteuid(was or NOBODY)
    try:
        found = offer(0, FAULTS)
    finally:
        os.seteuid(was)
    allowed = {event.mode for event in found.events}
    if paranoid < 2:
        assert allowed == set(Mode)
    else:
        assert Mode.KERNEL not in allowed
        assert found.refused is not None
        assert f"this user may not count (EACCES; kernel.perf_event_paranoid is {paranoid})" == (
            found.refused.reason
        )


def test_what_no_kernel_counts_is_refused_with_a_reason() -> None:
    unknown = [Event("nothing", Mode.USER, 12345, 0)]
    found = offer(0, unknown)
    assert found.events == ()
    assert found.refused is not None
    assert "no hardware counters" in found.refused.reason


def test_an_architecture_without_a_known_call_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    found = offer(0, HARDWARE_EVENTS)
    assert found.events == ()
    assert found.refused is not None
    assert "ENOSYS" in found.refused.reason
