"""Whether an A/A run says anything of a run: same host, same cells, one build in every role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.adapters.results.store import RunDirectory
from harness.analysis.ordering import cell_label
from harness.core.errors import InputError
from harness.core.experiment import Experiment, load_experiment
from harness.core.model import TABLE_FACTORS, Workload
from harness.shell.results import is_aa, workload_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MEASURED_BY = ("runtime", "ramp", "iterations")
"""Keys of the protocol that make a sample more or less exact."""


def place_of(environment: Mapping[str, Any], accel: str | None = None) -> dict[str, object]:
    """Return what makes a host and its accelerator; without the accelerator where it is not known yet."""
    host = environment.get("host", {})
    cpu = host.get("cpu", {})
    place = {
        "host": host.get("name"),
        "cpu": cpu.get("model"),
        "cpus": cpu.get("count"),
        "kernel": host.get("kernel"),
    }
    return place if accel is None else {**place, "accel": accel}


def open_floor(path: Path) -> RunDirectory:
    """Open an A/A run.

    Raises:
        InputError: it is no run, or one of another workload than fio-matrix.
    """
    floor = RunDirectory.open(path)
    workload = workload_of(path)
    if workload is not Workload.FIO_MATRIX:
        kind = "counts" if workload is Workload.INSTRUCTIONS else "rounds"
        raise InputError.single(
            str(path),
            f"is a run of {kind} ({workload}), which is no noise floor of samples",
            "make one of the same matrix: harness run EXPERIMENT --aa",
        )
    return floor


def check_applies(floor: RunDirectory, experiment: Experiment, place: Mapping[str, object]) -> list[str]:
    """Refuse what is no noise floor of an experiment at a place.

    Args:
        floor: the A/A run.
        experiment: of the run that it is shown beside.
        place: as `place_of` has it, of that run.

    Returns:
        Settings in which the A/A run differs, so that it may be more or less noisy: ``disk``,
        ``protocol.runtime``.

    Raises:
        InputError: it is no A/A run, or one of another host or accelerator, or lacks cells.
    """
    path, record = floor.path, floor.record
    if not is_aa(record.builds):
        raise InputError.single(
            str(path), "is no A/A run: its variants are different builds", "make one with harness run --aa"
        )
    there = place_of(floor.environment, record.accel)
    for name, here in place.items():
        if there[name] != here:
            raise InputError.single(
                str(path),
                f"is the noise floor of another host: {name} is {there[name]} there and {here} here",
                "measure the noise floor on the host of the run: harness run --aa",
            )
    measured = load_experiment(floor.experiment, f"{path}/experiment.yml")
    _check_cells(path, measured, experiment)
    return _other_settings(measured, experiment)


def _check_cells(path: Path, measured: Experiment, experiment: Experiment) -> None:
    factors = experiment.varied_factors()
    remedy = "measure the noise floor with the same matrix: harness run EXPERIMENT --aa"
    if measured.varied_factors() != factors:
        names = " and ".join(", ".join(one.varied_factors()) for one in (measured, experiment))
        raise InputError.single(str(path), f"varies other factors than the run: {names}", remedy)
    known = {tuple(cell.factors()[name] for name in factors) for cell in measured.cells()}
    wanted = [tuple(cell.factors()[name] for name in factors) for cell in experiment.cells()]
    missing = [cell_label(key, factors[len(TABLE_FACTORS) :]) for key in wanted if key not in known]
    if missing:
        raise InputError.single(str(path), f"has no noise floor of {', '.join(missing)}", remedy)


def _other_settings(measured: Experiment, experiment: Experiment) -> list[str]:
    sections = ("guest", "disk", "placement", "tuning")
    found = [name for name in sections if getattr(measured, name) != getattr(experiment, name)]
    found += [
        f"protocol.{key}"
        for key in _MEASURED_BY
        if getattr(measured.protocol, key) != getattr(experiment.protocol, key)
    ]
    return found
