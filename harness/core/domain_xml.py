"""The guest as libvirt's domain XML: everything decided here, written down by templates/test.xml.j2."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined, Template

from harness.core.domain_specs import (
    MAX_NULL_DISKS,
    DiskSpec,
    DomainSpec,
    IOThreadSpec,
    PlacementSpec,
    RootSpec,
)
from harness.core.errors import InputError
from harness.core.experiment.write_checks import writes
from harness.core.guest_tuning import cpu_model, cpu_without, kernel_cmdline
from harness.core.model import Accel, Backend, NumaMode
from harness.resources import resource_dir

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.core.experiment import Disk, Experiment, Placement

METADATA_NAMESPACE = "https://qemu-ab-harness.invalid/run"
"""The XML namespace of the mark in a domain's metadata; a name, nothing to be fetched."""

_LETTERS = 26


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
    if sum(disk.backend is Backend.NULL_CO for disk in chosen) > MAX_NULL_DISKS:
        raise InputError.single("disk", f"{len(chosen)} disks", f"at most {MAX_NULL_DISKS} fit on the bus")
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
