"""Which accelerator really works here: "KVM works" means that a guest booted under it.

On some machines (nested guests, containers) /dev/kvm opens, QEMU says that KVM is enabled, and yet no
guest gets past the firmware. So the question is decided by booting one, once per host, and remembered.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.files import read_json, write_json
from harness.adapters.host.facts import cpu_facts, read_setting
from harness.core.errors import GuestError, HarnessError, HypervisorError, InputError
from harness.core.model import Accel

if TYPE_CHECKING:
    from collections.abc import Callable

KVM_DEVICE = Path("/dev/kvm")
PROBE_SECONDS = 30.0
_DISK_IMAGE_TAKES = 4
"""So many times as long as the micro guest: firmware, boot loader, services, cloud-init."""
_UNLIKELY_SECONDS = 12.0
"""For a CPU without vmx or svm: KVM hardly works there, and whoever waits should not wait long."""


@dataclass(frozen=True, slots=True)
class AccelDecision:
    """The accelerator to use.

    Attributes:
        accel: ``kvm`` or ``tcg``.
        reason: why, in plain words.
    """

    accel: Accel
    reason: str


def probe_seconds(*, disk_image: bool = False) -> float:
    """Return how long a guest may take to boot under KVM before KVM counts as broken."""
    seconds = PROBE_SECONDS if cpu_facts()["virtualization"] else _UNLIKELY_SECONDS
    return seconds * _DISK_IMAGE_TAKES if disk_image else seconds


def decide(
    wanted: Accel, *, cache: Path, boots_under_kvm: Callable[[], None], say: Callable[[str], None]
) -> AccelDecision:
    """Return the accelerator to use.

    Args:
        wanted: what the experiment asks for.
        cache: where this host's answer is remembered.
        boots_under_kvm: boots a guest under KVM; raises GuestError or HypervisorError when it does not.
        say: told why one has to wait.

    Raises:
        HarnessError: KVM was asked for and does not work.
    """
    if wanted is Accel.TCG:
        return AccelDecision(Accel.TCG, "the experiment asks for TCG")
    decision = remembered(cache)
    if decision is None:
        decision = _find_out(boots_under_kvm, say)
        write_json(cache, {"host": _host_key(), **asdict(decision)}, private=True)
    if wanted is Accel.KVM and decision.accel is not Accel.KVM:
        raise HarnessError(
            f"the experiment asks for KVM, but {decision.reason}",
            remedy=f"say `accel: auto` or `accel: tcg`; after mending KVM, delete {cache}",
        )
    return decision


def remembered(cache: Path) -> AccelDecision | None:
    """Return what was decided on this host before, or None."""
    try:
        data = read_json(cache)
        if data["host"] == _host_key():
            return AccelDecision(Accel(data["accel"]), str(data["reason"]))
    except (InputError, KeyError, TypeError, ValueError):
        return None
    return None


def _find_out(boots_under_kvm: Callable[[], None], say: Callable[[str], None]) -> AccelDecision:
    if not KVM_DEVICE.exists():
        return AccelDecision(Accel.TCG, "this host has no /dev/kvm")
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return AccelDecision(
            Accel.TCG, "/dev/kvm may not be opened by this user (join the group that owns it, usually kvm)"
        )
    say(f"finding out whether KVM works here: booting a guest under it (up to {probe_seconds():.0f} s, once)")
    try:
        boots_under_kvm()
    except (GuestError, HypervisorError) as error:
        return AccelDecision(Accel.TCG, f"/dev/kvm is there, but no guest boots under it ({_cause(error)})")
    return AccelDecision(Accel.KVM, "a guest booted under KVM")


def _cause(error: HarnessError) -> str:
    """Return the heart of a message: what QEMU itself said, or its first line."""
    lines = error.message.splitlines()
    said = re.search(r"qemu-[^ ]*: (?:error: )?(.+)", error.message)
    return said[1] if said else lines[0].removesuffix("; its console ends:").removesuffix(":")


def _host_key() -> dict[str, object]:
    """Return what makes a host, for this question, another one."""
    return {
        "machine": read_setting("/etc/machine-id"),
        "kernel": platform.release(),
        "cpu": cpu_facts()["model"],
        "kvm": KVM_DEVICE.exists() and os.access(KVM_DEVICE, os.R_OK | os.W_OK),
    }
