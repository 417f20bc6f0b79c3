"""What no single key can know: settings that contradict one another, in the whole and in each combination."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING

from harness.core.experiment import build_checks, counting_checks, guest_checks, tuning_checks, write_checks
from harness.core.experiment.finding import Finding
from harness.core.experiment.model import GUEST_FACTOR_PATHS, Experiment
from harness.core.experiment.values import nearest
from harness.core.model import (
    FIO_FACTORS,
    FIRST_LOOK,
    GUEST_FACTORS,
    Accel,
    Aio,
    Backend,
    Cache,
    DiskFormat,
    GuestConfig,
    IOEngine,
    Workload,
)
from harness.core.units import format_size, parse_size

if TYPE_CHECKING:
    from harness.core.experiment.paths import Path

_NVME_ADDRESS = re.compile(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]")
_DIRECT = (Cache.NONE, Cache.DIRECTSYNC)
_HOST_IO_FACTORS = ("aio", "cache", "format")
_LEAST_BUILDS = 2
MAX_RIG_DISKS = 27
"""The slots of a root bus that neither machine has devices of its own in."""

MAX_CELLS = 10_000


_Check = Callable[[Experiment], Iterator[Finding]]


def problems_of(experiment: Experiment) -> list[Finding]:
    """Return everything that is contradictory in an experiment, its combinations included."""
    found = [finding for check in _WHOLE for finding in check(experiment)]
    if _cell_count(experiment) > MAX_CELLS:
        return found
    plain = problems_of_one_guest(experiment) if not _varies(experiment) else []
    return [*found, *plain, *_problems_of_combinations(experiment)]


def problems_of_one_guest(experiment: Experiment) -> list[Finding]:
    """Return what is contradictory in the guest as it stands, not looking at the matrix's guest factors."""
    return [finding for check in _ONE_GUEST for finding in check(experiment)]


def _cell_count(experiment: Experiment) -> int:
    return prod(len(experiment.matrix.values(f)) or 1 for f in (*FIO_FACTORS, *GUEST_FACTORS))


def _matrix_size(experiment: Experiment) -> Iterator[Finding]:
    if (count := _cell_count(experiment)) > MAX_CELLS:
        yield Finding(
            (("matrix",),),
            f"it has {count} cells, more than the {MAX_CELLS} anybody could measure",
            "name fewer values, or split the experiment",
        )


def _varies(experiment: Experiment) -> bool:
    return experiment.guest_configs() != ((),)


def _problems_of_combinations(experiment: Experiment) -> Iterator[Finding]:
    """Find what is wrong with combinations, each contradiction once with the factors that make it."""
    if not _varies(experiment):
        return
    seen: set[tuple[tuple[Path, ...], GuestConfig]] = set()
    for config in experiment.guest_configs():
        for finding in problems_of_one_guest(experiment.with_guest(config)):
            guilty = tuple(
                (name, value) for name, value in config if GUEST_FACTOR_PATHS[name] in finding.paths
            )
            if (finding.paths, guilty) in seen:
                continue
            seen.add((finding.paths, guilty))
            yield _blamed(finding, guilty)


def _blamed(finding: Finding, guilty: GuestConfig) -> Finding:
    if not guilty:
        return finding
    label = ", ".join(f"{name}={value}" for name, value in guilty)
    varied = tuple(("matrix", name) for name, _ in guilty)
    return Finding(
        (*varied, *finding.paths),
        f"the combination {label} is impossible: {finding.message}",
        f"{finding.remedy}; or ask for the other combinations in an experiment of their own",
    )


# -- the whole experiment ------------------------------------------------------------------------------------


def _builds(experiment: Experiment) -> Iterator[Finding]:
    if len(experiment.builds) < _LEAST_BUILDS:
        count = "one build" if experiment.builds else "no build"
        yield Finding(
            (("builds",),),
            f"{count} where two or more are compared",
            "name two builds, e.g. OLD and NEW (the same one twice measures the noise)",
        )
    folded: dict[str, str] = {}
    for name in experiment.builds:
        other = folded.setdefault(name.lower(), name)
        if other != name:
            yield Finding(
                (("builds", name),),
                f"differs from {other} in upper and lower case only",
                "use two distinct names",
            )


def _baseline(experiment: Experiment) -> Iterator[Finding]:
    if experiment.baseline in experiment.builds or not experiment.builds:
        return
    near = nearest(experiment.baseline, experiment.builds)
    meant = f"did you mean {near}? " if near else ""
    yield Finding(
        (("baseline",), ("builds",)),
        f"{experiment.baseline!r} is none of the builds",
        f"{meant}the builds are: {', '.join(experiment.builds)}",
    )


def _kernel(experiment: Experiment) -> Iterator[Finding]:
    guest = experiment.guest
    if (guest.kernel is None) is (guest.initrd is None) or (guest.kernel and guest.disk_image):
        return
    here, missing = ("kernel", "initrd") if guest.kernel else ("initrd", "kernel")
    yield Finding(
        (("guest", here), ("guest", missing)),
        f"a {here} of your own without {'an' if missing == 'initrd' else 'a'} {missing}",
        f"give guest.{missing} too, or remove guest.{here} to use the image's",
    )


