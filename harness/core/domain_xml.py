"""The guest as libvirt's domain XML: everything decided here, written down by templates/test.xml.j2."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined, Template

from harness.core.capabilities import Requirement, requirements, unmet
from harness.core.errors import InputError
from harness.core.experiment.write_checks import writes
from harness.core.guest_tuning import cpu_model, cpu_without, kernel_cmdline
from harness.core.model import Accel, Aio, Backend, Cache, DiskFormat, Machine, NumaMode
from harness.resources import resource_dir

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.core.experiment import Disk, Experiment, Placement

__all__ = [
    "METADATA_NAMESPACE",
    "DiskSpec",
    "DomainSpec",
    "IOThreadSpec",
    "PlacementSpec",
    "Requirement",
    "RootSpec",
    "domain_spec",
    "render_domain",
    "requirements",
    "unmet",
]

METADATA_NAMESPACE = "https://qemu-ab-harness.invalid/run"
"""The XML namespace of the mark in a domain's metadata; a name, nothing to be fetched."""

_FIRST_SLOT = 0x10
_NETWORK_SLOT = 0x1E
MAC = "52:54:00:12:34:56"
"""Of the guest's network card: the same at every boot, so that the guest finds the card it knows."""

_SLOTS = 14
_FUNCTIONS = 8
_LETTERS = 26


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


# -- from the experiment -------------------------------------------------------------------------------------


def domain_spec(
    experiment: Experiment,
    *,
    name: str,
    uuid: str,
    run_id: str,
    emulator: str,
    accel: Accel,
    kernel: str,
    initrd: str,
    console_log: str,
    disk_path: str | None = None,
    agent_socket: str | None = None,
    root: RootSpec | None = None,
    disks: tuple[DiskSpec, ...] | None = None,
    iothreads: tuple[IOThreadSpec, ...] | None = None,
    extra_cmdline: str = "",
    extra_qemu_args: tuple[str, ...] = (),
) -> DomainSpec:
    """Return the guest of an experiment (of one guest configuration: ``Experiment.for_guest``).

    Args:
        experiment: with the guest, disk and placement.
        name: of the domain.
        uuid: of the domain.
        run_id: the run it belongs to.
        emulator: the build's.
        accel: the decided one, kvm or tcg.
        kernel: the image's; the experiment's own goes first, as does its initrd.
        initrd: the image's; empty, as the kernel, where the root disk has a boot loader.
        console_log: the file for the serial console.
        disk_path: the image the harness made, where the experiment names no path.
        agent_socket: the guest agent's socket; None leaves it to libvirt.
        root: the disk it boots from; it comes first among the disks.
        disks: instead of the experiment's one disk, for workloads with disks of their own.
        iothreads: instead of the experiment's, as disks.
        extra_cmdline: goes between the harness's command line and the experiment's.
        extra_qemu_args: appended to QEMU's command line.

    Raises:
        InputError: the guest is impossible under this accelerator, or has too many null-co disks.
        ValueError: a file backend without a path, or an undecided accelerator.
    """
    if accel is Accel.AUTO:
        raise ValueError("the accelerator is not decided")
    guest = experiment.guest
    booted = guest.kernel or kernel or None
    is_micro = root is None and guest.kernel is None and guest.initrd is None
    threads = _iothreads(experiment.disk) if iothreads is None else iothreads
    chosen = (_disk(experiment, disk_path),) if disks is None else disks
    if sum(disk.backend is Backend.NULL_CO for disk in chosen) > _SLOTS * _FUNCTIONS:
        raise InputError.single(
            "disk", f"{len(chosen)} disks", f"at most {_SLOTS * _FUNCTIONS} fit on the bus"
        )
    cpu = cpu_model(guest.cpu, accel)
    return DomainSpec(
        name=name,
        uuid=uuid,
        title=f"qemu-ab-harness: {experiment.name}",
        run_id=run_id,
        emulator=emulator,
        accel=accel,
        machine=guest.machine,
        cpu=cpu,
        cpu_without=cpu_without(cpu, accel),
        memory_bytes=guest.memory,
        vcpus=guest.vcpus,
        kernel=booted,
        initrd=(guest.initrd or initrd or None) if booted else None,
        cmdline=kernel_cmdline(accel, extra_cmdline, guest.cmdline, is_micro=is_micro) if booted else None,
        console_log=console_log,
        iothreads=threads,
        disks=tuple(
            replace(disk, target=_target(index)) for index, disk in enumerate(chosen, _own_disks(root))
        ),
        placement=_placement(experiment.placement, guest.vcpus, threads),
        agent_socket=agent_socket,
        root=root,
        extra_qemu_args=extra_qemu_args,
    )


