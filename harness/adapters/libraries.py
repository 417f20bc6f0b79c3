"""The shared libraries a process maps: two sessions of one build ran the same code only if these agree."""

from __future__ import annotations

from pathlib import Path

from harness.adapters.files import sha256_of
from harness.core.shared_objects import HEAD_BYTES, build_id, mapped_files

_known: dict[tuple[int, int, int, int], str] = {}
"""Identities by device, inode, size and time of change: no session reads again what did not change."""


def shared_libraries(pid: int) -> dict[str, str | None] | None:
    """Return what a process maps to execute, beside its own executable, as path -> identity.

    An identity is ``build-id:HEX``, ``sha256:HEX`` where the file has none, and None where it cannot be
    read (a library that was replaced while it was in use). None instead of all when the mappings are hidden.
    """
    process = Path(f"/proc/{pid}")
    try:
        files = mapped_files((process / "maps").read_bytes())
        exe = str((process / "exe").readlink())
    except OSError:
        return None
    # Through the process's own root: a launcher may have given it mounts that nobody else sees.
    return {path: _identity(process / "root" / path.lstrip("/")) for path in files if path != exe}


def _identity(path: Path) -> str | None:
    try:
        status = path.stat()
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if key not in _known:
            _known[key] = _read_identity(path)
    except OSError:
        return None
    return _known[key]


def _read_identity(path: Path) -> str:
    with path.open("rb") as stream:
        found = build_id(stream.read(HEAD_BYTES))
    return f"build-id:{found}" if found else f"sha256:{sha256_of(path)}"
