"""What telemetry says of an iteration: metrics beside those of fio."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from harness.core.perf_events import COUNTER_METRICS, Mode, counted_rates, multiplexed
from harness.core.procfs import ThreadKind, thread_kind
from harness.core.telemetry import Occasion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.telemetry import Reading, Telemetry

_COUNTED = ("vmas", "coroutines", "headroom")

TELEMETRY_METRICS = (
    *_COUNTED,
    *(f"{name}_cpu_ns_per_io" for name in ("qemu", ThreadKind.VCPU, ThreadKind.IOTHREAD, ThreadKind.MAIN)),
    *COUNTER_METRICS,
)
"""What `measured` may give."""

_MARKS = 10
_CLOSEST_S = 0.1
_EARLIEST_S = 0.3
_LATE_S = 0.05
"""How late the last mark may be: fio never starts sooner than this."""
_SHORTEST_S = 0.2
"""Between two marks: threads' times are exact to some 4 ms."""


def mark_times(*, ramp: float, runtime: float) -> list[float]:
    """Return when to look at CPU time, in seconds after an iteration is started.

    When fio really began is known only when it has ended, so there are several, and `io_window` picks.
    """
    step, end = max(_CLOSEST_S, runtime / _MARKS), ramp + runtime
    count = max(1, int((end - max(ramp, _EARLIEST_S)) / step + 1e-9) + 1)
    return [end - step * back for back in reversed(range(count))]


def io_window(
    telemetry: Telemetry, iteration: int, *, ramp: float, runtime: float
) -> tuple[Reading, Reading] | None:
    """Return the first and the last mark between which fio was surely at work; None when there are none.

    fio does no I/O at first: a shell, a fork, under TCG most of a second. Say an iteration took L seconds
    more than ramp and runtime: fio, which needs both, cannot have begun later than L, nor ended before both
    had passed. So between ramp + L and ramp + runtime it was measuring. Where that is less than half of the
    runtime, what came before is used too: from L on it was doing the same I/O.
    """
    readings = telemetry.of(iteration)
    ends = {reading.occasion: reading.seconds for reading in readings}
    if Occasion.BEGIN not in ends or Occasion.END not in ends:
        return None
    began = ends[Occasion.BEGIN]
    late = max(0.0, ends[Occasion.END] - began - ramp - runtime)
    for earliest, shortest in ((ramp + late, runtime / 2), (late, 0.0)):
        marks = [
            reading
            for reading in readings
            if reading.occasion is Occasion.MARK
            and earliest <= reading.seconds - began <= ramp + runtime + _LATE_S
        ]
        if marks and marks[-1].seconds - marks[0].seconds >= max(shortest, _SHORTEST_S):
            return marks[0], marks[-1]
    return None


def cpu_rates(first: Reading, second: Reading, *, pid: int | None) -> dict[str, float]:
    """Return the CPU nanoseconds a second that QEMU used between two readings.

    Returns:
        ``qemu`` for the whole process, and the kinds of its threads but workers, which come and go.
    """
    spent: dict[str, float] = {}
    if first.cpu_ns is not None and second.cpu_ns is not None:
        spent["qemu"] = second.cpu_ns - first.cpu_ns
    before = {thread.tid: thread.cpu_ns for thread in first.threads}
    for thread in second.threads:
        kind = thread_kind(thread.name, is_main=thread.tid == pid)
        # A thread that was not there yet had used nothing.
        earlier = before.get(thread.tid, 0)
        if kind is not ThreadKind.WORKER and thread.cpu_ns is not None and earlier is not None:
            spent[kind.value] = spent.get(kind.value, 0) + thread.cpu_ns - earlier
    return {name: ns / (second.seconds - first.seconds) for name, ns in spent.items()}


def measured(
    telemetry: Telemetry, iteration: int, *, iops: float, ramp: float, runtime: float
) -> dict[str, float]:
    """Return what telemetry says of an iteration, by metric; what was not measured is not there.

    Builds are compared by ratios, so that a number must be above zero: no coroutine at all, or a thread that
    never ran between the marks, gives none.

    Args:
        telemetry: of the boot it ran in.
        iteration: its number in the plan.
        iops: what fio measured.
        ramp: seconds it ran unmeasured.
        runtime: seconds it measured.
    """
    found: dict[str, float] = {}
    if most := telemetry.peak(iteration):
        found |= {"vmas": most.vmas, "coroutines": most.coroutines}
        if telemetry.header.max_map_count is not None:
            # The kernel lists an area that it does not count: at the very limit the difference is below 0.
            found["headroom"] = max(1, telemetry.header.max_map_count - most.vmas)
    window = io_window(telemetry, iteration, ramp=ramp, runtime=runtime)
    if window and iops > 0:
        header = telemetry.header
        rates = cpu_rates(*window, pid=header.pid)
        found |= {f"{name}_cpu_ns_per_io": rate / iops for name, rate in rates.items()}
        counted = counted_rates(*window, events=header.counters, pid=header.pid)
        found |= {f"{name}_per_io": rate / iops for name, rate in counted.items()}
    return {name: float(value) for name, value in found.items() if value > 0}


def why_missing(metric: str, seen: Sequence[Telemetry]) -> str:
    """Return why a run that has these telemetry files lacks one of `TELEMETRY_METRICS`."""
    if not seen:
        return "its sessions have no telemetry: they were measured by an older version, or the files are lost"
    unreadable = {name: why for telemetry in seen for name, why in telemetry.header.unreadable.items()}
    if reasons := [unreadable[name] for name in _needed(metric) if name in unreadable]:
        return reasons[0]
    if metric in _COUNTED:
        return "QEMU's mappings were never seen" if metric == "vmas" else f"no {metric} could be counted"
    if metric in COUNTER_METRICS and (why := _why_not_counted(seen)):
        return why
    if any(reading.occasion is Occasion.MARK for telemetry in seen for reading in telemetry.readings):
        return (
            "fio took longer to start than it measured (a longer runtime helps), or QEMU has no such thread"
        )
    return "CPU time was never read while an iteration ran"


def _needed(metric: str) -> tuple[str, ...]:
    """Return what has to be readable for a metric."""
    if metric in _COUNTED:
        return ("pid", "vmas")
    if metric not in COUNTER_METRICS:
        return ("pid", "cpu_ns", "threads")
    return ("pid", "counts") if metric.startswith(Mode.USER) else ("pid", "counts", "kernel_counts")


def _why_not_counted(seen: Sequence[Telemetry]) -> str | None:
    if not any(telemetry.header.counters for telemetry in seen):
        return "hardware counters were not read: it was measured by an older version"
    shares: list[float] = []
    for telemetry in seen:
        marks = [reading for reading in telemetry.readings if reading.occasion is Occasion.MARK]
        pairs = (pair for pair in pairwise(marks) if pair[0].iteration == pair[1].iteration)
        shares += [share for pair in pairs if (share := multiplexed(*pair)) is not None]
    if shares:
        return (
            f"the counters were shared with somebody and counted only {min(shares):.0%} of the time: end "
            "what else counts (perf; sysctl kernel.nmi_watchdog=0)"
        )
    if any(counts.values is None for telemetry in seen for r in telemetry.readings for counts in r.counts):
        return "a thread of QEMU could not be counted: raise `ulimit -n`, each takes 4 open files"
    return None
