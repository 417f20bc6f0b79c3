"""The host settings that make a measurement noisy: what each should be, why, and what sets it.

One table for everybody: the doctor judges by it, a run's tuning sets by it, sessions record it, and what
changes during a run is found in it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from harness.core.model import Tuning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SERVICE = "service:"
"""How the path of a setting begins that is a system service, ``active`` or ``inactive``."""

MAX_MAP_COUNT = "vm.max_map_count"

DEEP_IDLE_US = 10
"""An idle state that takes longer to leave disturbs a measurement: a request on null-co takes some 10 us."""

_CPU = "/sys/devices/system/cpu"
_NUMBERED = re.compile(r"^(\D*)(\d+)(.*)$")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a host.

    Attributes:
        name: as sessions record it.
        path: its file, a pattern where each CPU has one; or ``service:NAME``.
        why: what it does to a measurement.
        quiet: the values that are good, the best one first; none: it is recorded, not judged.
        tuning: what an experiment writes to let a run set it; None: no run may.
        tuned: what a run sets it to; the first of the quiet values if empty.
        fix: the command that sets it by hand.
        deep_only: whether only idle states count that take longer than DEEP_IDLE_US to leave.
    """

    name: str
    path: str
    why: str
    quiet: tuple[str, ...] = ()
    tuning: Tuning | None = None
    tuned: str = ""
    fix: str = ""
    deep_only: bool = False

    @property
    def target(self) -> str | None:
        """What a run sets it to; None where no run may."""
        if self.tuning is None:
            return None
        return self.tuned or self.quiet[0]

    def is_quiet(self, value: str) -> bool:
        """Return whether a value needs no change when the setting is tuned."""
        return value in (self.quiet or (self.target,))


SETTINGS = (
    Setting(
        "governor",
        f"{_CPU}/cpu[0-9]*/cpufreq/scaling_governor",
        "the clock follows the load, so the same work takes another time after a pause",
        ("performance",),
        Tuning.GOVERNOR,
        fix=f"echo performance | tee {_CPU}/cpu*/cpufreq/scaling_governor",
    ),
    Setting(
        "intel_no_turbo",
        f"{_CPU}/intel_pstate/no_turbo",
        "turbo lasts until the CPU is warm or its neighbours work too: the first session is the fastest",
        ("1",),
        Tuning.TURBO,
        fix=f"echo 1 > {_CPU}/intel_pstate/no_turbo",
    ),
    Setting(
        "boost",
        f"{_CPU}/cpufreq/boost",
        "boost lasts until the CPU is warm or its neighbours work too: the first session is the fastest",
        ("0",),
        Tuning.TURBO,
        fix=f"echo 0 > {_CPU}/cpufreq/boost",
    ),
    Setting(
        "deep_idle_disabled",
        f"{_CPU}/cpu[0-9]*/cpuidle/state[0-9]*/disable",
        f"a CPU takes more than {DEEP_IDLE_US} us to come back from a deep idle state: at low I/O depth that "
        "is a part of every request",
        ("1",),
        Tuning.CSTATES,
        fix=f"cpupower idle-set --disable-by-latency {DEEP_IDLE_US + 1}",
        deep_only=True,
    ),
    Setting(
        "kernel.numa_balancing",
        "/proc/sys/kernel/numa_balancing",
        "it unmaps memory to see who uses it, and moves it meanwhile",
        ("0",),
        Tuning.NUMA_BALANCING,
        fix="sysctl kernel.numa_balancing=0",
    ),
    Setting(
        "ksm",
        "/sys/kernel/mm/ksm/run",
        "a thread of the kernel compares and merges guests' memory, and a write to merged memory faults",
        ("0", "2"),
        Tuning.KSM,
        fix="echo 0 > /sys/kernel/mm/ksm/run",
    ),
    Setting(
        "transparent_hugepage",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "with madvise it is the build's choice what is huge; and but for never, how much is huge depends on "
        "free memory, and khugepaged goes on merging during the run",
        ("never", "always"),
        Tuning.THP,
        fix="echo never > /sys/kernel/mm/transparent_hugepage/enabled",
    ),
    Setting(
        "irqbalance",
        f"{SERVICE}irqbalance",
        "it moves interrupts between CPUs every 10 s, also to those of vCPUs and IOThreads",
        ("inactive",),
        Tuning.IRQBALANCE,
        fix="systemctl stop irqbalance (or keep it off the guest's CPUs: IRQBALANCE_BANNED_CPULIST)",
    ),
    Setting(
        "kvm_halt_poll_ns",
        "/sys/module/kvm/parameters/halt_poll_ns",
        "how long a vCPU polls before it sleeps; it adapts, and is part of how KVM is used: recorded",
        tuning=Tuning.HALT_POLL,
        tuned="0",
    ),
    Setting(
        "guest_halt_poll_ns",
        "/sys/module/haltpoll/parameters/guest_halt_poll_ns",
        "this host is a guest itself, and polls before it halts: recorded",
    ),
    Setting(
        "smt",
        f"{_CPU}/smt/active",
        "two threads of a core slow each other down: see placement for who sits beside whom; recorded",
    ),
    Setting(
        "transparent_hugepage_defrag",
        "/sys/kernel/mm/transparent_hugepage/defrag",
        "whether a page fault waits for a huge page to be made: recorded",
    ),
    Setting(MAX_MAP_COUNT, "/proc/sys/vm/max_map_count", "what exhausted coroutine pools run into: recorded"),
    Setting("vm.overcommit_memory", "/proc/sys/vm/overcommit_memory", "recorded"),
)


