"""A made-up host: the files of /proc and /sys that the machine of the tests lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.host.settings import HostSettings

if TYPE_CHECKING:
    from pathlib import Path

CPU = "sys/devices/system/cpu"
IDLE_US = {"state0": 0, "state1": 2, "state2": 10, "state3": 170}
BOOT = "00000000-0000-0000-0000-000000000001"


def made_up_host(root: Path, cpus: int = 4, /, **files: str) -> HostSettings:
    """Return a host with cpufreq, idle states, KSM and all; keywords replace single values.

    Args:
        root: the directory that stands for ``/``.
        cpus: how many.
        files: a name of VALUES -> another value.
    """
    values = dict(NOISY) | files
    for cpu in range(cpus):
        put(root, f"{CPU}/cpu{cpu}/cpufreq/scaling_governor", values["governor"])
        for state, latency in IDLE_US.items():
            put(root, f"{CPU}/cpu{cpu}/cpuidle/{state}/latency", str(latency))
            put(root, f"{CPU}/cpu{cpu}/cpuidle/{state}/disable", values["idle"])
    for name, path in PATHS.items():
        put(root, path, values[name])
    put(root, "proc/sys/kernel/random/boot_id", BOOT)
    return HostSettings(root)


PATHS = {
    "no_turbo": f"{CPU}/intel_pstate/no_turbo",
    "numa": "proc/sys/kernel/numa_balancing",
    "ksm": "sys/kernel/mm/ksm/run",
    "thp": "sys/kernel/mm/transparent_hugepage/enabled",
    "halt_poll": "sys/module/kvm/parameters/halt_poll_ns",
    "mappings": "proc/sys/vm/max_map_count",
}
NOISY = {
    "governor": "powersave",
    "idle": "0",
    "no_turbo": "0",
    "numa": "1",
    "ksm": "1",
    "thp": "always [madvise] never",
    "halt_poll": "200000",
    "mappings": "65530",
}


def put(root: Path, path: str, value: str) -> None:
    """Write a file below the root, as the kernel shows it."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{value}\n")


def content(root: Path) -> dict[str, str]:
    """Return every file below the root, as a reader of the kernel's sees it."""
    return {
        str(path.relative_to(root)): path.read_text().strip() for path in root.rglob("*") if path.is_file()
    }
