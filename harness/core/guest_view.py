"""What a guest says of itself: one small script, and its answer read."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

QUEUE_SETTINGS = (
    "scheduler", "nr_requests", "rotational", "max_sectors_kb", "max_segments", "logical_block_size",
    "physical_block_size", "write_cache", "discard_max_bytes", "nomerges", "rq_affinity", "io_poll",
    "wbt_lat_usec", "read_ahead_kb",
)  # fmt: skip
"""What the guest's block layer does with the disk: files below /sys/block/DISK/queue."""

MICRO_GUEST = "/etc/harness-guest"
"""Says of a micro guest which kernel and fio are in it; to start fio for that takes a tenth of the boot."""

SCRIPT = f"""\
disk=$(readlink -f "$1") && cd "/sys/block/${{disk##*/}}" || exit 1
if grep "^$disk" /proc/mounts /proc/swaps >&2; then exit 1; fi
fio=
[ ! -r {MICRO_GUEST} ] || . {MICRO_GUEST}
[ -n "$fio" ] || fio=$(fio --version) || exit 1
set -- mq/*
echo "hw_queues:$#"
echo "fio:$fio"
echo "device:$disk"
grep -Hs . {" ".join(f"queue/{name}" for name in QUEUE_SETTINGS)} device/features \
    /etc/os-release /proc/sys/kernel/osrelease /proc/cmdline /sys/devices/system/cpu/online /proc/modules
sed -e 's/^/cpuinfo:/' -e '/^cpuinfo:$/q' /proc/cpuinfo
exit 0
"""
"""Prints ``file:line`` for every line; $1 is the measured disk. It fails where there is none or
one in use, or no fio.

Four processes in a micro guest: under emulation each takes milliseconds of the session's start.
"""


WHO = "echo fio:$(fio --version); grep -Hs . /etc/os-release /proc/sys/kernel/osrelease; exit 0"
"""The part of it that needs no measured disk: which system this is."""


def parse_guest(text: str) -> dict[str, Any]:
    """Return what ``SCRIPT`` printed.

    Returns:
        ``device`` (the measured disk's own name, such as ``/dev/vda``), ``kernel``, ``fio``, ``distribution``
        and ``command_line``; ``cpus`` (a CPU list such as ``0-3``) and ``cpu`` (``model`` and ``flags`` of
        the first, sorted); ``modules``, sorted; ``disk``: ``features`` (the virtio feature bits that device
        and driver agreed on), ``hw_queues`` and the settings of its queue. What was not printed is None.
    """
    lines: dict[str, list[str]] = defaultdict(list)
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            lines[name].append(value)
    first = {name: values[0].strip() for name, values in lines.items()}
    modules = [words[0] for line in lines["/proc/modules"] if (words := line.split())]
    return {
        "device": first.get("device"),
        "kernel": first.get("/proc/sys/kernel/osrelease"),
        "fio": first.get("fio"),
        "distribution": _release(lines["/etc/os-release"]),
        "command_line": first.get("/proc/cmdline"),
        "cpus": first.get("/sys/devices/system/cpu/online"),
        "cpu": _cpu(lines["cpuinfo"]),
        "modules": sorted(modules) or None,
        "disk": {
            "features": feature_bits(first.get("device/features")),
            "hw_queues": first.get("hw_queues"),
            **{name: first.get(f"queue/{name}") for name in QUEUE_SETTINGS},
        },
    }


def _release(lines: list[str]) -> str | None:
    """Return what os-release calls the distribution."""
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    name = fields.get("PRETTY_NAME") or fields.get("NAME")
    return name.strip().strip("\"'") if name else None


def _cpu(lines: list[str]) -> dict[str, Any]:
    fields = {name.strip(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags") or fields.get("Features")
    return {"model": fields.get("model name"), "flags": " ".join(sorted(flags.split())) if flags else None}


def feature_bits(text: str | None) -> list[int] | None:
    """Return the numbers of the virtio feature bits that are set in what sysfs prints, lowest bit first."""
    return None if text is None else [number for number, bit in enumerate(text) if bit == "1"]
