"""Hardware counters of another process's threads, by perf_event_open(2)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.adapters.host.facts import read_setting
from harness.core.perf_events import HARDWARE_EVENTS, Event, Mode, Refusal, ThreadCounts, parse_group, refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_CALL = {"x86_64": 298, "ppc64le": 319, "ppc64": 319, "s390x": 331, "aarch64": 241, "riscv64": 241}
"""The system call's number, of 64-bit processes; the C library has no function for it."""

_BOTH_TIMES_OF_A_GROUP = 1 | 2 | 8
_CLOSE_ON_EXEC = 8
_ANSWER_BYTES = 4096
_POINTER_BITS = 64


class _Attributes(ctypes.Structure):
    """perf_event_attr in its first, shortest version: what is not named here stays 0."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("disabled_to_exclusive", ctypes.c_uint64, 4),
        ("exclude_user", ctypes.c_uint64, 1),
        ("exclude_kernel", ctypes.c_uint64, 1),
        ("exclude_hv_to_exclude_host", ctypes.c_uint64, 14),
        ("exclude_guest", ctypes.c_uint64, 1),
        ("rest", ctypes.c_uint64, 43),
        ("wakeup_events", ctypes.c_uint32),
        ("breakpoint_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be counted of a thread here.

    Attributes:
        events: in the order in which they are read; none where nothing can be counted.
        refused: why nothing, or nothing in kernel mode, can be; None where everything can.
    """

    events: tuple[Event, ...]
    refused: Refusal | None = None


def offer(tid: int, wanted: Sequence[Event] = HARDWARE_EVENTS) -> Offer:
    """Return which events the kernel would count of a thread: all, those of user mode, or none.

    Args:
        tid: its id; 0 is the caller's own.
        wanted: the events, those of user mode first.
    """
    modest = tuple(event for event in wanted if event.mode is Mode.USER)
    refused: Refusal | None = None
    for events in (tuple(wanted), modest):
        try:
            _close(_open_group(tid, events))
        except OSError as error:
            paranoid = read_setting("/proc/sys/kernel/perf_event_paranoid")
            refused = refused or refusal(error.errno or 0, paranoid=paranoid)
        else:
            return Offer(events, refused)
    return Offer((), refused)


@dataclass(slots=True)
class ThreadCounters:
    """The counters of a process's threads; opened once a thread, from then on only read.

    Attributes:
        events: as `offer` gave them.
    """

    events: tuple[Event, ...]
    _groups: dict[int, list[int]] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)

    def forget(self, living: Collection[int]) -> None:
        """Close the counters of threads that are not among these ids."""
        for tid in set(self._groups) - set(living):
            _close(self._groups.pop(tid))
            del self._names[tid]

    def read(self, living: Mapping[int, str]) -> tuple[ThreadCounts, ...]:
        """Return what each thread counted; those seen for the first time begin now.

        Args:
            living: the names of the threads, by id. Threads that ended keep what they counted.
        """
        if not self.events:
            return ()
        for tid in living:
            if tid not in self._groups:
                self._begin(tid)
        self._names |= {tid: name for tid, name in living.items() if tid in self._groups}
        return tuple(self._counts(tid, group) for tid, group in sorted(self._groups.items()))

    def close(self) -> None:
        """Close everything."""
        self.forget(())

    def _begin(self, tid: int) -> None:
        try:
            self._groups[tid] = _open_group(tid, self.events)
        except OSError as error:
            if error.errno != errno.ESRCH:
                # It lives, and cannot be counted: that has to be known.
                self._groups[tid] = []

    def _counts(self, tid: int, group: Sequence[int]) -> ThreadCounts:
        with contextlib.suppress(OSError, ValueError):
            if group:
                return ThreadCounts(tid, self._names[tid], *parse_group(os.read(group[0], _ANSWER_BYTES)))
        return ThreadCounts(tid, self._names[tid], None)


def _open_group(tid: int, events: Sequence[Event]) -> list[int]:
    """Open events of a thread so that all are counted together or none; the first one reads them all.

    Raises:
        OSError: the kernel refuses one of them.
    """
    group: list[int] = []
    try:
        for event in events:
            group.append(_open(tid, event, group[0] if group else -1))
    except OSError:
        _close(group)
        raise
    return group


def _open(tid: int, event: Event, leader: int) -> int:
    number = _CALL.get(platform.machine()) if ctypes.sizeof(ctypes.c_void_p) * 8 == _POINTER_BITS else None
    if number is None:
        raise OSError(errno.ENOSYS, "perf_event_open is not known of this architecture")
    attributes = _Attributes(
        type=event.type,
        size=ctypes.sizeof(_Attributes),
        config=event.config,
        read_format=_BOTH_TIMES_OF_A_GROUP,
        exclude_user=event.mode is Mode.KERNEL,
        exclude_kernel=event.mode is Mode.USER,
        # What a vCPU does inside its guest under KVM is the guest's.
        exclude_guest=True,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    found: int = libc.syscall(
        ctypes.c_long(number),
        ctypes.byref(attributes),
        ctypes.c_int(tid),
        ctypes.c_int(-1),
        ctypes.c_int(leader),
        ctypes.c_ulong(_CLOSE_ON_EXEC),
    )
    if found < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
    return found


def _close(group: Sequence[int]) -> None:
    for descriptor in group:
        with contextlib.suppress(OSError):
            os.close(descriptor)
