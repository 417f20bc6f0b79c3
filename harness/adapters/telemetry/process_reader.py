"""One QEMU process and its host, read from /proc and /sys; what cannot be read is None, with a reason."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.procfs import (
    parse_host_stat,
    parse_loadavg,
    parse_schedstat,
    parse_stat,
    parse_status,
)
from harness.core.telemetry import ThreadTime

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.adapters.emulator import MappingsProbe

_CHUNK_BYTES = 65536
_NS_PER_S = 10**9
_CPUS = Path("/sys/devices/system/cpu")


class ProcessReader:
    """Reads what a telemetry reading consists of, cheaply: some 10 us a thread.

    Args:
        pid: QEMU's process.
        probe: counts its mappings.

    Attributes:
        process_clock: where the process's CPU time comes from: ``clock``, ``ticks`` or nowhere.
        thread_clock: where the threads' comes from: ``schedstat``, ``ticks`` or nowhere.
        names: the threads' names as last seen, by id.
        unreadable: what could not be read when this was made, and why: a field of a reading -> a reason.
    """

    def __init__(self, pid: int, probe: MappingsProbe) -> None:
        self._root = f"/proc/{pid}"
        self._probe = probe
        self._ns_per_tick = _NS_PER_S // os.sysconf("SC_CLK_TCK")
        # What clock_getcpuclockid(3) returns: a thread's CPU time may be asked of its own process only, a
        # process's of any.
        self._clock = (~pid << 3) | 2
        self._frequencies = sorted(_CPUS.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._throttles = sorted(_CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
        self.names: dict[int, str] = {}
        self.unreadable: dict[str, str] = {}
        self.process_clock = self._find_process_clock()
        self.thread_clock = self._find_thread_clock(pid)
        self._find_unreadable()

    def _find_process_clock(self) -> str | None:
        with contextlib.suppress(OSError):
            time.clock_gettime_ns(self._clock)
            return "clock"
        return "ticks" if self._ticks(self._root) is not None else None

    def _find_thread_clock(self, pid: int) -> str | None:
        main = f"{self._root}/task/{pid}"
        if parse_schedstat(_read(f"{main}/schedstat")) is not None:
            return "schedstat"
        return "ticks" if self._ticks(main) is not None else None

    def _find_unreadable(self) -> None:
        hidden = f"{self._root} shows nothing to this user, or the process is gone"
        found = self.everything()
        if self._probe.hidden:
            self.unreadable |= dict.fromkeys(("vmas", "coroutines"), self._probe.hidden)
        reasons = {
            "frequency_mhz": "this host tells no CPU frequency (no cpufreq)",
            "throttled": "this host counts no thermal throttling",
            "host_steal_seconds": "this kernel counts no steal time",
        }
        for name, value in found.items():
            if value is None or (name == "threads" and not self.thread_clock):
                self.unreadable.setdefault(name, reasons.get(name, hidden))

    def cpu(self) -> dict[str, Any]:
        """Return the CPU times of a reading: of the process, and of each thread by the name last seen."""
        threads = [ThreadTime(tid, self._name(tid), self._thread_ns(tid)) for tid in self._thread_ids()]
        return {"cpu_ns": self._process_ns(), "threads": tuple(threads)}

    def everything(self) -> dict[str, Any]:
        """Return every field of a reading but its time."""
        # Threads are renamed after they are made: names are read anew now and then.
        self.names.clear()
        found = self.cpu()
        mappings = self._probe.look()
        return (
            found
            | {
                "vmas": mappings.vmas if mappings else None,
                "coroutines": mappings.coroutines if mappings else None,
            }
            | self._memory_and_faults()
            | self._switches([thread.tid for thread in found["threads"]])
            | self._host()
        )

    def _process_ns(self) -> int | None:
        if self.process_clock == "clock":
            with contextlib.suppress(OSError):
                return time.clock_gettime_ns(self._clock)
        return self._ticks(self._root)

    def _thread_ids(self) -> list[int]:
        try:
            return sorted(map(int, os.listdir(f"{self._root}/task")))  # noqa: PTH208 - a third of the cost
        except OSError:
            return []

    def _name(self, tid: int) -> str:
        if tid not in self.names:
            self.names[tid] = _read(f"{self._root}/task/{tid}/comm").rstrip("\n")
        return self.names[tid]

    def _thread_ns(self, tid: int) -> int | None:
        thread = f"{self._root}/task/{tid}"
        if self.thread_clock == "schedstat":
            return parse_schedstat(_read(f"{thread}/schedstat"))
        return self._ticks(thread)

    def _ticks(self, directory: str) -> int | None:
        stat = parse_stat(_read(f"{directory}/stat"))
        return stat.cpu_ticks * self._ns_per_tick if stat else None

    def _memory_and_faults(self) -> dict[str, Any]:
        stat, status = parse_stat(_read(f"{self._root}/stat")), parse_status(_read(f"{self._root}/status"))
        return {
            "rss_bytes": status.rss_bytes,
            "minor_faults": stat.minor_faults if stat else None,
            "major_faults": stat.major_faults if stat else None,
        }

    def _switches(self, tids: Iterable[int]) -> dict[str, Any]:
        each = [parse_status(_read(f"{self._root}/task/{tid}/status")) for tid in tids]
        return {
            "voluntary_switches": _total([status.voluntary_switches for status in each]),
            "involuntary_switches": _total([status.involuntary_switches for status in each]),
        }

    def _host(self) -> dict[str, Any]:
        stat, tick = parse_host_stat(_read("/proc/stat")), self._ns_per_tick / _NS_PER_S
        frequencies = _numbers(self._frequencies)
        return {
            "load": parse_loadavg(_read("/proc/loadavg")),
            "host_busy_seconds": round(stat.busy * tick, 3) if stat else None,
            "host_steal_seconds": round(stat.steal * tick, 3) if stat and stat.steal is not None else None,
            "frequency_mhz": round(sum(frequencies) / len(frequencies) / 1000, 1) if frequencies else None,
            "throttled": _total(list(_numbers(self._throttles))),
        }


def _total(numbers: Sequence[int | None]) -> int | None:
    """Return the sum of what could be read; None when nothing could."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _numbers(paths: Iterable[Path]) -> list[int]:
    texts = (_read(str(path)).strip() for path in paths)
    return [int(text) for text in texts if text.isascii() and text.isdigit()]


def _read(path: str) -> str:
    """Return a small file of /proc or /sys; nothing when it cannot be read: a process may go any time."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # These come whole in one go; what is longer than this is not looked at beyond it.
            return os.read(descriptor, _CHUNK_BYTES).decode(errors="replace")
        finally:
            os.close(descriptor)
    except OSError:
        return ""
