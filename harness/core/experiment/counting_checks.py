"""What cannot be counted: settings that make no sense, or no difference, without a guest and a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.counting.queue_memory import CHAIN
from harness.core.experiment.builds import SourceBuild
from harness.core.experiment.finding import Finding
from harness.core.experiment.workloads import Instructions, Matrix
from harness.core.model import (
    FIO_FACTORS,
    GUEST_FACTORS,
    Backend,
    CoroutineTest,
    CountLoad,
    ReadWrite,
    RingFormat,
    Workload,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment.model import Experiment

_OF_A_GUEST = ("numjobs", "ioengine", "vcpus", "memory", "poll_max_ns")
_MIXED = (ReadWrite.RW, ReadWrite.RANDRW)

# Runs of older versions have it in their experiment.yml, with every default written out.
_FORMER_TIMEOUT = 120.0


def contradictions(experiment: Experiment) -> Iterator[Finding]:
    """Find what contradicts the workload ``instructions``, or belongs to it alone."""
    if experiment.matrix.given("test") and experiment.instructions.load is not CountLoad.TEST_COROUTINE:
        yield Finding(
            (("matrix", "test"), ("instructions", "load")),
            "test has no effect: it names benchmarks of test-coroutine",
            "write workload: instructions and instructions: {load: test-coroutine}, or remove matrix.test",
        )
    if experiment.workload is not Workload.INSTRUCTIONS:
        yield from _hoarder(experiment)
        if experiment.instructions not in {Instructions(), Instructions(timeout=_FORMER_TIMEOUT)}:
            yield Finding(
                (("instructions",), ("workload",)),
                f"nothing is counted: the workload is {experiment.workload}",
                "write workload: instructions, or remove instructions",
            )
        return
    if experiment.instructions.load is CountLoad.TEST_COROUTINE:
        yield from _test_coroutine(experiment)
        return
    yield from _hoarder(experiment)
    yield from _factors(experiment)
    yield from _patterns(experiment)
    yield from _backend(experiment)
    yield from _depths(experiment)
    if experiment.instructions.load is CountLoad.QEMU_IMG:
        yield from _qemu_img(experiment)
    if experiment.instructions.load is CountLoad.COROUTINE_POOL:
        yield from _coroutine_pool(experiment)


def _test_coroutine(experiment: Experiment) -> Iterator[Finding]:
    load = ("instructions", "load")
    usual = Matrix()
    for factor in (*FIO_FACTORS, *GUEST_FACTORS):
        if factor != "test" and getattr(experiment.matrix, factor) != getattr(usual, factor):
            yield Finding(
                (("matrix", factor), load),
                f"{factor} has no effect on test-coroutine, which reads and writes nothing",
                f"remove matrix.{factor}",
            )
    if not experiment.matrix.given("test"):
        yield Finding(
            (("matrix", "test"), load),
            "which benchmarks of test-coroutine are counted is not said",
            f"write matrix: {{test: [{', '.join(CoroutineTest)}]}}, or some of them",
        )
    for name, build in experiment.builds.items():
        if not isinstance(build, SourceBuild):
            yield Finding(
                (("builds", name), load),
                "test-coroutine is no part of packages and installations: only builds from source have it",
                "write git: and ref:, or tarball:, or another load",
            )


def _factors(experiment: Experiment) -> Iterator[Finding]:
    for factor in _OF_A_GUEST:
        if experiment.matrix.given(factor):
            yield Finding(
                (("matrix", factor), ("workload",)),
                f"{factor} has no effect where instructions are counted: there is no guest",
                f"remove matrix.{factor}, or write workload: fio-matrix",
            )


def _patterns(experiment: Experiment) -> Iterator[Finding]:
    for index, pattern in enumerate(experiment.matrix.rw):
        if pattern in _MIXED:
            yield Finding(
                (("matrix", "rw", index), ("workload",)),
                f"{pattern} mixes reads and writes: their instructions are counted apart",
                "write read and write, or randread and randwrite",
            )


def _backend(experiment: Experiment) -> Iterator[Finding]:
    backends = experiment.matrix.backend or (experiment.disk.backend,)
    if Backend.NVME in backends:
        yield Finding(
            (("disk", "backend"), ("matrix", "backend"), ("workload",)),
            "nvme cannot be counted: it hands the device over to the counted process",
            "write backend: null-co, file or block",
        )
    instructions = experiment.instructions
    if instructions.disks > 1 and any(backend is not Backend.NULL_CO for backend in backends):
        yield Finding(
            (("instructions", "disks"), ("disk", "backend")),
            f"{instructions.disks} disks would share one {experiment.disk.backend}",
            "write backend: null-co, or disks: 1",
        )


def _depths(experiment: Experiment) -> Iterator[Finding]:
    instructions = experiment.instructions
    if instructions.load is not CountLoad.VIRTIO_BLK:
        return
    smallest = min(experiment.matrix.queue_size or (experiment.disk.queue_size,))
    each = 1 if instructions.indirect else CHAIN
    for index, depth in enumerate(experiment.matrix.iodepth):
        if depth * each > smallest:
            yield Finding(
                (("matrix", "iodepth", index), ("disk", "queue_size"), ("instructions", "indirect")),
                f"{depth} requests take {depth * each} descriptors, a queue has {smallest}",
                "raise disk.queue_size, or lower iodepth"
                if instructions.indirect
                else "write instructions.indirect: true (one descriptor a request), or raise disk.queue_size",
            )


def _qemu_img(experiment: Experiment) -> Iterator[Finding]:
    for index, pattern in enumerate(experiment.matrix.rw):
        if pattern not in {ReadWrite.READ, ReadWrite.WRITE}:
            yield Finding(
                (("matrix", "rw", index), ("instructions", "load")),
                f"`qemu-img bench` reads or writes one block after another, not {pattern}",
                "write rw: read or write",
            )
    for factor in ("iothreads", "queues", "queue_size", "iothread_mapping", "machine"):
        if experiment.matrix.given(factor):
            yield Finding(
                (("matrix", factor), ("instructions", "load")),
                f"{factor} has no effect on qemu-img, which has no device",
                f"remove matrix.{factor}",
            )


def _hoarder(experiment: Experiment) -> Iterator[Finding]:
    instructions = experiment.instructions
    pool = experiment.workload is Workload.INSTRUCTIONS and instructions.load is CountLoad.COROUTINE_POOL
    if experiment.matrix.given("hoarder") and not pool:
        yield Finding(
            (("matrix", "hoarder"), ("instructions", "load")),
            "only the bursts of coroutine-pool have a hoarder",
            "write workload: instructions and instructions.load: coroutine-pool, or remove matrix.hoarder",
        )


def _coroutine_pool(experiment: Experiment) -> Iterator[Finding]:
    yield from _of_the_pools_disks(experiment)
    disks = experiment.instructions.disks
    most = disks * min(experiment.matrix.queue_size or (experiment.disk.queue_size,))
    for index, depth in enumerate(experiment.matrix.iodepth):
        if depth % disks or depth > most:
            yield Finding(
                (("matrix", "iodepth", index), ("instructions", "disks"), ("disk", "queue_size")),
                f"{disks} disks cannot share {depth} requests in flight evenly, or have no place for them",
                f"write a multiple of {disks} up to {most}",
            )


def _of_the_pools_disks(experiment: Experiment) -> Iterator[Finding]:
    """Refuse what the driver of the bursts does not do."""
    disk, matrix = experiment.disk, experiment.matrix
    asked = {
        ("disk", "backend"): disk.backend is not Backend.NULL_CO,
        ("disk", "iothreads"): disk.iothreads != 1,
        ("disk", "queues"): disk.queues != 1,
        ("disk", "iothread_mapping"): disk.iothread_mapping,
        ("disk", "latency"): disk.latency is not None,
        ("matrix", "rw"): matrix.rw != (ReadWrite.RANDREAD,),
        ("matrix", "bs"): matrix.bs != ("4k",),
        ("instructions", "ring"): experiment.instructions.ring is not RingFormat.SPLIT,
    }
    varied = ("backend", "iothreads", "queues", "iothread_mapping")
    asked |= {("matrix", factor): True for factor in varied if matrix.given(factor)}
    for where in (path for path, given in asked.items() if given):
        yield Finding(
            (where, ("instructions", "load")),
            "the bursts of coroutine-pool are reads of 4k from null-co disks with a queue each, which share "
            "an IOThread and wait until they are let go",
            f"remove {'.'.join(where)}",
        )