def _cpu(experiment: Experiment) -> Iterator[Finding]:
    if experiment.accel is Accel.TCG and experiment.guest.cpu == "host-passthrough":
        yield Finding(
            (("guest", "cpu"), ("accel",)),
            "host-passthrough needs KVM, accel is tcg",
            "write cpu: auto or maximum",
        )


def _until(experiment: Experiment) -> Iterator[Finding]:
    protocol = experiment.protocol
    if protocol.until is not None and protocol.max_blocks < FIRST_LOOK:
        yield Finding(
            (("protocol", "max_blocks"), ("protocol", "until")),
            f"{protocol.max_blocks} is less than the {FIRST_LOOK} blocks before which until is not looked at",
            f"raise max_blocks to {FIRST_LOOK} or more, or leave until out",
        )


def _engines(experiment: Experiment) -> Iterator[Finding]:
    depths = [depth for depth in experiment.matrix.values("iodepth") if depth != 1]
    synchronous = [e for e in experiment.matrix.values("ioengine") if IOEngine(str(e)).synchronous]
    if depths and synchronous:
        yield Finding(
            (("matrix", "ioengine"), ("matrix", "iodepth")),
            f"{synchronous[0]} keeps one request in flight: iodepth {depths[0]} would be 1 all the same",
            "use libaio or io_uring, or iodepth: 1 (numjobs adds requests in flight)",
        )


def _pinned_beyond(experiment: Experiment) -> Iterator[Finding]:
    """Check pins against the largest guest: smaller ones of the matrix do without the pins they lack."""
    vcpus = max(experiment.matrix.vcpus or (experiment.guest.vcpus,))
    iothreads = max(experiment.matrix.iothreads or (experiment.disk.iothreads,))
    for index in experiment.placement.vcpupin:
        if index >= vcpus:
            yield Finding(
                (("placement", "vcpupin", str(index)), ("guest", "vcpus"), ("matrix", "vcpus")),
                f"there is no vCPU {index}: the guest has {vcpus}, counted from 0",
                f"pin vCPUs 0 to {vcpus - 1}, or raise guest.vcpus",
            )
    for number in experiment.placement.iothreadpin:
        if not 1 <= number <= iothreads:
            yield Finding(
                (("placement", "iothreadpin", str(number)), ("disk", "iothreads"), ("matrix", "iothreads")),
                f"there is no IOThread {number}: the guest has {iothreads}, counted from 1",
                "raise disk.iothreads, or remove the pin"
                if not iothreads
                else f"pin IOThreads 1 to {iothreads}",
            )


def _poll_without_iothread(experiment: Experiment) -> Iterator[Finding]:
    if experiment.disk.poll and not max(experiment.matrix.iothreads or (experiment.disk.iothreads,)):
        yield Finding(
            (("disk", "poll"), ("disk", "iothreads"), ("matrix", "iothreads")),
            "polling is a setting of IOThreads, and there is none",
            "write iothreads: 1, or remove poll",
        )


_POOL_ONLY = ("pool",)
_MATRIX_ONLY = ("matrix", "disk")


def _idle_sections(experiment: Experiment) -> Iterator[Finding]:
    """Refuse sections that the workload does not look at: they would promise what does not happen."""
    pool_growth = experiment.workload is Workload.POOL_GROWTH
    for section in _MATRIX_ONLY if pool_growth else _POOL_ONLY:
        if getattr(experiment, section) != type(experiment).model_fields[section].default:
            yield Finding(
                ((section,), ("workload",)),
                f"it means nothing to the workload {experiment.workload}",
                "remove it; pool-growth has its own disks and rounds (keys under pool)"
                if pool_growth
                else f"remove it, or write workload: {Workload.POOL_GROWTH}",
            )


def _too_many_disks(experiment: Experiment) -> Iterator[Finding]:
    pool = experiment.pool
    disks = pool.burst_disks + pool.planned_rounds
    if experiment.workload is Workload.POOL_GROWTH and pool.guestless and disks > MAX_RIG_DISKS:
        yield Finding(
            (("pool", "rounds"), ("pool", "burst_disks"), ("pool", "limit_rounds"), ("pool", "driver")),
            f"{disks} disks, where the bus of a machine without a guest takes {MAX_RIG_DISKS}",
            "fewer rounds or burst disks, or driver: guest",
        )


_WHOLE: tuple[_Check, ...] = (
    _idle_sections, _matrix_size, _builds, build_checks.contradictions,
    _baseline, guest_checks.contradictions, _kernel, _cpu, _until, _engines,
    _pinned_beyond, _poll_without_iothread, counting_checks.contradictions, _too_many_disks,
    tuning_checks.contradictions,
)  # fmt: skip


# -- one guest -----------------------------------------------------------------------------------------------


