"""Telemetry files, and what they say of an iteration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.mappings import Mappings
from harness.core.telemetry import Occasion, Reading, Telemetry, TelemetryHeader, ThreadTime, parse_telemetry
from harness.core.telemetry_metrics import io_window, mark_times, measured, why_missing

MS = 10**6
PID = 100
HEADER = TelemetryHeader(1, PID, "2026-01-01T00:00:00.000+00:00", 65530, "clock", "schedstat")


def reading(occasion: Occasion, seconds: float, iteration: int | None = 3, **fields: Any) -> Reading:
    return Reading(occasion, "2026-01-01T00:00:00.000+00:00", seconds, iteration, **fields)


def cpu(main: int, vcpu: int, io: int, worker: int) -> dict[str, Any]:
    """Return a reading's CPU times, given in ms a thread; threads that ended had used 50 ms."""
    named = {"qemu": main, "CPU 0/TCG": vcpu, "IO iothread1": io, "worker": worker}
    threads = tuple(ThreadTime(PID + n, name, ms * MS) for n, (name, ms) in enumerate(named.items()))
    return {"cpu_ns": (main + vcpu + io + worker + 50) * MS, "threads": threads}


def iteration(*marks: Reading, began: float = 10.0, took: float = 2.5) -> Telemetry:
    """Return the telemetry of iteration 3."""
    begin, end = reading(Occasion.BEGIN, began), reading(Occasion.END, began + took, vmas=500, coroutines=64)
    return Telemetry(
        HEADER, (reading(Occasion.FULL, 1.0, None, vmas=900, coroutines=300), begin, *marks, end)
    )


def lines(telemetry: Telemetry) -> bytes:
    everything = (telemetry.header, *telemetry.readings)
    return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in everything)


WRITTEN = iteration(reading(Occasion.MARK, 11.0, **cpu(1, 2, 3, 4)))


# Files


def test_a_file_reads_back_as_it_was_written() -> None:
    assert parse_telemetry(lines(WRITTEN)) == WRITTEN


@given(st.data())
def test_a_crash_loses_at_most_the_last_line(data: st.DataObject) -> None:
    whole = lines(WRITTEN)
    first = whole.index(b"\n") + 1
    cut = data.draw(st.integers(first, len(whole)))
    found = parse_telemetry(whole[:cut])
    complete = whole[first:cut].count(b"\n")
    assert found.readings == WRITTEN.readings[:complete]


@given(
    st.integers(0, len(WRITTEN.readings)), st.sampled_from([b"", b"{", b'{"seconds": 1}', b"null", b"\0\0"])
)
def test_any_other_damage_is_an_error_that_names_the_line(number: int, rubbish: bytes) -> None:
    damaged = lines(WRITTEN).splitlines()
    damaged[number] = rubbish
    with pytest.raises(ValueError, match=rf"^line {number + 1}: "):
        parse_telemetry(b"\n".join(damaged) + b"\n")


def test_no_header_and_a_newer_format_are_refused() -> None:
    for text in (b"", lines(WRITTEN)[:20]):
        with pytest.raises(ValueError, match="has no header"):
            parse_telemetry(text)
    with pytest.raises(ValueError, match="format version 2"):
        parse_telemetry(lines(replace(WRITTEN, header=replace(HEADER, format_version=2))))


# When to look


@given(st.floats(0, 60), st.floats(0.2, 600))
def test_cpu_time_is_looked_at_from_the_ramp_to_the_end_and_not_too_often(
    ramp: float, runtime: float
) -> None:
    times = mark_times(ramp=ramp, runtime=runtime)
    assert times == sorted(times)
    assert times[-1] == ramp + runtime
    assert times[0] >= min(max(ramp, 0.3), ramp + runtime) - 1e-6
    assert len(times) <= 11


# CPU time a request


def test_cpu_time_a_request_is_that_between_marks_at_which_fio_measured() -> None:
    telemetry = iteration(
        reading(Occasion.MARK, 10.4, **cpu(0, 0, 0, 0)),  # fio may have hardly started
        reading(Occasion.MARK, 11.0, **cpu(10, 100, 40, 0)),
        reading(Occasion.MARK, 12.0, **cpu(30, 600, 140, 5)),
    )
    found = measured(telemetry, 3, iops=1000.0, ramp=0.0, runtime=2.0)
    assert found == {
        "vmas": 500, "coroutines": 64, "headroom": 65030,
        "qemu_cpu_ns_per_io": 625_000, "vcpu_cpu_ns_per_io": 500_000, "iothread_cpu_ns_per_io": 100_000,
        "main_cpu_ns_per_io": 20_000,
    }  # fmt: skip


