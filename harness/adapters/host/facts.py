"""The host as /proc and /sys show it; what could not be read is None, never a guess."""

from __future__ import annotations

import hashlib
import hmac
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

from harness.adapters.checkout import checkout_commit
from harness.adapters.host.cpus import frequency_policy, idle_states, read_setting, topology
from harness.core.redaction import redacted

__all__ = ["cpu_facts", "environment", "free_bytes", "read_setting", "volatile_settings"]

_SYSCTLS = ("vm.max_map_count", "kernel.numa_balancing", "vm.overcommit_memory")
_SETTINGS = {
    "intel_no_turbo": "/sys/devices/system/cpu/intel_pstate/no_turbo",
    "boost": "/sys/devices/system/cpu/cpufreq/boost",
    "smt": "/sys/devices/system/cpu/smt/active",
    "transparent_hugepage": "/sys/kernel/mm/transparent_hugepage/enabled",
    "transparent_hugepage_defrag": "/sys/kernel/mm/transparent_hugepage/defrag",
    "ksm": "/sys/kernel/mm/ksm/run",
    "kvm_halt_poll_ns": "/sys/module/kvm/parameters/halt_poll_ns",
    "guest_halt_poll_ns": "/sys/module/haltpoll/parameters/guest_halt_poll_ns",
}
"""What changes how fast a host is and can be changed while it runs, as name -> file."""


def environment() -> dict[str, Any]:
    """Return what of this host a reader needs to believe or repeat a number; no secret, no variable."""
    cpu = cpu_facts()
    return {
        "host": {
            "name": platform.node(),
            "machine_id_hash": _machine_id_hash(),
            "cpu": cpu,
            "topology": topology(),
            "idle": idle_states(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "kernel": platform.release(),
            "kernel_command_line": redacted(read_setting("/proc/cmdline") or "") or None,
            "os": _operating_system(),
            "mitigations": _mitigations(),
            "sysctl": _sysctls(),
            "settings": _settings(),
            "load": os.getloadavg(),
        },
        "python": platform.python_version(),
        "harness_commit": checkout_commit(),
    }


def _machine_id_hash() -> str | None:
    """Return what tells hosts apart: not the machine id itself, which machine-id(5) keeps private."""
    machine = read_setting("/etc/machine-id")
    return hmac.new(machine.encode(), b"qemu-ab-harness", hashlib.sha256).hexdigest() if machine else None


def volatile_settings() -> dict[str, str | None]:
    """Return what can drift from one session to the next without anybody noticing, in well under 5 ms."""
    return _settings() | _sysctls()


def _settings() -> dict[str, str | None]:
    governor = {"governor": frequency_policy("scaling_governor")}
    return governor | {name: read_setting(path) for name, path in _SETTINGS.items()}


def _sysctls() -> dict[str, str | None]:
    return {name: read_setting("/proc/sys/" + name.replace(".", "/")) for name in _SYSCTLS}


def cpu_facts() -> dict[str, Any]:
    """Return the CPU's model, microcode and count, and whether it says it can virtualize."""
    text = read_setting("/proc/cpuinfo") or ""
    fields = dict(re.findall(r"^([^\t:\n]+?)\s*:\s*(.*)$", text, flags=re.MULTILINE))
    flags = set(fields.get("flags", "").split())
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "microcode": fields.get("microcode"),
        "count": os.cpu_count(),
        "architecture": platform.machine(),
        "virtualization": next((flag for flag in ("vmx", "svm") if flag in flags), None),
    }


def free_bytes(path: Path) -> int:
    """Return the free space for an ordinary user where a path is, or will be."""
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def _operating_system() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _mitigations() -> dict[str, str | None]:
    directory = Path("/sys/devices/system/cpu/vulnerabilities")
    return {entry.name: read_setting(entry) for entry in sorted(directory.glob("*"))}
