"""What else goes on at a host, and how full the disk is: judged for the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.model import Backend
from harness.core.quiet.findings import Finding, Health, Section, quiet_finding
from harness.core.quiet.placement import largest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.core.experiment import Experiment

_BUSY = 0.1
"""Of each CPU: what the system's own work takes stays far below it."""
_FULL = 0.99
"""An image's file system rounds, and a qcow2 image has tables of its own."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else goes on; None where it could not be read.

    Attributes:
        load: processes that want a CPU, over a minute.
        cpus: how many there are.
        swap_bytes: in use.
        guests: other virtual machines, in words.
        mitigations: the kernel's words a vulnerability.
    """

    load: float | None
    cpus: int
    swap_bytes: int | None
    guests: tuple[str, ...]
    mitigations: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class DiskState:
    """The file or device behind the disk.

    Attributes:
        path: in words, where there is one.
        size_bytes: that a guest sees; None when unknown.
        filled_bytes: of them that are stored; None when unknown.
        unknown: why nothing is known.
        node: NUMA node of the device; None when it has none, or it is unknown.
        scheduler: of the host's block device; None likewise.
    """

    path: str
    size_bytes: int | None = None
    filled_bytes: int | None = None
    unknown: str = ""
    node: int | None = None
    scheduler: str | None = None


def surrounding_findings(found: Surroundings) -> list[Finding]:
    """Judge what else goes on."""
    return [_load(found), _swap(found), _guests(found.guests), _mitigations(found.mitigations)]


def _load(found: Surroundings) -> Finding:
    if found.load is None:
        return quiet_finding("load", Health.UNREAD, "not readable here: /proc/loadavg")
    text = f"{found.load:.2f} on {found.cpus} CPUs over the last minute"
    if found.load <= _BUSY * found.cpus:
        return quiet_finding("load", Health.OK, text)
    return quiet_finding(
        "load",
        Health.NOTE,
        text,
        "find out what works here (top), and stop it",
        should=f"below {_BUSY * found.cpus:.1f}",
        why="whatever else runs takes CPUs, caches and memory bandwidth, now more and now less",
    )


def _swap(found: Surroundings) -> Finding:
    if found.swap_bytes is None:
        return quiet_finding("swap", Health.UNREAD, "not readable here: /proc/swaps")
    if not found.swap_bytes:
        return quiet_finding("swap", Health.OK, "none in use")
    return quiet_finding(
        "swap",
        Health.NOTE,
        f"{found.swap_bytes / 2**20:.0f} MiB in use",
        "swapoff -a, once there is memory for it (swapon -a afterwards)",
        should="none in use",
        why="a page that comes back from swap waits for a disk, perhaps the measured one",
    )


def _guests(guests: Sequence[str]) -> Finding:
    if not guests:
        return quiet_finding("other guests", Health.OK, "none")
    return quiet_finding(
        "other guests",
        Health.NOTE,
        ", ".join(guests),
        "shut them down for the run (virsh list)",
        should="none",
        why="they take CPUs, caches and the disk, now more and now less",
    )


def _mitigations(mitigations: Mapping[str, str | None]) -> Finding:
    known = {name: text for name, text in mitigations.items() if text is not None}
    if not known:
        return quiet_finding("mitigations", Health.UNREAD, "not readable here: /sys/.../cpu/vulnerabilities")
    active = sum(text.startswith("Mitigation") for text in known.values())
    open_ones = [name for name, text in known.items() if text.startswith("Vulnerable")]
    told = f"{active} of {len(known)} active"
    if open_ones:
        told += f"; vulnerable: {', '.join(open_ones)}"
    why = "they make every exit and system call dearer, so builds are compared under the same ones"
    return quiet_finding("mitigations", Health.RECORDED, told, why=why)


def fit_findings(experiment: Experiment, disk: DiskState) -> list[Finding]:
    """Judge the disk of an experiment and its queues."""
    return [_fill(experiment, disk), *_scheduler(disk), _queues(experiment), _guest_scheduler()]


def _fits(
    what: str, health: Health, found: str, remedy: str | None = None, *, should: str = "", why: str = ""
) -> Finding:
    return Finding(what, health, found, remedy, should, why, Section.FITS)


def _fill(experiment: Experiment, disk: DiskState) -> Finding:
    backend = experiment.disk.backend
    if backend is Backend.NULL_CO:
        return _fits("disk", Health.OK, "null-co stores nothing")
    if disk.unknown:
        remedy = None
        if backend in {Backend.BLOCK, Backend.NVME}:
            remedy = "write it full (flash: twice; fio --rw=write, all data there is lost), and note when"
        return _fits(
            "disk",
            Health.UNREAD,
            f"not readable here: {disk.unknown}",
            remedy,
            why="what was never written, or was trimmed, is answered without the medium, and so too fast",
        )
    if disk.size_bytes is None or disk.filled_bytes is None:
        return _fits("disk", Health.OK, f"{disk.path} is not there yet; a run makes it, full of data")
    share = min(1.0, disk.filled_bytes / disk.size_bytes) if disk.size_bytes else 1.0
    text = f"{disk.path}: {share:.0%} of {disk.size_bytes / 2**30:.1f} GiB is stored"
    if share >= _FULL:
        return _fits("disk", Health.OK, text)
    return _fits(
        "disk",
        Health.NOTE,
        text,
        "let a run make the image (leave disk.path out), or write it full once",
        should="100%",
        why="holes are read without asking the device, and so too fast",
    )


def _scheduler(disk: DiskState) -> list[Finding]:
    return [] if disk.scheduler is None else [_fits("host I/O scheduler", Health.RECORDED, disk.scheduler)]


def _queues(experiment: Experiment) -> Finding:
    vcpus, _iothreads = largest(experiment)
    queues = max(experiment.matrix.queues or (experiment.disk.queues,))
    if queues == vcpus:
        return _fits("queues", Health.OK, f"{queues}, one a vCPU")
    return _fits(
        "queues",
        Health.NOTE,
        f"{queues} for {vcpus} vCPUs",
        f"disk.queues: {vcpus}",
        should="one a vCPU",
        why="vCPUs that share a queue take turns at its lock, and the interrupt goes to one of them only",
    )


def _guest_scheduler() -> Finding:
    return _fits(
        "guest I/O scheduler",
        Health.RECORDED,
        "none in the micro guest; read in every session, with the guest's CPUs (harness show)",
    )
