"""Nobody loses data by mistake: what a path of the user's holds is overwritten only if that is said twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.device_use import BY_ID
from harness.core.experiment.finding import Finding
from harness.core.model import Backend, ReadWrite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment.machine import Disk
    from harness.core.experiment.model import Experiment
    from harness.core.experiment.paths import Path

_KEYS: tuple[Path, ...] = (
    ("disk", "destroy_data"),
    ("disk", "path"),
    ("disk", "backend"),
    ("matrix", "rw"),
)


def writes(experiment: Experiment) -> bool:
    """Return whether any pattern of an experiment writes to its disk."""
    return any(ReadWrite(pattern).writes for pattern in experiment.matrix.rw)


def is_by_id(path: str) -> bool:
    """Return whether a path names a device by what is written on the device itself."""
    name = path.removeprefix(BY_ID)
    return path.startswith(BY_ID) and name not in {"", ".", ".."} and "/" not in name


def contradictions(experiment: Experiment) -> Iterator[Finding]:
    """Find writes that were not allowed, and permissions that name no device for good."""
    disk = experiment.disk
    if disk.backend is Backend.NULL_CO or disk.path is None:
        return
    if disk.destroy_data is None:
        yield from _forbidden(experiment, disk)
    elif disk.backend is Backend.FILE:
        yield from _same(disk)
    elif not is_by_id(disk.destroy_data):
        yield Finding(
            _KEYS,
            f"{disk.destroy_data!r} may be another device after the next boot",
            f"name the device by its id: destroy_data: {_example(disk)} (see ls -l {BY_ID})",
        )
    elif disk.backend is Backend.BLOCK:
        yield from _same(disk)


def _same(disk: Disk) -> Iterator[Finding]:
    if disk.destroy_data != disk.path:
        # One name for the device that is measured and for the one that may be overwritten.
        yield Finding(
            _KEYS,
            f"{disk.destroy_data!r} is not the disk's path {disk.path!r}",
            f"write the same path twice: path and destroy_data: {disk.destroy_data}"
            if disk.backend is Backend.BLOCK
            else f"write destroy_data: {disk.path} if all data there may be destroyed",
        )


def _forbidden(experiment: Experiment, disk: Disk) -> Iterator[Finding]:
    for index, pattern in enumerate(experiment.matrix.rw):
        if ReadWrite(pattern).writes:
            yield Finding(
                (("matrix", "rw", index), *_KEYS),
                f"{pattern} would overwrite what {disk.path} holds",
                f"write disk.destroy_data: {_example(disk)} if all data there may be destroyed, or read only",
            )


def _example(disk: Disk) -> str:
    """Return the permission that would be right for a disk, as far as it can be known here."""
    path = disk.path or ""
    if disk.backend is Backend.FILE or (disk.backend is Backend.BLOCK and is_by_id(path)):
        return path
    return f"{BY_ID}..."
