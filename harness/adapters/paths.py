"""The files on this host that an experiment names: there, and what they should be, before a start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import InputError, Problem
from harness.core.experiment import GitBuild, PathBuild, SourceBuild, TarballBuild
from harness.core.experiment.source_values import is_on_host, is_remote_repository, is_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.experiment import Experiment


def directory_of(file: Path) -> Path:
    """Return where the files are that one of the user's names relative to itself.

    Of a pipe (``<(...)``, /dev/stdin) that is where the user is: the directory of such a name is nobody's.
    """
    directory = file.absolute().parent
    real = Path(os.path.realpath(directory))
    return Path.cwd() if real == Path("/dev") or real.is_relative_to("/proc") else directory


def check_paths(experiment: Experiment, source: str, directory: Path) -> None:
    """Check everything that an experiment names on this host.

    Args:
        experiment: whose builds, kernel and initramfs are looked at.
        source: what to call its file in messages.
        directory: where the file is; patches and tarballs may be relative to it.

    Raises:
        InputError: with every problem.
    """
    problems = [*companion_problems(experiment, source, directory), *_problems(experiment, source)]
    if problems:
        raise InputError(problems)


def companion_problems(experiment: Experiment, source: str, directory: Path) -> list[Problem]:
    """Return what is wrong with the files that belong beside an experiment's: patches, relative tarballs."""
    found: list[Problem] = []
    for name, build in experiment.builds.items():
        if not isinstance(build, SourceBuild):
            continue
        for index, patch in enumerate(build.patches):
            where = f"{source}: builds.{name}.patches[{index}]"
            found += _file(where, directory / patch, executable=False)
        if isinstance(build, TarballBuild) and not is_on_host(build.tarball) and not is_url(build.tarball):
            where = f"{source}: builds.{name}.tarball"
            found += _file(where, directory / build.tarball, executable=False)
    return found


def _problems(experiment: Experiment, source: str) -> Iterator[Problem]:
    for name, build in experiment.builds.items():
        where = f"{source}: builds.{name}"
        if isinstance(build, PathBuild):
            yield from _file(f"{where}.path", Path(build.path), executable=True)
        elif isinstance(build, TarballBuild) and is_on_host(build.tarball):
            yield from _file(f"{where}.tarball", Path(build.tarball).expanduser(), executable=False)
        elif isinstance(build, GitBuild) and not is_remote_repository(build.git):
            yield from _repository(f"{where}.git", Path(build.git).expanduser())
    for key in ("kernel", "initrd"):
        path = getattr(experiment.guest, key)
        if path is not None:
            yield from _file(f"{source}: guest.{key}", Path(path), executable=False)


def _file(where: str, path: Path, *, executable: bool) -> Iterator[Problem]:
    if not path.is_file():
        found = "is not a file" if path.exists() else "does not exist"
        yield Problem(where, f"{path} {found}", "check the path")
    elif not os.access(path, os.R_OK):
        yield Problem(where, f"{path} may not be read by this user", "change its permissions")
    elif executable and not os.access(path, os.X_OK):
        yield Problem(where, f"{path} is not executable", f"chmod +x {path}, or name a qemu-system-* binary")


def _repository(where: str, path: Path) -> Iterator[Problem]:
    # What git thinks of it is asked when it is provisioned.
    if not path.is_dir():
        found = "is not a directory" if path.exists() else "does not exist"
        yield Problem(where, f"{path} {found}", "give the path of a git repository, or its URL")
