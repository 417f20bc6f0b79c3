"""The recorder, watching real processes."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.adapters.emulator import MappingsProbe
from harness.adapters.telemetry.sampler import TelemetryRecorder, telemetry_file
from harness.core.telemetry import Occasion, Reading, Telemetry, parse_telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534

LIKE_QEMU = """\
import ctypes, sys, threading
libc = ctypes.CDLL(None)
libc.mmap.restype, libc.mprotect.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
for _ in range(int(sys.argv[1])):  # a guard page below a stack of 1 MiB: private, anonymous, not reserved
    stack = libc.mmap(None, 2**20 + 4096, 3, 0x4022, -1, 0)
    assert libc.mprotect(stack, 4096, 0) == 0

def spin():
    libc.prctl(15, b"CPU 0/TCG", 0, 0, 0)
    print("ready", flush=True)
    while True:
        pass

threading.Thread(target=spin, daemon=True).start()
sys.stdin.read()
"""
"""A process with as many coroutines as its argument says, and a busy vCPU; ends with its input."""


@contextmanager
def like_qemu(coroutines: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", LIKE_QEMU, str(coroutines)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def recording(path: Path, pid: int | None) -> Iterator[tuple[TelemetryRecorder, MappingsProbe]]:
    probe = MappingsProbe(pid)
    recorder = TelemetryRecorder(path, pid, probe)
    recorder.start()
    try:
        yield recorder, probe
    finally:
        recorder.close()


def read(path: Path) -> Telemetry:
    return parse_telemetry(path.read_bytes())


def of(telemetry: Telemetry, *occasions: Occasion) -> list[Reading]:
    return [found for found in telemetry.readings if found.occasion in occasions]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Be somebody who may not look into root's processes; yields a directory to write in."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        if os.geteuid() != 0:
            yield Path(directory)
            return
        os.seteuid(NOBODY)
        try:
            yield Path(directory)
        finally:
            os.seteuid(0)


def test_an_iteration_has_its_mappings_and_its_cpu_times(tmp_path: Path) -> None:
    path = tmp_path / telemetry_file(0)
    with like_qemu(200) as process, recording(path, process.pid) as (recorder, probe):
        recorder.begin(7, ramp=0.3, runtime=0.5)
        wait_until(lambda: len(of(read(path), Occasion.MARK)) == 6)
        mappings = recorder.end()
        assert mappings is not None
        assert mappings.coroutines == 200
        assert probe.last == mappings, "what a crash's record quotes"
        recorder.begin(8, ramp=0.0, runtime=50.0)
    telemetry = read(path)
    assert telemetry.header.pid == process.pid
    assert "CPU 0/TCG" in telemetry.header.threads.values()
    assert "vmas" not in telemetry.header.unreadable
    own = [found.occasion for found in telemetry.of(7) if found.occasion is not Occasion.FULL]
    assert own == [Occasion.BEGIN, *[Occasion.MARK] * 6, Occasion.END]
    peak = telemetry.peak(7)
    assert peak is not None
    assert peak.coroutines == 200
    assert peak.vmas > 400
    first, *_, last = of(telemetry, Occasion.MARK)
    assert first.cpu_ns is not None
    assert last.cpu_ns is not None
    spent = last.cpu_ns - first.cpu_ns
    (vcpu,) = [thread for thread in last.threads if thread.name == "CPU 0/TCG"]
    before = {thread.tid: thread.cpu_ns or 0 for thread in first.threads}
    assert vcpu.cpu_ns is not None
    # The thread's own count is behind by up to a scheduler tick at each end, and is read after the process's.
    assert abs(vcpu.cpu_ns - before[vcpu.tid] - spent) < 80e6
    assert 0 < spent <= (last.seconds - first.seconds) * 1.05e9


def test_a_full_reading_tells_of_memory_faults_switches_and_host(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with like_qemu(1) as process, recording(path, process.pid):
        wait_until(lambda: len(of(read(path), Occasion.FULL)) >= 2)
    telemetry = read(path)
    one, two = of(telemetry, Occasion.FULL)[:2]
    for found in (one, two):
        assert found.rss_bytes is not None
        assert found.rss_bytes > 2**20
        assert (found.minor_faults or 0) > 100
        assert None not in {found.major_faults, found.voluntary_switches, found.involuntary_switches}
        assert found.load is not None
        assert found.iteration is None
    assert one.host_busy_seconds is not None
    assert two.host_busy_seconds is not None
    assert two.host_busy_seconds > one.host_busy_seconds, "the process is busy"
    for name in ("frequency_mhz", "throttled", "host_steal_seconds"):
        assert (getattr(one, name) is None) == (name in telemetry.header.unreadable)


def test_the_record_says_what_the_file_holds_and_what_it_cost(tmp_path: Path) -> None:
    path = tmp_path / telemetry_file(1)
    with like_qemu(64) as process, recording(path, process.pid) as (recorder, _probe):
        wait_until(lambda: len(of(read(path), Occasion.FULL)) >= 3)
    record = recorder.record
    assert record is not None
    assert record.file == "telemetry-boot1.jsonl"
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    telemetry = read(path)
    assert record.readings == len(telemetry.readings)
    assert of(telemetry, Occasion.LAST) == [telemetry.readings[-1]]
    assert record.seconds == pytest.approx(telemetry.readings[-1].seconds, abs=0.001)
    assert record.peak is not None
    assert record.peak.coroutines == 64
    assert record.qemu_cpu_seconds is not None
    assert record.qemu_cpu_seconds > 0
    assert record.cpu_seconds > 0
    assert record.share == record.cpu_seconds / record.seconds
    assert record.problem is None


def test_sixty_thousand_mappings_are_counted_seldom(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    with (
        like_qemu(30_000) as much,
        like_qemu(1) as little,
        recording(large, much.pid),
        recording(small, little.pid),
    ):
        wait_until(lambda: len(of(read(small), Occasion.FULL)) >= 4)
    (only,) = of(read(large), Occasion.FULL)
    assert only.coroutines == 30_000
    assert only.vmas is not None
    assert only.vmas > 60_000


def test_a_process_that_dies_leaves_what_was_last_seen(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with like_qemu(5) as process, recording(path, process.pid) as (recorder, probe):
        wait_until(lambda: of(read(path), Occasion.FULL))
        process.kill()
        process.wait()
        assert recorder.end() is None
    assert probe.last is not None
    assert probe.last.coroutines == 5
    assert recorder.record is not None
    assert recorder.record.peak == probe.last
    assert (recorder.record.qemu_cpu_seconds or 0) > 0
    assert all(found.cpu_ns is not None for found in read(path).readings), "nothing is made up"


def test_a_harness_that_is_killed_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    script = (
        "import sys, time; from pathlib import Path\n"
        "from harness.adapters.emulator import MappingsProbe\n"
        "from harness.adapters.telemetry.sampler import TelemetryRecorder\n"
        "pid = int(sys.argv[1])\n"
        "recorder = TelemetryRecorder(Path(sys.argv[2]), pid, MappingsProbe(pid))\n"
        "recorder.start(); recorder.begin(0, ramp=0, runtime=600); time.sleep(600)\n"
    )
    with like_qemu(9) as process:
        harness = subprocess.Popen([sys.executable, "-c", script, str(process.pid), str(path)], cwd=ROOT)
        wait_until(lambda: path.exists() and len(of(read(path), Occasion.FULL)) >= 2)
        harness.kill()
        harness.wait()
    peak = read(path).peak(0)
    assert peak is not None
    assert peak.coroutines == 9


def test_a_process_of_somebody_else_has_telemetry_without_mappings(unprivileged: Path) -> None:
    path = unprivileged / "t.jsonl"
    with recording(path, 1) as (recorder, _probe):
        recorder.begin(0, ramp=0.0, runtime=1.0)
        assert recorder.end() is None
    telemetry = read(path)
    assert "may not be read by this user" in telemetry.header.unreadable["vmas"]
    assert telemetry.peak() is None
    assert recorder.record is not None
    assert recorder.record.peak is None
    assert recorder.record.qemu_cpu_seconds is not None, "what everybody may see is there"
    assert all(found.cpu_ns is not None and found.threads for found in telemetry.readings)


def test_a_process_on_another_host_leaves_a_header_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with recording(path, None) as (recorder, _probe):
        recorder.begin(0, ramp=0.0, runtime=1.0)
        assert recorder.end() is None
    telemetry = read(path)
    assert telemetry.readings == ()
    assert "another host" in telemetry.header.unreadable["pid"]
    assert recorder.record is not None
    assert recorder.record.qemu_cpu_seconds is None
    assert recorder.record.share is None


def test_a_full_disk_ends_the_telemetry_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with like_qemu(3) as process, recording(path, process.pid) as (recorder, _probe):
        wait_until(lambda: of(read(path), Occasion.FULL))
        # A limit on the size of files behaves like a full disk: a line is cut short, or refused.
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))
        try:
            mappings = recorder.end()
            recorder.end()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert mappings is not None
        assert mappings.coroutines == 3, "the campaign goes on"
    assert recorder.record is not None
    assert recorder.record.problem is not None
    assert "t.jsonl ends early" in recorder.record.problem
    assert len(read(path).readings) == recorder.record.readings


def test_closing_twice_does_no_harm(tmp_path: Path) -> None:
    with like_qemu(1) as process, recording(tmp_path / "t.jsonl", process.pid) as (recorder, _probe):
        recorder.close()
        record = recorder.record
    assert recorder.record == record
