"""Disk images of the user's: looked at, pinned, and copied; never written."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters import process
from harness.adapters.files import PASSABLE, make_directory, read_json, sha256_of, write_json
from harness.adapters.host.facts import free_bytes
from harness.core.errors import HarnessError, InputError, Problem
from harness.core.model import DiskFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment import Experiment

_QCOW2_MAGIC = b"QFI\xfb"
_OTHERS = {
    b"KDMV": "VMDK",
    b"COWD": "VMDK",
    b"vhdxfile": "VHDX",
    b"conectix": "VHD",
    b"<<< ": "VDI",
    b"QED\0": "QED",
}
_OTHERS |= {
    b"\x1f\x8b": "compressed (gzip)",
    b"\xfd7zXZ": "compressed (xz)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
}
_HEAD_BYTES = 16
_OTHERS_MAY_USE = 0o077


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A disk image as it was found.

    Attributes:
        path: where.
        format: of the image.
        size_bytes: of the file.
        mtime_ns: when it was written last.
        sha256: of its content.
    """

    path: str
    format: DiskFormat
    size_bytes: int
    mtime_ns: int
    sha256: str


def check_image(experiment: Experiment, source: str) -> None:
    """Check that the guest's disk image and the user's key are there, and what they should be.

    Raises:
        InputError: with every problem.
    """
    if problems := list(_problems(experiment, source)):
        raise InputError(problems)


def _problems(experiment: Experiment, source: str) -> Iterator[Problem]:
    guest = experiment.guest
    if guest.disk_image:
        yield from _image_problems(Path(guest.disk_image), f"{source}: guest.image")
    if guest.ssh:
        yield from _key_problems(Path(guest.ssh.key), f"{source}: guest.ssh.key")


def _image_problems(path: Path, where: str) -> Iterator[Problem]:
    if not path.is_file():
        found = "is not a file" if path.exists() else "does not exist"
        yield Problem(where, f"{path} {found}", "check the path")
        return
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        yield Problem(where, f"{path}: {error.strerror}", "change its permissions")
        return
    if not head:
        yield Problem(where, f"{path} is empty", "name a qcow2 or raw disk image")
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            convert = f"unpack it, or: qemu-img convert -O qcow2 {path} disk.qcow2"
            yield Problem(where, f"{path} is {name}, neither qcow2 nor raw", convert)


def _key_problems(path: Path, where: str) -> Iterator[Problem]:
    try:
        mode = path.stat().st_mode
        with path.open(encoding="utf-8", errors="replace") as stream:
            first = stream.readline()
    except OSError as error:
        yield Problem(where, f"{path}: {error.strerror}", "check the path")
        return
    if "PRIVATE KEY" not in first:
        yield Problem(where, f"{path} is no private key", "name the file without .pub")
    elif mode & _OTHERS_MAY_USE:
        yield Problem(where, f"{path} may be read by others, and ssh refuses such keys", f"chmod 600 {path}")


def pin(path: Path, cache: Path) -> ImageFile:
    """Return an image as it is now. The hash of one that was not written since is remembered.

    Args:
        path: of the image.
        cache: the file that remembers hashes.

    Raises:
        InputError: it cannot be read.
    """
    try:
        status = path.stat()
        with path.open("rb") as stream:
            kind = DiskFormat.QCOW2 if stream.read(4) == _QCOW2_MAGIC else DiskFormat.RAW
        known = _remembered(cache)
        key, mark = str(path.absolute()), [status.st_size, status.st_mtime_ns, status.st_ino]
        entry = known.get(key)
        if not isinstance(entry, dict) or entry.get("file") != mark:
            entry = {"file": mark, "sha256": sha256_of(path)}
            make_directory(cache.parent, PASSABLE)
            write_json(cache, known | {key: entry}, private=True)
    except OSError as error:
        raise InputError.single("guest.image", f"{path}: {error.strerror}", "check the path") from error
    return ImageFile(key, kind, status.st_size, status.st_mtime_ns, str(entry["sha256"]))


def _remembered(cache: Path) -> dict[str, object]:
    with contextlib.suppress(InputError):
        known = read_json(cache)
        if isinstance(known, dict):
            return known
    return {}


def copy_image(image: ImageFile, target: Path) -> None:
    """Make a copy (qcow2) that depends on nothing else, and of which the guest may write.

    Raises:
        HarnessError: there is no space, or the image is damaged, encrypted, or changing.
    """
    # A qcow2 file may be compressed, or have others below it: what it takes is known only afterwards.
    held = os.stat(image.path).st_blocks * 512  # noqa: PTH116 - st_blocks
    if free_bytes(target.parent) < held:
        raise HarnessError(
            f"no space for a copy of {image.path}: {held >> 20} MiB needed, "
            f"{free_bytes(target.parent) >> 20} MiB free below {target.parent}",
            remedy="make room, or move the state directory (--state-dir)",
        )
    _make_private(target)
    argv = ["qemu-img", "convert", "-f", image.format, "-O", "qcow2", image.path, str(target)]
    process.run(argv, timeout=process.copy_seconds(held))


def make_overlay(image: Path, overlay: Path) -> None:
    """Make an empty overlay on an image, for this user's eyes and those of whoever libvirt runs QEMU as."""
    _make_private(overlay)
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(overlay)]
    process.run(argv, timeout=process.copy_seconds(0))


def _make_private(disk: Path) -> None:
    """Make an empty file that others cannot read; qemu-img leaves the mode of one that is there."""
    disk.unlink(missing_ok=True)
    disk.touch(0o600)


def describe(image: ImageFile) -> dict[str, object]:
    """Return an image for JSON."""
    return asdict(image)
