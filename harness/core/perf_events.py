"""Hardware counters of threads: what is counted, how the kernel answers, and what may be concluded from it.

The kernel counts by itself, at no cost to whom it counts; what is read are numbers that grow. If more is
counted on a CPU than it has counters for, the kernel takes turns (it multiplexes), and says so only by
having counted for less time than the thread ran. Such a number is an estimate, and is not used.
"""

from __future__ import annotations

import errno
import struct
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.core.procfs import ThreadKind, thread_kind

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harness.core.telemetry import Reading

_HARDWARE = 0
_CYCLES, _INSTRUCTIONS = 0, 1
_HEAD = struct.Struct("=QQQ")
_ESTIMATED = 1e-3
"""Of the time a thread ran, that its counters may have been away before that counts as multiplexing."""


class Mode(StrEnum):
    """In which mode of the processor something is counted."""

    USER = "user"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that the kernel counts of a thread.

    Attributes:
        name: what, in the plural: ``instructions``.
        mode: where.
        type: perf_event_attr's field of that name.
        config: likewise.
    """

    name: str
    mode: Mode
    type: int
    config: int

    @property
    def label(self) -> str:
        """What telemetry calls it: ``user_instructions``."""
        return f"{self.mode}_{self.name}"


HARDWARE_EVENTS = tuple(
    Event(name, mode, _HARDWARE, config)
    for mode in Mode
    for name, config in (("instructions", _INSTRUCTIONS), ("cycles", _CYCLES))
)
"""Those of user mode come first: where the kernel may not be counted, they are what is left."""

_KINDS = (ThreadKind.VCPU, ThreadKind.IOTHREAD, ThreadKind.MAIN)

COUNTER_METRICS = tuple(
    f"{prefix}{name}_per_io"
    for name in ("instructions", "cycles")
    for prefix in ("", *(f"{mode}_" for mode in Mode), *(f"{kind}_" for kind in _KINDS))
)
"""What `counted_rates` may give, a request."""


@dataclass(frozen=True, slots=True)
class ThreadCounts:
    """The counters of one thread since they were opened.

    Attributes:
        tid: its id.
        name: its comm.
        values: in the order of the header's ``counters``; None when they could not be opened for it.
        enabled_ns: how long the thread ran since then.
        running_ns: how long of it the counters counted.
    """

    tid: int
    name: str
    values: tuple[int, ...] | None
    enabled_ns: int = 0
    running_ns: int = 0


def parse_group(data: bytes) -> tuple[tuple[int, ...], int, int]:
    """Return the values of a group of counters, and for how long (ns) they were enabled and running.

    Args:
        data: as the kernel gives it for PERF_FORMAT_GROUP with both times.

    Raises:
        ValueError: it is something else.
    """
    if len(data) < _HEAD.size:
        raise ValueError(f"{len(data)} bytes are no group of counters")
    number, enabled, running = _HEAD.unpack_from(data)
    if len(data) != _HEAD.size + 8 * number:
        raise ValueError(f"{len(data)} bytes are no group of {number} counters")
    return struct.unpack_from(f"={number}Q", data, _HEAD.size), enabled, running


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why counters cannot be had.

    Attributes:
        reason: what is the matter.
        remedy: what to do about it.
    """

    reason: str
    remedy: str


