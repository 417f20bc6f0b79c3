"""The files on this host that an experiment names: there, and what they should be, before a start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import InputError, Problem
from harness.core.experiment import PathBuild

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment import Experiment


def check_paths(experiment: Experiment, source: str) -> None:
    """Check the binaries of ``path`` builds, and the guest's own kernel and initramfs.

    Raises:
        InputError: with every problem.
    """
    problems = list(_problems(experiment, source))
    if problems:
        raise InputError(problems)


def _problems(experiment: Experiment, source: str) -> Iterator[Problem]:
    for name, build in experiment.builds.items():
        if isinstance(build, PathBuild):
            yield from _file(f"{source}: builds.{name}.path", build.path, executable=True)
    for key in ("kernel", "initrd"):
        path = getattr(experiment.guest, key)
        if path is not None:
            yield from _file(f"{source}: guest.{key}", path, executable=False)


def _file(where: str, path: str, *, executable: bool) -> Iterator[Problem]:
    if not Path(path).is_file():
        found = "is not a file" if Path(path).exists() else "does not exist"
        yield Problem(where, f"{path} {found}", "check the path")
    elif not os.access(path, os.R_OK):
        yield Problem(where, f"{path} may not be read by this user", "change its permissions")
    elif executable and not os.access(path, os.X_OK):
        yield Problem(where, f"{path} is not executable", f"chmod +x {path}, or name a qemu-system-* binary")