def _iothreads(disk: Disk) -> tuple[IOThreadSpec, ...]:
    poll = disk.poll
    return tuple(
        IOThreadSpec(number, poll.max_ns, poll.grow, poll.shrink) for number in range(1, disk.iothreads + 1)
    )


def _disk(experiment: Experiment, made: str | None) -> DiskSpec:
    disk = experiment.disk
    null = disk.backend is Backend.NULL_CO
    path = None if null else disk.path or made
    if path is None and not null:
        raise ValueError(f"a {disk.backend} disk without a path")
    return DiskSpec(
        backend=disk.backend,
        serial="disk0",
        path=path,
        size_bytes=disk.size,
        format=disk.format,
        cache=disk.cache,
        aio=disk.aio,
        iothread=1 if disk.iothreads and not disk.iothread_mapping else None,
        mapping=tuple(range(1, disk.iothreads + 1)) if disk.iothread_mapping else (),
        queues=disk.queues,
        queue_size=disk.queue_size,
        latency_ns=None if disk.latency is None else round(disk.latency * 1e9),
        # A guest that is told to read only might still mount, repair or assemble what it finds.
        readonly=not null and disk.path is not None and not writes(experiment),
    )


def _own_disks(root: RootSpec | None) -> int:
    """Return how many disks stand before those that are measured: the root disk, and the seed."""
    return 0 if root is None else 1 + (root.seed is not None)


def _target(index: int) -> str:
    """Return the index-th name of vda, ..., vdz, vdaa, ..."""
    letters = ""
    number = index + 1
    while number:
        number, letter = divmod(number - 1, _LETTERS)
        letters = chr(ord("a") + letter) + letters
    return f"vd{letters}"


def _placement(placement: Placement, vcpus: int, iothreads: tuple[IOThreadSpec, ...]) -> PlacementSpec:
    """Return the placement, without the pins of threads this guest lacks (a matrix may vary their number)."""
    numbers = {iothread.number for iothread in iothreads}
    return PlacementSpec(
        vcpupin=_pins(placement.vcpupin, set(range(vcpus))),
        iothreadpin=_pins(placement.iothreadpin, numbers),
        emulatorpin=placement.emulatorpin,
        numa_nodeset=placement.numa.nodeset if placement.numa else None,
        numa_mode=placement.numa.mode if placement.numa else NumaMode.STRICT,
        hugepages=placement.hugepages,
        locked=placement.locked,
    )


def _pins(pins: Mapping[int, str], there: set[int]) -> tuple[tuple[int, str], ...]:
    return tuple(sorted((number, cpus) for number, cpus in pins.items() if number in there))


# -- to XML --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _compiled(template: str | None) -> Template:
    environment = Environment(
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = template
    if text is None:
        text = (resource_dir("templates") / "test.xml.j2").read_text(encoding="utf-8")
    return environment.from_string(text)


def render_domain(spec: DomainSpec, template: str | None = None) -> str:
    """Return the domain XML of a guest.

    Args:
        spec: the guest.
        template: the template's text; None takes the project's templates/test.xml.j2.

    Raises:
        jinja2.TemplateError: the template is broken, or names something that is not there.
    """
    return _compiled(template).render(guest=spec, metadata_namespace=METADATA_NAMESPACE)
