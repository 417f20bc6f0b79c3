"""What a metric is measured in, which way is better, and how people read it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Metric:
    """A number an iteration gives.

    Attributes:
        name: its column in the samples (the unit stands in it).
        label: what tables call it.
        unit: what tables show it in; empty for a plain count.
        higher_is_better: whether a rise is an improvement.
        scale: column value / shown value.
        decimals: in tables.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    scale: float = 1.0
    decimals: int = 0

    @property
    def heading(self) -> str:
        """The metric in words: ``IOPS (more is better)``."""
        unit = f" in {self.unit}" if self.unit else ""
        return f"{self.label}{unit} ({'more' if self.higher_is_better else 'less'} is better)"

    def format(self, value: float) -> str:
        """Return a value as tables show it; ``-`` when there is none."""
        if not math.isfinite(value):
            return "-"
        return f"{value / self.scale:.{self.decimals}f}"


def _latency(name: str, label: str) -> Metric:
    return Metric(name, label, "us", higher_is_better=False, scale=1000.0, decimals=1)


_PERCENTILES = {
    "mean": "mean", "p50": "median", "p90": "90th percentile", "p95": "95th percentile",
    "p99": "99th percentile", "p999": "99.9th percentile", "p9999": "99.99th percentile",
}  # fmt: skip

_WHOSE = {
    "": "", "user_": "user-mode ", "kernel_": "kernel-mode ",
    "vcpu_": "vCPU threads' ", "iothread_": "IOThreads' ", "main_": "main loop's ",
}  # fmt: skip

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("iops", "IOPS", "", higher_is_better=True),
        Metric("bw_bytes", "bandwidth", "MiB/s", higher_is_better=True, scale=2.0**20, decimals=1),
        *(
            _latency(f"{kind}_{name}_ns", f"{words} {label}")
            for kind, words in (("clat", "completion latency,"), ("lat", "latency,"))
            for name, label in _PERCENTILES.items()
        ),
        Metric("guest_cpu_ns_per_io", "guest CPU a request", "ns", higher_is_better=False),
        Metric("qemu_cpu_ns_per_io", "QEMU CPU a request", "ns", higher_is_better=False),
        Metric("vcpu_cpu_ns_per_io", "vCPU threads' CPU a request", "ns", higher_is_better=False),
        Metric("iothread_cpu_ns_per_io", "IOThreads' CPU a request", "ns", higher_is_better=False),
        Metric("main_cpu_ns_per_io", "main loop's CPU a request", "ns", higher_is_better=False),
        Metric("vmas", "peak VMAs of QEMU", "", higher_is_better=False),
        Metric("coroutines", "peak coroutines of QEMU", "", higher_is_better=False),
        Metric("headroom", "VMAs left to vm.max_map_count", "", higher_is_better=True),
        *(
            Metric(f"{prefix}{name}_per_io", f"{words}{name} a request", "", higher_is_better=False)
            for name in ("instructions", "cycles")
            for prefix, words in _WHOSE.items()
        ),
    )
}
"""Every metric the harness knows, by name."""

ALIASES = (
    {"bw": "bw_bytes", "clat": "clat_mean_ns", "lat": "lat_mean_ns"}
    | {"cpu": "qemu_cpu_ns_per_io", "cpu_per_io": "qemu_cpu_ns_per_io"}
    | {name: f"clat_{name}_ns" for name in _PERCENTILES if name != "mean"}
    | {name.removesuffix("_ns"): name for name in METRICS if name.startswith(("clat_", "lat_"))}
)
"""Short names for the command line."""


def find_metric(name: str) -> Metric:
    """Return a metric by its name or short name, as ``--metric`` has it.

    Raises:
        InputError: there is none.
    """
    found = METRICS.get(ALIASES.get(name, name))
    if found is None:
        raise _unknown([name])
    return found


def _unknown(names: Sequence[str]) -> InputError:
    known = ", ".join(sorted({*METRICS, *ALIASES}))
    is_or_are = "is" if len(names) == 1 else "are"
    message = f"{', '.join(map(repr, names))} {is_or_are} unknown"
    return InputError.single("--metric", message, f"one of {known}")


def find_metrics(text: str) -> list[Metric]:
    """Return the metrics of a list with commas, each once.

    Raises:
        InputError: names all that are unknown.
    """
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if ALIASES.get(name, name) not in METRICS]:
        raise _unknown(unknown)
    return list(dict.fromkeys(find_metric(name) for name in names))
