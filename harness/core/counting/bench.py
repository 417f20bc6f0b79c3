"""What `qemu-img bench` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.model import Aio, Backend, Cache

if TYPE_CHECKING:
    from harness.core.experiment import Disk


@dataclass(frozen=True, slots=True)
class BenchLoad:
    """One run of `qemu-img bench`.

    Attributes:
        disk: the experiment's disk: backend, format, cache mode, aio.
        path: the file behind it, where its backend has one.
        depth: requests in flight.
        block: bytes a request.
        requests: all of them.
        writes: whether they write.
    """

    disk: Disk
    path: str | None
    depth: int
    block: int
    requests: int
    writes: bool


def bench_arguments(load: BenchLoad) -> list[str]:
    """Return qemu-img's arguments."""
    disk = load.disk
    argv = ["bench", "-c", str(load.requests), "-d", str(load.depth), "-s", str(load.block)]
    argv += ["-t", str(disk.cache if disk.backend is not Backend.NULL_CO else Cache.NONE)]
    argv += ["-w"] if load.writes else []
    if disk.aio is not Aio.THREADS and disk.backend is not Backend.NULL_CO:
        argv += ["-i", str(disk.aio)] if disk.aio is Aio.IO_URING else ["-n"]
    return [*argv, "--image-opts", _image(load)]


def _image(load: BenchLoad) -> str:
    disk = load.disk
    if disk.backend is Backend.NULL_CO:
        options = f"driver=raw,file.driver=null-co,file.size={disk.size},file.read-zeroes=off"
        return options + (f",file.latency-ns={round(disk.latency * 1e9)}" if disk.latency else "")
    protocol = "host_device" if disk.backend is Backend.BLOCK else "file"
    # A comma separates options; two of them are one.
    path = str(load.path).replace(",", ",,")
    return f"driver={disk.format},file.driver={protocol},file.filename={path}"
