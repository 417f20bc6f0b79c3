"""A finished run's result as text, whatever its workload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.results.run_layout import HEAD, holds_counts
from harness.adapters.results.store import RunDirectory, is_run_directory
from harness.core.errors import InputError
from harness.core.experiment import load_experiment
from harness.core.model import Workload

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from pathlib import Path
    from typing import Any


def is_aa(builds: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether all variants of a run are the same build, by its head."""
    return len({build["sha256"] for build in builds.values()}) == 1


def check_builds(file: Path, variants: Iterable[str], builds: Container[str]) -> None:
    """Refuse a run whose head does not know a build that was to be measured.

    Args:
        file: which names the variants.
        variants: those.
        builds: by the head.

    Raises:
        InputError: that is so.
    """
    unknown = [name for name in variants if name not in builds]
    if unknown:
        raise InputError.single(
            str(file),
            f"has the build {unknown[0]}, of which {file.with_name(HEAD)} knows nothing",
            "restore the files",
        )


def workload_of(path: Path) -> Workload | None:
    """Return the workload of a run directory; None when the path is none.

    Raises:
        InputError: the directory is damaged.
    """
    if not is_run_directory(path):
        return None
    if holds_counts(path):
        return Workload.INSTRUCTIONS
    return load_experiment(RunDirectory.open(path).experiment, f"{path}/experiment.yml").workload
