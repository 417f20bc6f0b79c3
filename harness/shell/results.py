"""A finished run's result as text, whatever its workload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.results.store import RunDirectory, is_run_directory
from harness.core.experiment import load_experiment

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.model import Workload


def workload_of(path: Path) -> Workload | None:
    """Return the workload of a run directory; None when the path is none.

    Raises:
        InputError: the directory is damaged.
    """
    if not is_run_directory(path):
        return None
    return load_experiment(RunDirectory.open(path).experiment, f"{path}/experiment.yml").workload
