"""What no single key can know: settings that contradict one another, in the whole and in each combination."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING

from harness.core.experiment import (
    build_checks,
    counting_checks,
    disk_checks,
    guest_checks,
    tuning_checks,
    write_checks,
)
from harness.core.experiment.bad_value import nearest
from harness.core.experiment.finding import Finding
from harness.core.experiment.model import Experiment
from harness.core.experiment.workloads import GUEST_FACTOR_PATHS
from harness.core.model import (
    FIO_FACTORS,
    FIRST_LOOK,
    GUEST_FACTORS,
    Accel,
    GuestConfig,
    IOEngine,
    Workload,
)
from harness.core.units import format_size

if TYPE_CHECKING:
    from harness.core.experiment.paths import Path

_LEAST_BUILDS = 2
MAX_RIG_DISKS = 27
"""The slots of a root bus that neither machine has devices of its own in."""

MAX_CELLS = 10_000
MAX_ITERATIONS = 100_000
"""Of five seconds each they would take a week."""


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


def _plan_size(experiment: Experiment) -> Iterator[Finding]:
    protocol = experiment.protocol
    blocks, key = (
        (protocol.blocks, "blocks") if protocol.until is None else (protocol.max_blocks, "max_blocks")
    )
    in_block = protocol.iterations
    paths: tuple[Path, ...] = (("protocol", key), ("protocol", "iterations"))
    if experiment.workload is Workload.POOL_GROWTH:
        in_block = experiment.pool.planned_rounds
    elif experiment.workload is Workload.INSTRUCTIONS:
        blocks, in_block, paths = 1, 2 * experiment.instructions.repeats + 1, (("instructions", "repeats"),)
    count = _cell_count(experiment) * in_block * blocks * len(experiment.builds)
    if _cell_count(experiment) <= MAX_CELLS and count > MAX_ITERATIONS:
        yield Finding(
            (*paths, ("matrix",), ("builds",)),
            f"the plan would have {count} iterations, more than the {MAX_ITERATIONS} anybody could measure",
            f"ask for fewer {' or '.join(str(path[-1]) for path in paths)}".replace("_", " "),
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
    _idle_sections, _matrix_size, _plan_size, _builds, build_checks.contradictions,
    _baseline, guest_checks.contradictions, _kernel, _cpu, _until, _engines,
    _pinned_beyond, _poll_without_iothread, counting_checks.contradictions, _too_many_disks,
    tuning_checks.contradictions,
)  # fmt: skip


# -- one guest -----------------------------------------------------------------------------------------------


def _hugepages(experiment: Experiment) -> Iterator[Finding]:
    pages, memory = experiment.placement.hugepages, experiment.guest.memory
    if not isinstance(pages, bool) and memory % pages:
        yield Finding(
            (("placement", "hugepages"), ("guest", "memory")),
            f"{format_size(memory)} of memory is no whole number of pages of {format_size(pages)}",
            "round guest.memory, or use smaller pages",
        )


_ONE_GUEST: tuple[_Check, ...] = (disk_checks.contradictions, write_checks.contradictions, _hugepages)
