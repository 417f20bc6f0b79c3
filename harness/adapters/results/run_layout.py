"""What lies where in a run directory, and whether a path is one, a bundle of one, or may become one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness.adapters.files import half_written, read_json
from harness.core.errors import InputError
from harness.core.model import Workload

if TYPE_CHECKING:
    from pathlib import Path

LOCK = ".lock"

HEAD = "run.json"
EXPERIMENT, PLAN, ENVIRONMENT = "experiment.yml", "plan.json", "environment.json"
_PARTS = frozenset({"sessions", "counts"})
_FIRST = _PARTS | {EXPERIMENT, PLAN, ENVIRONMENT}
"""What is there before the head; half-written files aside."""
HOST_LOG = "host.jsonl"
DAMAGED = "damaged"
"""Where what is damaged of a run is put aside before it is measured again."""
BUNDLE_SUFFIX = ".tar.zst"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def check_new(path: Path) -> None:
    """Refuse what cannot become a new run directory.

    Raises:
        InputError: it exists and is not empty, is no directory, or may not be made.
    """
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise InputError.single(str(path), f"{existing} is not a directory", "name a new directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError.single(
            str(path), f"{existing} is not writable for this user", "name another directory"
        )
    if existing == path and any(path.iterdir()) and not is_unborn(path):
        raise InputError.single(
            str(path), "is not empty", "name a new directory, or continue this one with --resume"
        )


def is_run_directory(path: Path) -> bool:
    """Return whether a path looks like a run directory.

    Raises:
        InputError: this user may not look into it.
    """
    try:
        return (path / HEAD).is_file()
    except PermissionError as error:
        raise InputError.single(
            str(path), "may not be looked into by this user", "ask as its owner, or as root"
        ) from error
    except OSError:  # no file can have such a name
        return False


def is_run_here(path: Path) -> bool:
    """Return whether there is a run directory that this user may look into."""
    try:
        return is_run_directory(path)
    except InputError:
        return False


def half_written_in_run(path: Path) -> list[Path]:
    """Return what a killed process did not finish writing of a run; what else lies in there is not looked at.

    To be asked of a run directory that nobody writes. Another one in it may have a writer of its own.
    """
    own = {path / name for name in (*_PARTS, DAMAGED)}
    return [file for file in half_written(path) if file.parent == path or not own.isdisjoint(file.parents)]


def holds_run(path: Path) -> bool:
    """Return whether a directory holds a run, begun or unborn: other programs have a run.json, too."""
    return is_unborn(path) or (is_run_directory(path) and any((path / part).is_dir() for part in _PARTS))


def run_of(file: Path) -> Path | None:
    """Return the run directory that a file is a part of, or would be; None for what only lies in one."""
    for parent in file.parents:
        if holds_run(parent):
            own = _FIRST | {HEAD, LOCK, HOST_LOG, DAMAGED}
            return parent if file.relative_to(parent).parts[0] in own else None
    return None


def is_bundle(path: Path) -> bool:
    """Return whether a path is to be read as a bundle: by its name, or by how it begins."""
    if not path.is_file():
        return False
    if path.name.endswith((BUNDLE_SUFFIX, ".tzst")):
        return True
    try:
        with path.open("rb") as stream:
            begins = stream.read(len(ZSTD_MAGIC))
    except OSError:
        return False
    # Compressed results of other tools are files of that kind too, and keep their own suffix before it.
    return begins == ZSTD_MAGIC and path.suffix not in {".zst", ".zstd"}


def holds_counts(path: Path) -> bool:
    """Return whether a path is a run directory of counts."""
    if not is_run_directory(path):
        return False
    head = read_json(path / HEAD)
    return isinstance(head, dict) and head.get("workload") == Workload.INSTRUCTIONS


def is_unborn(path: Path) -> bool:
    """Return whether a directory is what remains of a start that was killed before it had a head."""
    try:
        names = {entry.name for entry in path.iterdir()}
        parts = [path / name for name in names & _PARTS]
        if not parts or any(any(part.iterdir()) for part in parts):
            return False
    except OSError:  # no directory, or not this user's
        return False
    return names - {file.name for file in half_written(path, deep=False)} <= _FIRST
