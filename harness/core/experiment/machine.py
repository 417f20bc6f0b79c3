"""The guest, its disk, and where on the host they are: sections of an experiment file.

No ``from __future__ import annotations`` here: pydantic reads these annotations when the module is loaded.
"""

from pydantic import Field

from harness.core.experiment import quantities as q
from harness.core.experiment import values as v
from harness.core.experiment.choices import (
    AioName,
    BackendName,
    CacheName,
    ConnectionName,
    FormatName,
    MachineName,
    NumaModeName,
)
from harness.core.experiment.section import Section
from harness.core.model import Aio, Backend, Cache, Connection, DiskFormat, Machine, NumaMode

MICRO = "micro"
"""The guest image that the harness builds."""


class Ssh(Section):
    """How to log in to an image of the user's that has no cloud-init; by a key, never by a password."""

    key: v.AbsolutePath = Field(description="Your private key, as this host's ssh reads it; no passphrase.")
    host_key: v.PublicKey = Field(
        description="The guest's public host key (ssh-ed25519 AAAA...): no other host is spoken to."
    )
    user: v.LoginName = Field(
        default="root", description="Who logs in: root, or somebody who may sudo without a password."
    )
    port: q.Port = Field(default=22, description="The port of the guest's sshd.")


class Guest(Section):
    """The virtual machine that fio runs in."""

    memory: q.MemorySize = Field(default=2**30, description="Memory of the guest.")
    vcpus: q.VcpuCount = Field(default=2, description="Virtual CPUs.")
    image: v.Line = Field(
        default=MICRO,
        description="The guest's system: micro (built by the harness), or the path of a disk image.",
    )
    prepare: v.Switch = Field(
        default=True,
        description="Have a playbook put fio into a copy of the image, once; false: it is there already.",
    )
    ssh: Ssh | None = Field(
        default=None,
        description="How to log in to an image without cloud-init, whose seed does it otherwise.",
    )
    kernel: v.AbsolutePath | None = Field(
        default=None, description="A kernel of your own instead of the image's; together with initrd."
    )
    initrd: v.AbsolutePath | None = Field(
        default=None, description="An initramfs of your own instead of the image's; together with kernel."
    )
    cmdline: v.Line = Field(default="", description="Appended to the guest kernel's command line.")
    machine: MachineName = Field(default=Machine.Q35, description="QEMU's machine type.")
    cpu: v.CpuModel = Field(
        default="auto",
        description="The CPU model: auto (host-passthrough under KVM, maximum under TCG) or a name.",
    )
    connection: ConnectionName = Field(
        default=Connection.AGENT, description="How the harness reaches into the guest: agent or ssh."
    )

    @property
    def disk_image(self) -> str | None:
        """The user's disk image; None where the guest is the micro one."""
        return None if self.image == MICRO else self.image

    @property
    def prepares(self) -> bool:
        """Whether a playbook puts fio into a copy of the image."""
        return self.disk_image is not None and self.prepare

    @property
    def reached_by_ssh(self) -> bool:
        """Whether SSH is ever needed: to measure, or to prepare the image."""
        return self.disk_image is not None and (self.connection is Connection.SSH or self.prepare)


class Poll(Section):
    """How IOThreads poll before they sleep; unset is QEMU's default (max_ns 32768)."""

    max_ns: q.Natural | None = Field(
        default=None, description="Longest polling time in ns; 0 switches polling off."
    )
    grow: q.Natural | None = Field(default=None, description="Factor by which the polling time grows.")
    shrink: q.Natural | None = Field(default=None, description="Divisor by which the polling time shrinks.")

    def __bool__(self) -> bool:
        """Whether anything is set."""
        return (self.max_ns, self.grow, self.shrink) != (None, None, None)


class Disk(Section):
    """The virtio-blk disk that fio measures."""

    backend: BackendName = Field(default=Backend.NULL_CO, description="What stands behind the disk.")
    path: v.Line | None = Field(
        default=None,
        description="The image file, block device or NVMe PCI address (0000:01:00.0); a file may be left to "
        "the harness.",
    )
    size: q.DiskSize = Field(
        default=2**30, description="Size of the disk, for null-co and files the harness makes."
    )
    format: FormatName = Field(default=DiskFormat.RAW, description="The image format of a file.")
    cache: CacheName = Field(default=Cache.NONE, description="QEMU's cache mode.")
    aio: AioName = Field(default=Aio.NATIVE, description="How QEMU submits I/O to the host kernel.")
    iothreads: q.IOThreadCount = Field(
        default=1, description="IOThreads; 0 serves the disk in QEMU's main loop."
    )
    queues: q.QueueCount = Field(default=1, description="virtio queues of the disk.")
    queue_size: q.QueueSize = Field(default=128, description="Requests a virtio queue holds, a power of two.")
    iothread_mapping: v.Switch = Field(
        default=False, description="Spread the virtio queues over all IOThreads."
    )
    poll: Poll = Field(default=Poll(), description="Polling of the IOThreads.")
    latency: q.PositiveDuration | None = Field(
        default=None, description="Time after which null-co answers a request; default: at once."
    )
    destroy_data: v.Line | None = Field(
        default=None,
        description="Lets write workloads destroy what is stored there: path once more. A device has to be "
        "named by its id, /dev/disk/by-id/...; for nvme, the id of the device at that address.",
    )

    @property
    def uses_io_uring(self) -> bool:
        """Whether QEMU submits its I/O by io_uring."""
        return self.aio is Aio.IO_URING and self.backend is not Backend.NULL_CO


# -- placement -----------------------------------------------------------------------------------------------


class Numa(Section):
    """Where the guest's memory comes from."""

    nodeset: v.CpuSet = Field(description="Host NUMA nodes, e.g. 0 or 0-1.")
    mode: NumaModeName = Field(default=NumaMode.STRICT, description="How firmly memory is kept to them.")


class Placement(Section):
    """Which host CPUs and memory the guest uses; unset leaves it to the host's scheduler."""

    vcpupin: dict[v.Index, v.CpuSet] = Field(default={}, description="vCPU number (from 0): host CPUs.")
    iothreadpin: dict[v.Index, v.CpuSet] = Field(
        default={}, description="IOThread number (from 1): host CPUs."
    )
    emulatorpin: v.CpuSet | None = Field(default=None, description="Host CPUs of QEMU's other threads.")
    numa: Numa | None = Field(default=None, description="Host NUMA nodes of the guest's memory.")
    hugepages: v.HugePages = Field(
        default=False, description="Guest memory from huge pages: true or their size."
    )
    locked: v.Switch = Field(default=False, description="Lock the guest's memory in RAM.")
