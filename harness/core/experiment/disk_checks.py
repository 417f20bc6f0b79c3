"""What contradicts itself in the disk that is measured, and in the I/O that is done to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.core.experiment.finding import Finding
from harness.core.model import Aio, Backend, Cache, DiskFormat
from harness.core.units import format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment.model import Experiment
    from harness.core.experiment.paths import Path

_NVME_ADDRESS = re.compile(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]")
_DIRECT = (Cache.NONE, Cache.DIRECTSYNC)
_HOST_IO_FACTORS = ("aio", "cache", "format")


def contradictions(experiment: Experiment) -> Iterator[Finding]:
    """Return what is contradictory in the disk of one guest."""
    for check in (_path, _format, _latency, _aio, _idle_factor, _mapping, _idle_polling, _block_size):
        yield from check(experiment)


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
        # Several disks, which only counts have, take the IOThreads in turn.
        if disk.iothreads > experiment.instructions.disks:
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
