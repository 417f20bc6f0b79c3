"""A guest, down to the last decision: what templates/test.xml.j2 writes down, and what libvirt cannot say."""

from __future__ import annotations

import json
from dataclasses import dataclass

from harness.core.model import Accel, Aio, Backend, Cache, DiskFormat, Machine, NumaMode

_FIRST_SLOT = 0x10
_NETWORK_SLOT = 0x1E
MAC = "52:54:00:12:34:56"
"""Of the guest's network card: the same at every boot, so that the guest finds the card it knows."""

_SLOTS = 14
_FUNCTIONS = 8
MAX_NULL_DISKS = _SLOTS * _FUNCTIONS
"""How many null-co disks fit on the bus."""


@dataclass(frozen=True, slots=True)
class IOThreadSpec:
    """An IOThread: libvirt calls its QEMU object ``iothread<number>``.

    Attributes:
        number: from 1.
        poll_max_ns: longest polling time; None is QEMU's default, as for the other two.
        poll_grow: factor by which it grows.
        poll_shrink: divisor by which it shrinks.
    """

    number: int
    poll_max_ns: int | None = None
    poll_grow: int | None = None
    poll_shrink: int | None = None

    @property
    def polls(self) -> bool:
        """Whether polling differs from QEMU's default."""
        return (self.poll_max_ns, self.poll_grow, self.poll_shrink) != (None, None, None)


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """A virtio-blk disk.

    Attributes:
        backend: what stands behind it.
        serial: what the guest finds it by: /dev/disk/by-id/virtio-<serial>.
        path: file, block device or PCI address; None for null-co.
        size_bytes: of null-co.
        format: of the image.
        cache: QEMU's cache mode; not for null-co and nvme.
        aio: how I/O is submitted; not for null-co and nvme.
        iothread: the IOThread's number; None is QEMU's main loop.
        mapping: the numbers of the IOThreads that share the queues; empty for one IOThread.
        queues: virtio queues.
        queue_size: requests a queue holds.
        latency_ns: after what time null-co answers; None is at once.
        target: the name libvirt and the PCI order give it; vda for the first.
        readonly: whether QEMU keeps the guest from writing.
    """

    backend: Backend
    serial: str
    path: str | None = None
    size_bytes: int = 2**30
    format: DiskFormat = DiskFormat.RAW
    cache: Cache = Cache.NONE
    aio: Aio = Aio.NATIVE
    iothread: int | None = None
    mapping: tuple[int, ...] = ()
    queues: int = 1
    queue_size: int = 128
    latency_ns: int | None = None
    target: str = "vda"
    readonly: bool = False

    @property
    def pci_domain(self) -> str:
        """The PCI domain of an nvme path such as 0000:01:00.0."""
        return self._pci[0]

    @property
    def pci_bus(self) -> str:
        """The PCI bus of an nvme path."""
        return self._pci[1]

    @property
    def pci_slot(self) -> str:
        """The PCI slot of an nvme path."""
        return self._pci[2]

    @property
    def pci_function(self) -> str:
        """The PCI function of an nvme path."""
        return self._pci[3]

    @property
    def _pci(self) -> list[str]:
        return (self.path or "").replace(".", ":").split(":")


@dataclass(frozen=True, slots=True)
class RootSpec:
    """A disk that the guest boots from, and how SSH gets in.

    Attributes:
        overlay: the qcow2 that takes what the guest writes; it is thrown away.
        seed: cloud-init's seed disk; None where there is none.
        host_port: on the host's loopback, forwarded to the guest's sshd; None: the guest has no network.
        guest_port: of the guest's sshd.
        outgoing: whether the guest may speak to anybody else.
    """

    overlay: str
    seed: str | None = None
    host_port: int | None = None
    guest_port: int = 22
    outgoing: bool = False

    def network_args(self, bus: str) -> tuple[str, ...]:
        """Return QEMU's options for the network; libvirt knows no forwarding by QEMU itself."""
        if self.host_port is None:
            return ()
        restrict = "off" if self.outgoing else "on"
        forward = f"hostfwd=tcp:127.0.0.1:{self.host_port}-:{self.guest_port}"
        # Without the option ROM: nothing boots from the network.
        device = f"virtio-net-pci,netdev=harness0,mac={MAC},romfile=,bus={bus},addr={_NETWORK_SLOT:#x}"
        return ("-netdev", f"user,id=harness0,restrict={restrict},{forward}", "-device", device)