def refusal(number: int, *, paranoid: str | None) -> Refusal:
    """Return what the kernel's refusal to open a counter means.

    Args:
        number: the errno of perf_event_open.
        paranoid: ``kernel.perf_event_paranoid``; None when it could not be read.
    """
    name = errno.errorcode.get(number, str(number))
    if number in {errno.EACCES, errno.EPERM}:
        return Refusal(
            f"this user may not count ({name}; kernel.perf_event_paranoid is {paranoid or 'not readable'})",
            "run as root, give the harness CAP_PERFMON, or: sysctl kernel.perf_event_paranoid=1 "
            "(a container's seccomp profile may refuse it too)",
        )
    if number in {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}:
        return Refusal(
            f"this machine offers no hardware counters ({name}), as most virtual machines",
            "measure on the bare machine, or give the virtual one a PMU (libvirt: <pmu state='on'/> among "
            "its features)",
        )
    if number == errno.ENOSYS:
        return Refusal(
            f"this kernel counts nothing ({name}: no CONFIG_PERF_EVENTS)", "use a distribution's kernel"
        )
    if number in {errno.EMFILE, errno.ENFILE}:
        return Refusal(f"too many files are open ({name})", "raise `ulimit -n`: a thread takes 4")
    if number == errno.EINVAL:
        return Refusal(
            f"the counters needed do not fit into this processor at once ({name})",
            "leave counters free (sysctl kernel.nmi_watchdog=0)",
        )
    return Refusal(f"perf_event_open failed ({name})", "see `man perf_event_open`")


def multiplexed(first: Reading, second: Reading) -> float | None:
    """Return the smallest share of its time for which a thread was counted between two readings.

    Returns:
        None where all were counted all the time.
    """
    before = {counts.tid: counts for counts in first.counts}
    shares = [1.0]
    for now in second.counts:
        if now.values is None:
            continue
        then = before.get(now.tid)
        enabled = now.enabled_ns - (then.enabled_ns if then else 0)
        running = now.running_ns - (then.running_ns if then else 0)
        if enabled > 0:
            shares.append(running / enabled)
    return min(shares) if min(shares) < 1 - _ESTIMATED else None


def counted_rates(
    first: Reading, second: Reading, *, events: Sequence[str], pid: int | None
) -> dict[str, float]:
    """Return what QEMU's threads counted a second between two readings.

    Args:
        first: with counts.
        second: with counts.
        events: the labels of their values.
        pid: QEMU's: the id of its main loop.

    Returns:
        ``user_instructions`` ... of all threads; ``instructions`` where both modes were counted, and then
        ``iothread_instructions`` ... of the kinds of threads too. Nothing where the counters were
        multiplexed; and nothing of a thread that could not be counted, nor of sums that would hold it.
    """
    if not events or not first.counts or not second.counts or multiplexed(first, second):
        return {}
    counted, blind = _spent(first, second, pid, len(events))
    names = {label.partition("_")[2] for label in events}
    both = {name for name in names if {f"{mode}_{name}" for mode in Mode} <= set(events)}
    found: dict[str, float] = {}
    if not blind:
        total = [sum(column) for column in zip(*counted.values(), strict=True)]
        found |= dict(zip(events, total, strict=True))
        found |= {name: _of(name, events, total) for name in both}
    for kind in _KINDS:
        if kind in counted and kind not in blind:
            found |= {f"{kind}_{name}": _of(name, events, counted[kind]) for name in both}
    seconds = second.seconds - first.seconds
    return {name: value / seconds for name, value in found.items()}


def _of(name: str, events: Sequence[str], values: Sequence[float]) -> float:
    return sum(value for label, value in zip(events, values, strict=True) if label.endswith(f"_{name}"))


def _spent(
    first: Reading, second: Reading, pid: int | None, events: int
) -> tuple[dict[ThreadKind, list[float]], Collection[ThreadKind]]:
    """Return what each kind of threads counted, and the kinds of which a thread was not counted."""
    before = {counts.tid: counts for counts in first.counts}
    counted: dict[ThreadKind, list[float]] = defaultdict(lambda: [0.0] * events)
    blind: set[ThreadKind] = set()
    for now in second.counts:
        kind = thread_kind(now.name, is_main=now.tid == pid)
        then = before.get(now.tid)
        if now.values is None or (then is not None and then.values is None):
            blind.add(kind)
            continue
        # One that began meanwhile was counted from when it was first seen.
        earlier = then.values if then and then.values else (0,) * events
        for index, (value, start) in enumerate(zip(now.values, earlier, strict=True)):
            counted[kind][index] += value - start
    return dict(counted), blind
