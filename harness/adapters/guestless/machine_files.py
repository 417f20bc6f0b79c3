"""The files that a machine without a guest is started with."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import TYPE_CHECKING

from harness.core.counting import rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def machine_files(directory: Path) -> rig.RigFiles:
    """Return where a machine's files are in a directory; its firmware is written.

    Args:
        directory: a fresh one with a short path: it takes a socket.
    """
    (directory / "bios").write_bytes(rig.BIOS)
    return rig.RigFiles(str(directory / "bios"), str(directory / "memory"), str(directory / "qtest"))


@contextlib.contextmanager
def shared_memory(path: Path, size: int) -> Iterator[mmap.mmap]:
    """Map the file that becomes the machine's memory: what stands there costs QEMU no instructions."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, size)
        with mmap.mmap(descriptor, size) as shared:
            yield shared
    finally:
        os.close(descriptor)