def chosen(raw: str) -> str:
    """Return what is chosen of the kernel's ``always [madvise] never``; other values as they are."""
    return raw.partition("[")[2].partition("]")[0] or raw


def told(values: Mapping[str, str | None]) -> str | None:
    """Return a setting's values as one text: the value, or each with the CPUs that have it.

    Args:
        values: a value for each place (``cpu0``); None where it could not be read.

    Returns:
        ``performance``, or ``performance (cpu0-2), powersave (cpu3)``; None when nothing is known.
    """
    places: dict[str, list[str]] = defaultdict(list)
    for label, value in values.items():
        if value is not None:
            places[value].append(label)
    if len(places) < 2:  # noqa: PLR2004 - all the same
        return next(iter(places), None)
    return ", ".join(f"{value} ({spans(labels)})" for value, labels in sorted(places.items()))


def spans(labels: Iterable[str]) -> str:
    """Return places in short: ``cpu0-3, cpu8`` or ``cpu0-3/state2``."""
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    plain: list[str] = []
    for label in labels:
        if found := _NUMBERED.match(label):
            numbers[found[1], found[3]].add(int(found[2]))
        else:
            plain.append(label)
    found_spans = [
        f"{before}{span}{after}" for (before, after), ns in numbers.items() for span in ranges(ns).split(",")
    ]
    return ", ".join([*plain, *found_spans])


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as the kernel lists CPUs: ``0-3,8``."""
    parts = []
    ordered = enumerate(sorted(set(numbers)))
    for _, run in groupby(ordered, key=lambda pair: pair[1] - pair[0]):
        first, *others = [number for _, number in run]
        parts.append(f"{first}-{others[-1]}" if others else str(first))
    return ",".join(parts)


def cpu_numbers(text: str) -> frozenset[int]:
    """Return the CPUs of ``0-3,8`` or ``0-7,^4``.

    Raises:
        ValueError: the text is no such list.
    """
    found: set[int] = set()
    without: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, dash, last = part.removeprefix("^").partition("-")
        numbers = range(int(first), int(last if dash else first) + 1)
        (without if part.startswith("^") else found).update(numbers)
    return frozenset(found - without)


def allowed(tuning: Iterable[Tuning]) -> tuple[Setting, ...]:
    """Return the settings that an experiment lets a run change.

    ``all`` are those that have a quiet value; halt polling, a part of how KVM is used, is asked for by name.
    """
    asked = set(tuning)
    return tuple(
        setting
        for setting in SETTINGS
        if setting.tuning in asked or (Tuning.ALL in asked and setting.tuning is not None and setting.quiet)
    )