@dataclass(frozen=True, slots=True)
class PlacementSpec:
    """Host CPUs and memory; the pins are those of threads the guest has."""

    vcpupin: tuple[tuple[int, str], ...] = ()
    iothreadpin: tuple[tuple[int, str], ...] = ()
    emulatorpin: str | None = None
    numa_nodeset: str | None = None
    numa_mode: NumaMode = NumaMode.STRICT
    hugepages: bool | int = False
    locked: bool = False

    @property
    def pins_threads(self) -> bool:
        """Whether any thread is pinned."""
        return bool(self.vcpupin or self.iothreadpin or self.emulatorpin)


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """A guest, down to the last decision.

    Attributes:
        name: libvirt's name of the domain; it belongs to the run.
        uuid: its UUID.
        title: what people read in lists of domains.
        run_id: the run it belongs to, kept in the metadata.
        emulator: what libvirt starts.
        accel: kvm or tcg.
        machine: QEMU's machine type.
        cpu: ``host-passthrough``, ``maximum`` or a model's name.
        memory_bytes: the guest's memory.
        vcpus: virtual CPUs.
        kernel: path on the host; None where the root disk's boot loader finds one.
        initrd: path on the host, likewise.
        cmdline: the kernel's whole command line, likewise.
        console_log: the file the serial console is written to.
        iothreads: in the order of their numbers.
        disks: the first is vda.
        placement: host CPUs and memory.
        agent_socket: the guest agent's UNIX socket; None leaves its place to libvirt.
        root: the disk it boots from; None where kernel and initrd are all.
        extra_qemu_args: appended to QEMU's command line.
        cpu_without: features of the CPU, by libvirt's names, that the guest does not get.
    """

    name: str
    uuid: str
    title: str
    run_id: str
    emulator: str
    accel: Accel
    machine: Machine
    cpu: str
    memory_bytes: int
    vcpus: int
    kernel: str | None
    initrd: str | None
    cmdline: str | None
    console_log: str
    iothreads: tuple[IOThreadSpec, ...] = ()
    disks: tuple[DiskSpec, ...] = ()
    placement: PlacementSpec = PlacementSpec()
    agent_socket: str | None = None
    root: RootSpec | None = None
    extra_qemu_args: tuple[str, ...] = ()
    cpu_without: tuple[str, ...] = ()

    @property
    def domain_type(self) -> str:
        """The accelerator as libvirt names it."""
        return "kvm" if self.accel is Accel.KVM else "qemu"

    @property
    def memory_kib(self) -> int:
        """Memory in libvirt's unit."""
        return self.memory_bytes // 1024

    @property
    def libvirt_disks(self) -> tuple[DiskSpec, ...]:
        """The disks libvirt has elements for."""
        return tuple(disk for disk in self.disks if disk.backend is not Backend.NULL_CO)

    @property
    def null_disks(self) -> tuple[DiskSpec, ...]:
        """The disks that only QEMU's command line can describe."""
        return tuple(disk for disk in self.disks if disk.backend is Backend.NULL_CO)

    @property
    def qemu_args(self) -> tuple[str, ...]:
        """What is passed to QEMU past libvirt."""
        bus = "pcie.0" if self.machine is Machine.Q35 else "pci.0"
        args: list[str] = []
        for index, disk in enumerate(self.null_disks):
            args += ["-blockdev", null_blockdev(disk)]
            args += ["-device", _null_device(disk, bus, index, len(self.null_disks))]
        if self.root:
            args += self.root.network_args(bus)
        return (*args, *self.extra_qemu_args)


# -- null-co, past libvirt -----------------------------------------------------------------------------------


def null_blockdev(disk: DiskSpec) -> str:
    """Return the -blockdev of a null-co disk."""
    # read-zeroes: otherwise the guest reads QEMU's uninitialised memory and may take it for partitions.
    options = ["driver=null-co", f"node-name={disk.serial}", f"size={disk.size_bytes}", "read-zeroes=on"]
    if disk.latency_ns is not None:
        options.append(f"latency-ns={disk.latency_ns}")
    return ",".join(options)


def _null_device(disk: DiskSpec, bus: str, index: int, count: int) -> str:
    """Return the -device of the index-th of count null-co disks.

    The PCI addresses are fixed and begin where libvirt's own devices do not come; one function a slot while
    there are slots, else several.
    """
    slot, function = _FIRST_SLOT + index % _SLOTS, index // _SLOTS
    device: dict[str, object] = {"driver": "virtio-blk-pci", "drive": disk.serial, "serial": disk.serial}
    if disk.mapping:
        device["iothread-vq-mapping"] = [{"iothread": f"iothread{number}"} for number in disk.mapping]
    elif disk.iothread is not None:
        device["iothread"] = f"iothread{disk.iothread}"
    device |= {"num-queues": disk.queues, "queue-size": disk.queue_size, "bus": bus}
    device["addr"] = f"{slot:#x}.{function}" if function else f"{slot:#x}"
    if count > _SLOTS:
        device["multifunction"] = True
    if disk.mapping:
        # A list of objects has no spelling in key=value; JSON is understood since QEMU 6.2.
        return json.dumps(device)
    driver = device.pop("driver")
    pairs = (f"{key}={'on' if value is True else value}" for key, value in device.items())
    return ",".join([str(driver), *pairs])
