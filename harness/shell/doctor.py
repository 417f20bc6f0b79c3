"""What ``harness doctor`` looks at; nothing here changes anything."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from harness.adapters.files import read_json
from harness.adapters.host import accel, tuning
from harness.adapters.host.facts import cpu_facts, free_bytes, read_setting
from harness.adapters.host.locks import host_holder
from harness.adapters.telemetry.counters import offer
from harness.core.errors import HarnessError, InputError
from harness.core.model import Accel, GuestImage
from harness.core.quiet.findings import Finding, Health
from harness.core.quiet.snapshot import Owner
from harness.shell.quieting import told

if TYPE_CHECKING:
    from harness.adapters.workspace import Workspace

__all__ = ["Finding", "Health", "examine"]

_PLENTY_BYTES = 3 * 2**30
_DEFAULT_MAX_MAP_COUNT = 65530

_FOR_COUNTS = "provisioning an experiment with workload: instructions installs it"


def examine(workspace: Workspace) -> list[Finding]:
    """Look at everything a run needs on this host; while one measures, only at what does not disturb it."""
    holder = host_holder()
    return [
        *_running(holder),
        _cpu(),
        _kvm(workspace),
        _libvirt(workspace, running=holder is not None),
        *_builds(workspace),
        *_disk_images(workspace, running=holder is not None),
        _program("fio", "provisioning installs it for the guest image"),
        _program("valgrind", _FOR_COUNTS),
        _program("strace", _FOR_COUNTS, lacking=": load coroutine-pool counts no system calls"),
        _counters(),
        _space(workspace),
        _max_map_count(),
        *_waiting_snapshot(workspace, running=holder is not None),
    ]


def _running(holder: str | None) -> list[Finding]:
    if holder is None:
        return []
    return [
        Finding(
            "host",
            Health.NOTE,
            f"a run is going on: {holder}",
            "a measurement must be alone: wait for it to end, or stop it",
        )
    ]


def _cpu() -> Finding:
    cpu = cpu_facts()
    flag = cpu["virtualization"]
    virtualization = f"has {flag}" if flag else "has neither vmx nor svm"
    return Finding("CPU", Health.OK, f"{cpu['model']} x {cpu['count']}, {virtualization}")


def _kvm(workspace: Workspace) -> Finding:
    decision = accel.remembered(workspace.accel_cache)
    if decision is None:
        state = "there, but not tried yet" if accel.KVM_DEVICE.exists() else "not there"
        return Finding(
            "KVM", Health.NOTE, f"/dev/kvm is {state}", "the first run boots a guest under it and remembers"
        )
    if decision.accel is Accel.KVM:
        return Finding("KVM", Health.OK, decision.reason)
    return Finding(
        "KVM",
        Health.NOTE,
        f"not usable, runs fall back to TCG: {decision.reason}",
        f"after mending it, delete {workspace.accel_cache}",
    )


def _libvirt(workspace: Workspace, *, running: bool) -> Finding:
    if running:
        # Opening it would start QEMU beside the guest that is measured, and the run may hold its lock.
        found = "in use by the run that is going on; not looked at, so as not to disturb it"
        return Finding("libvirt", Health.NOTE, found)
    from harness.adapters.hypervisor import Hypervisor

    try:
        with Hypervisor("qemu:///embed", workspace.embed_root) as hypervisor:
            return Finding("libvirt", Health.OK, f"qemu:///embed works, version {hypervisor.version}")
    except HarnessError as error:
        remedy = error.remedy or "run `harness provision EXPERIMENT`"
        return Finding("libvirt", Health.BROKEN, error.message, remedy)


def _builds(workspace: Workspace) -> list[Finding]:
    found: dict[str, str] = {}
    for manifest in sorted((workspace.state / "manifests").glob("*.json")):
        try:
            builds = read_json(manifest)["builds"].values()
            found |= {build["sha256"]: build["version"] for build in builds}
        except (InputError, KeyError, TypeError, AttributeError):
            return [Finding("QEMU", Health.BROKEN, f"{manifest} is damaged", "run `harness provision` again")]
    if not found:
        return [
            Finding("QEMU", Health.NOTE, "no build is provisioned yet", "harness provision fio/quick.yml")
        ]
    return [Finding("QEMU", Health.OK, f"{version} [{sha[:12]}]") for sha, version in found.items()]


def _disk_images(workspace: Workspace, *, running: bool) -> list[Finding]:
    """Name the copies of users' disk images, and what a run that was killed left behind."""
    found = []
    for record in sorted(workspace.images.glob("disk-*/image.json")):
        try:
            image = GuestImage(**read_json(record)["image"])
        except (InputError, KeyError, TypeError):
            again = f"remove {record.parent}: the next run makes it anew"
            found.append(Finding("guest image", Health.BROKEN, f"{record} is damaged", again))
            continue
        text = f"copy of {image.source} [{image.sha256[:12]}]: {image.distribution or 'used as it is'}"
        found.append(Finding("guest image", Health.OK, f"{text}, {image.fio_version}"))
    if workspace.guest.exists() and not running:
        left = f"a run that was killed left its guest's disks in {workspace.guest}"
        found.append(Finding("guest image", Health.NOTE, left, "the next run removes them"))
    return found


def _program(name: str, provisioned: str, *, lacking: str = "") -> Finding:
    """Say where a program is that provisioning installs; ``lacking``: what goes without it."""
    path = shutil.which(name)
    if path is None:
        return Finding(name, Health.NOTE, f"not installed here{lacking}", provisioned)
    return Finding(name, Health.OK, path)


def _counters() -> Finding:
    """Say whether ordinary runs have instructions_per_io and cycles_per_io."""
    offered = offer(0)
    if offered.refused is None:
        return Finding("hardware counters", Health.OK, "instructions and cycles, in user and kernel mode")
    got = "in user mode only: " if offered.events else ""
    return Finding("hardware counters", Health.NOTE, f"{got}{offered.refused.reason}", offered.refused.remedy)


def _space(workspace: Workspace) -> Finding:
    free = free_bytes(workspace.state)
    text = f"{free / 2**30:.1f} GiB free for {workspace.state}"
    if free < _PLENTY_BYTES:
        return Finding("disk space", Health.NOTE, text, "builds, image and disk need about 3 GiB")
    return Finding("disk space", Health.OK, text)


def _waiting_snapshot(workspace: Workspace, *, running: bool) -> list[Finding]:
    found: list[Finding] = []
    try:
        if not running and (left := tuning.waiting(workspace.state, Owner.RUN)):
            text = f"a run that was killed left changed: {told(left)}"
            remedy = "the next run puts it back; at once: harness tune --restore-run"
            found.append(Finding("snapshot", Health.NOTE, text, remedy))
        if held := tuning.waiting(workspace.state, Owner.HAND):
            text = f"held by hand: {told(held)}"
            found.append(Finding("snapshot", Health.NOTE, text, "to put it back: harness tune --restore"))
    except HarnessError as error:
        found.append(Finding("snapshot", Health.BROKEN, error.message, error.remedy))
    return found


def _max_map_count() -> Finding:
    value = read_setting("/proc/sys/vm/max_map_count")
    if value is None:
        return Finding("vm.max_map_count", Health.NOTE, "could not be read here")
    if int(value) > _DEFAULT_MAX_MAP_COUNT:
        return Finding(
            "vm.max_map_count",
            Health.NOTE,
            f"{value}: above the default of {_DEFAULT_MAX_MAP_COUNT}, which hides exhausted mappings",
        )
    return Finding("vm.max_map_count", Health.OK, value)
