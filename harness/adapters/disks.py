"""The file or device behind the guest's disk: found, checked, or made below the state directory."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters import process
from harness.adapters.disk_guard import DiskGuard
from harness.adapters.files import PASSABLE, make_directory, sync_directory
from harness.adapters.host.block_devices import BlockDevices
from harness.adapters.host.facts import free_bytes
from harness.core.errors import HarnessError, InputError, Problem
from harness.core.experiment.write_checks import writes
from harness.core.model import Backend, DiskFormat
from harness.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.core.experiment import Experiment
    from harness.core.experiment.machine import Disk
    from harness.core.model import GuestConfig

_CHUNK_BYTES = 4 * 2**20
_TELL_SECONDS = 5.0


def check_disks(experiment: Experiment, source: str) -> None:
    """Check that what the experiment names is there and is what it says.

    Raises:
        InputError: with every problem.
    """
    problems = [
        problem
        for config in experiment.guest_configs()
        if (problem := _problem(experiment.for_guest(config), f"{source}: disk.path"))
    ]
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    # Who holds it open is looked at when it begins: until then that may be another run.
    DiskGuard(experiment, source, processes=False).check(privileged=False)


def prepare_disks(
    experiment: Experiment, directory: Path, say: Callable[[str], None] = lambda _text: None
) -> dict[GuestConfig, Path | None]:
    """Return the path behind the disk of each guest configuration; images are made where none is named.

    Args:
        experiment: whose disks.
        directory: where images are made; one that is there is used again.
        say: told that an image is made, and how far it is.

    Raises:
        HarnessError: there is no space for an image, or it cannot be made.
    """
    configs = experiment.guest_configs()
    return {config: _path(experiment.for_guest(config), directory, say) for config in configs}


def _problem(experiment: Experiment, where: str) -> Problem | None:
    disk = experiment.disk
    if disk.path is None or disk.backend not in {Backend.FILE, Backend.BLOCK}:
        return None
    try:
        mode = Path(disk.path).stat().st_mode
    except OSError as error:
        return Problem(where, f"{disk.path}: {error.strerror}", "check the path")
    if disk.backend is Backend.BLOCK and not stat.S_ISBLK(mode):
        return Problem(where, f"{disk.path} is not a block device", "use `backend: file` for an image")
    if disk.backend is Backend.FILE and not stat.S_ISREG(mode):
        return Problem(where, f"{disk.path} is not a regular file", "use `backend: block` for a device")
    if disk.backend is Backend.FILE and writes(experiment):
        use = BlockDevices().file_use(Path(disk.path))
        return Problem(where, f"{disk.path} is {use}", "use another file") if use else None
    return None


def _path(experiment: Experiment, directory: Path, say: Callable[[str], None]) -> Path | None:
    disk = experiment.disk
    if disk.path is not None:
        return Path(disk.path)
    if disk.backend is not Backend.FILE:
        return None
    make_directory(directory, PASSABLE)
    image = image_path(disk, directory)
    return image if image.exists() else _make_image(image, disk.size, disk.format, say)


def image_path(disk: Disk, directory: Path) -> Path:
    """Return where the image of a disk is that was left to the harness; it may not be there yet."""
    return directory / f"{format_size(disk.size)}.{disk.format}"


def _make_image(image: Path, size: int, kind: DiskFormat, say: Callable[[str], None]) -> Path:
    """Make an image whose every block holds data: an unfilled file reads faster than the device."""
    needed = size * (2 if kind is DiskFormat.QCOW2 else 1)
    if free_bytes(image.parent) < needed * 1.05:
        raise HarnessError(
            f"no space for {image}: {format_size(needed)} needed, {free_bytes(image.parent) >> 20} MiB free",
            remedy="make disk.size smaller, or move the state directory (--state-dir)",
        )
    raw = image.with_suffix(".raw.part")
    part = image.with_suffix(".part")
    try:
        raw.unlink(missing_ok=True)
        say(f"making the disk image {image}: {format_size(size)} are written, once")
        _fill(raw, size, say)
        if kind is DiskFormat.QCOW2:
            say(f"turning it into {kind}")
            argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(part)]
            process.run(argv, timeout=process.copy_seconds(size))
            part.chmod(0o600)
        else:
            raw.rename(part)
        # Renamed last: an image under its own name is a whole one.
        part.rename(image)
        sync_directory(image.parent)
    except OSError as error:
        raise HarnessError(f"cannot make the disk image {image}: {error.strerror}") from error
    finally:
        raw.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    return image


def _fill(path: Path, size: int, say: Callable[[str], None]) -> None:
    """Write what no device can compress away, and no file system leave out."""
    began = told = time.monotonic()
    # libvirt hands it to QEMU's user for as long as a guest has it.
    path.touch(0o600, exist_ok=False)
    with path.open("r+b") as stream:
        # One piece of the disk, where the file system can give it.
        with contextlib.suppress(OSError):
            os.posix_fallocate(stream.fileno(), 0, size)
        for offset in range(0, size, _CHUNK_BYTES):
            stream.write(os.urandom(min(_CHUNK_BYTES, size - offset)))
            if (now := time.monotonic()) - told > _TELL_SECONDS:
                told = now
                left = (now - began) / (offset + _CHUNK_BYTES) * (size - offset - _CHUNK_BYTES)
                say(f"{offset + _CHUNK_BYTES >> 20} of {size >> 20} MiB written, {left:.0f} s left")
        stream.flush()
        os.fsync(stream.fileno())
