"""A run directory as one file: a tar archive compressed with zstd, the same to the byte for the same run.

The first member is ``RUN_ID/manifest.json``: format version, and size and SHA-256 of every other member. Then
come the run's own files and the rendered tables, sorted by name. `unpacking` reads it again.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import orjson
import zstandard

from harness.adapters.files import files_below, read_bytes
from harness.adapters.results.run_layout import DAMAGED
from harness.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

BUNDLE_FORMAT = "qemu-ab-harness bundle"
BUNDLE_VERSION = 1
"""Readers accept this and older ones, and refuse newer ones."""

MANIFEST = "manifest.json"
NOISE_FLOOR = "noise-floor"
"""Where the A/A run that a run points at lies in its bundle."""

_LEVEL = 10
_LOGS = ".log"
_PART_OF_A_RUN = frozenset({".json", ".jsonl", ".yml", ".xml", ".svg"})
_CALLGRIND = "callgrind.out-"
_MADE_FOR_A_BUNDLE = frozenset({MANIFEST, "table.txt", "table.md"})


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a bundle, as its manifest has it."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself (``manifest.json``).

    Attributes:
        format: `BUNDLE_FORMAT`.
        harness_version: of the harness that made it.
        anonymous: whether names and paths were replaced.
        logs: whether the consoles' and QEMU's logs are in it.
        files: by name, relative to the run directory.
    """

    format: str
    format_version: int
    run_id: str
    harness_version: str
    anonymous: bool
    logs: bool
    files: dict[str, Member] = field(default_factory=dict)


def was_unpacked(path: Path) -> bool:
    """Return whether a directory came out of a bundle."""
    return (path / MANIFEST).is_file()


def files_of_run(path: Path, *, logs: bool) -> dict[str, bytes]:
    """Return the files of a run directory that belong into a bundle, by name, sorted.

    Locks, temporary files, links and what nobody knows are left out; logs too, unless they are asked for.

    Raises:
        InputError: a file cannot be read.
    """
    names = sorted(_names(path, logs=logs))
    return {name: read_bytes(path / name) for name in names}


def _names(path: Path, *, logs: bool) -> Iterator[str]:
    for file in files_below(path):
        name = file.relative_to(path)
        if any(part.startswith(".") for part in name.parts) or file.is_symlink() or not file.is_file():
            continue
        if str(name) in _MADE_FOR_A_BUNDLE or name.parts[0] in {NOISE_FLOOR, DAMAGED}:
            continue
        known = file.suffix in _PART_OF_A_RUN or file.name.startswith(_CALLGRIND)
        if known or (logs and file.suffix == _LOGS):
            yield name.as_posix()


def pack(
    files: Mapping[str, bytes], *, run_id: str, harness_version: str, anonymous: bool, logs: bool
) -> bytes:
    """Return a bundle's content.

    Args:
        files: content by name, relative to the run directory.
        run_id: the directory they unpack into.
        harness_version: of this harness.
        anonymous: whether names and paths were replaced.
        logs: whether logs are among the files.

    Raises:
        InputError: a name is too long for an archive.
    """
    members = {
        name: Member(len(data), hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items())
    }
    manifest = Manifest(BUNDLE_FORMAT, BUNDLE_VERSION, run_id, harness_version, anonymous, logs, members)
    head = orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    stream = io.BytesIO()
    # One thread: how the work is divided would show in the bytes.
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with (
        compressor.stream_writer(stream, closefd=False) as compressed,
        # The plainest format there is: what nobody writes nobody has to trust when reading.
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, data in [(MANIFEST, head), *sorted(files.items())]:
            _add(archive, f"{run_id}/{name}", data)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    try:
        archive.addfile(info, io.BytesIO(data))
    except ValueError as error:
        raise InputError.single(name, f"cannot be archived: {error}", "shorten the variant's name") from error
