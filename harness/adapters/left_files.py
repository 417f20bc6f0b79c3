"""Files and directories that a process which was killed leaves behind, in places of this project's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness.adapters.files import half_written
from harness.adapters.host.locks import holder_of
from harness.adapters.results.run_layout import LOCK, half_written_in_run, holds_run, is_unborn

if TYPE_CHECKING:
    from pathlib import Path

    from harness.adapters.workspace import Workspace


def left_in_state(workspace: Workspace, prefix: str) -> tuple[list[Path], list[Path]]:
    """Return what dead runs left in the state directory: directories, and files.

    To be asked by who is alone on the host, after the guests have been ended.

    Args:
        workspace: the state directory.
        prefix: of this project's domains.
    """
    root = workspace.embed_root
    directories = [
        *([workspace.guest] if workspace.guest.exists() else []),
        *root.glob(f"lib/qemu/domain-*-{prefix}*"),
        *root.glob("lib/qemu/qmp-*"),
        *root.glob(f"lib/qemu/channel/target/domain-*-{prefix}*"),
    ]
    files = [
        *root.glob(f"run/qemu/{prefix}*"),
        *root.glob(f"log/qemu/{prefix}*.log"),
        *workspace.disks.glob("*.part"),
        *half_written(root, deep=False),
        *half_written(workspace.state, deep=False),
    ]
    return sorted(directories), sorted(set(files))


def left_in_run(directory: Path) -> list[Path]:
    """Return the half-written files of a run directory; of one that never came to be one, the whole.

    To be asked of one that nobody writes.
    """
    if is_unborn(directory):
        return [directory]
    return half_written_in_run(directory)


def runs_in(directory: Path) -> list[Path]:
    """Return the run directories in a directory, those that never came to be one included.

    What this user may not look into is among them: it may be one.
    """
    return sorted(path for path in directory.glob("*") if is_closed(path) or holds_run(path))


def is_closed(path: Path) -> bool:
    """Return whether a path is a directory that this user may not look into."""
    return path.is_dir() and not os.access(path, os.R_OK | os.X_OK)


def writer_of(run: Path) -> str | None:
    """Return who writes a run directory at the moment, in words; None when nobody does."""
    return holder_of(run / LOCK)
