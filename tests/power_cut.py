"""What a power cut would leave: only what was put on disk, file by file and name by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


class Disk:
    """Follows every fsync: of a file it keeps the content, of a directory the names in it.

    A file that was renamed is there under the name that its directory had when that was last put on disk.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, descriptor: int) -> None:
        self._real(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}")
        inode = os.fstat(descriptor).st_ino
        if path.is_dir():
            self._names[inode] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self._contents[inode] = path.read_bytes()

    def after_a_cut(self, place: Path, target: Path) -> Path:
        """Write what would be left of a directory, itself taken to be on disk, somewhere else."""
        self._restore(place.stat().st_ino, target)
        return target

    def _restore(self, inode: int, target: Path) -> None:
        target.mkdir()
        for name, child in self._names.get(inode, {}).items():
            if child in self._names:
                self._restore(child, target / name)
            else:
                # One whose name came to the disk before its content is empty.
                (target / name).write_bytes(self._contents.get(child, b""))
