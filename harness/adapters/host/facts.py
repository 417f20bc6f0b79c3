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
from harness.adapters.host.cpus import idle_states, read_setting, topology
from harness.adapters.host.settings import HostSettings
from harness.core.quiet.settings import told
from harness.core.redaction import redacted

__all__ = ["cpu_facts", "environment", "free_bytes", "mitigations", "read_setting", "volatile_settings"]

_HOST = HostSettings()


def environment() -> dict[str, Any]:
    """Return what of this host a reader needs to believe or repeat a number; no secret, no variable."""
    cpu, settings = cpu_facts(), volatile_settings()
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
            "mitigations": mitigations(),
            "sysctl": {name: value for name, value in settings.items() if "." in name},
            "settings": {name: value for name, value in settings.items() if "." not in name},
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
    return {name: told(places) for name, places in _HOST.values().items()}


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


def mitigations() -> dict[str, str | None]:
    """Return what the kernel says of each vulnerability of the CPU."""
    directory = Path("/sys/devices/system/cpu/vulnerabilities")
    return {entry.name: read_setting(entry) for entry in sorted(directory.glob("*"))}