def test_a_short_runtime_uses_the_ramp_as_well_but_never_the_start() -> None:
    marks = [reading(Occasion.MARK, 10 + at / 10, **cpu(0, at * 10, 0, 0)) for at in range(5, 16)]
    window = io_window(iteration(*marks, took=2.2), 3, ramp=0.5, runtime=1.0)
    assert window is not None
    assert (window[0].seconds, window[1].seconds) == (10.7, 11.5)


def test_without_a_time_in_which_fio_surely_worked_there_is_no_cpu_time_a_request() -> None:
    marks = [reading(Occasion.MARK, 10 + at / 10, **cpu(0, at, 0, 0)) for at in range(3, 11)]
    found = measured(iteration(*marks, took=2.0), 3, iops=1000.0, ramp=0.0, runtime=1.0)
    assert set(found) == {"vmas", "coroutines", "headroom"}


def test_threads_that_cannot_be_told_or_did_not_run_have_no_number() -> None:
    unnamed = (ThreadTime(PID, "qemu", 5 * MS), ThreadTime(PID + 1, "qemu", 9 * MS))
    telemetry = iteration(
        reading(Occasion.MARK, 11.0, cpu_ns=MS, threads=unnamed),
        reading(Occasion.MARK, 12.0, cpu_ns=2 * MS, threads=unnamed),
    )
    found = measured(telemetry, 3, iops=1000.0, ramp=0.0, runtime=2.0)
    assert {name for name in found if "cpu" in name} == {"qemu_cpu_ns_per_io"}


def test_a_thread_that_started_meanwhile_had_used_nothing_before() -> None:
    one = (ThreadTime(PID + 1, "IO a", 10 * MS),)
    telemetry = iteration(
        reading(Occasion.MARK, 11.0, threads=one),
        reading(Occasion.MARK, 12.0, threads=(*one, ThreadTime(PID + 2, "IO b", 7 * MS))),
    )
    found = measured(telemetry, 3, iops=1000.0, ramp=0.0, runtime=2.0)
    assert found["iothread_cpu_ns_per_io"] == 7000
    assert "qemu_cpu_ns_per_io" not in found


# Mappings


def test_the_peak_of_an_iteration_is_not_that_of_the_boot() -> None:
    telemetry = iteration(reading(Occasion.FULL, 11.0, vmas=450, coroutines=70))
    assert telemetry.peak(3) == Mappings(500, 70)
    assert telemetry.peak() == Mappings(900, 300)
    assert telemetry.peak(4) is None


def test_what_was_not_counted_is_absent_and_no_coroutine_gives_no_ratio() -> None:
    blind = Telemetry(HEADER, (reading(Occasion.END, 5.0, cpu_ns=1),))
    assert measured(blind, 3, iops=1.0, ramp=0.0, runtime=1.0) == {}
    none = Telemetry(HEADER, (reading(Occasion.END, 5.0, vmas=70, coroutines=0),))
    assert set(measured(none, 3, iops=1.0, ramp=0.0, runtime=1.0)) == {"vmas", "headroom"}


def test_at_the_limit_the_headroom_is_one() -> None:
    full = Telemetry(HEADER, (reading(Occasion.END, 5.0, vmas=65531, coroutines=3),))
    assert measured(full, 3, iops=1.0, ramp=0.0, runtime=1.0)["headroom"] == 1
    unknown = replace(full, header=replace(HEADER, max_map_count=None))
    assert "headroom" not in measured(unknown, 3, iops=1.0, ramp=0.0, runtime=1.0)


# Why not


def test_why_a_metric_is_missing() -> None:
    hidden = replace(WRITTEN, header=replace(HEADER, unreadable={"vmas": "/proc/100/maps may not be read"}))
    assert "no telemetry" in why_missing("vmas", [])
    assert why_missing("headroom", [hidden]) == "/proc/100/maps may not be read"
    assert "a longer runtime helps" in why_missing("qemu_cpu_ns_per_io", [hidden])
    remote = Telemetry(replace(HEADER, pid=None, unreadable={"pid": "QEMU runs on another host"}), ())
    assert why_missing("main_cpu_ns_per_io", [remote]) == "QEMU runs on another host"