def _path(experiment: Experiment) -> Iterator[Finding]:
    disk = experiment.disk
    keys: tuple[Path, ...] = (("disk", "path"), ("disk", "backend"))
    if disk.backend is Backend.NULL_CO:
        # A matrix over backends may share one disk section.
        if disk.path is not None and not experiment.matrix.given("backend"):
            yield Finding(
                keys, "null-co stores nothing and has no path", "remove path, or choose another backend"
            )
    elif disk.backend is Backend.NVME:
        if disk.path is None or not _NVME_ADDRESS.fullmatch(disk.path):
            what = (
                "nvme needs the device's PCI address"
                if disk.path is None
                else f"{disk.path!r} is no PCI address"
            )
            yield Finding(keys, what, "write path: 0000:01:00.0 as lspci -D shows it")
    elif disk.path is None:
        if disk.backend is Backend.BLOCK:
            yield Finding(keys, "block needs the path of a device", "write path: /dev/disk/by-id/...")
    elif not disk.path.startswith("/"):
        yield Finding(keys, f"{disk.path!r} is not an absolute path", "write the path from /")


def _format(experiment: Experiment) -> Iterator[Finding]:
    disk = experiment.disk
    if disk.format is DiskFormat.QCOW2 and disk.backend is not Backend.FILE:
        yield Finding(
            (("disk", "format"), ("disk", "backend")),
            f"qcow2 is a format of files, the backend is {disk.backend}",
            "write backend: file or format: raw",
        )


def _latency(experiment: Experiment) -> Iterator[Finding]:
    disk = experiment.disk
    if disk.latency is not None and disk.backend is not Backend.NULL_CO:
        yield Finding(
            (("disk", "latency"), ("disk", "backend")),
            f"only null-co can be given a latency, the backend is {disk.backend}",
            "write backend: null-co, or remove latency",
        )


def _aio(experiment: Experiment) -> Iterator[Finding]:
    disk = experiment.disk
    if disk.aio is Aio.NATIVE and disk.cache not in _DIRECT and disk.backend in {Backend.FILE, Backend.BLOCK}:
        yield Finding(
            (("disk", "aio"), ("disk", "cache"), ("disk", "backend")),
            f"aio native needs direct I/O, the cache mode is {disk.cache}",
            "write cache: none or directsync, or aio: threads or io_uring",
        )


def _idle_factor(experiment: Experiment) -> Iterator[Finding]:
    """Refuse to vary what has no effect: the table would show two columns of the same thing."""
    backend = experiment.disk.backend
    if backend not in {Backend.NULL_CO, Backend.NVME}:
        return
    for factor in _HOST_IO_FACTORS:
        if experiment.matrix.given(factor):
            yield Finding(
                (("disk", "backend"), ("matrix", factor)),
                f"{factor} has no effect on {backend}, which does no I/O through the host's kernel",
                f"remove matrix.{factor}, or write backend: file or block",
            )


def _mapping(experiment: Experiment) -> Iterator[Finding]:
    disk = experiment.disk
    if not disk.iothread_mapping:
        if disk.iothreads > 1:
            yield Finding(
                (("disk", "iothreads"), ("disk", "iothread_mapping")),
                f"{disk.iothreads} IOThreads, of which a disk without iothread_mapping uses one",
                "write iothread_mapping: true (and as many queues), or iothreads: 1",
            )
        return
    if not disk.iothreads:
        yield Finding(
            (("disk", "iothread_mapping"), ("disk", "iothreads")),
            "there is no IOThread to spread the queues over",
            "write iothreads: 1 or more, or iothread_mapping: false",
        )
    elif disk.queues < disk.iothreads:
        yield Finding(
            (("disk", "queues"), ("disk", "iothreads"), ("disk", "iothread_mapping")),
            f"{disk.queues} queues cannot be spread over {disk.iothreads} IOThreads",
            f"write queues: {disk.iothreads} or more",
        )


def _idle_polling(experiment: Experiment) -> Iterator[Finding]:
    if experiment.matrix.poll_max_ns and not experiment.disk.iothreads:
        yield Finding(
            (("disk", "poll", "max_ns"), ("disk", "iothreads")),
            "polling is a setting of IOThreads, and there is none",
            "write iothreads: 1, or remove poll_max_ns",
        )


def _block_size(experiment: Experiment) -> Iterator[Finding]:
    disk = experiment.disk
    made_here = disk.backend is Backend.NULL_CO or (disk.backend is Backend.FILE and disk.path is None)
    for index, size in enumerate(experiment.matrix.bs):
        if made_here and parse_size(size) > disk.size:
            yield Finding(
                (("matrix", "bs", index), ("disk", "size")),
                f"a block of {size} is larger than the disk of {format_size(disk.size)}",
                "raise disk.size",
            )


def _hugepages(experiment: Experiment) -> Iterator[Finding]:
    pages, memory = experiment.placement.hugepages, experiment.guest.memory
    if not isinstance(pages, bool) and memory % pages:
        yield Finding(
            (("placement", "hugepages"), ("guest", "memory")),
            f"{format_size(memory)} of memory is no whole number of pages of {format_size(pages)}",
            "round guest.memory, or use smaller pages",
        )


_ONE_GUEST: tuple[_Check, ...] = (
    _path, _format, _latency, _aio, _idle_factor, _mapping, _idle_polling, _block_size,
    write_checks.contradictions, _hugepages,
)  # fmt: skip
