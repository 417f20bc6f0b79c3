"""From a run directory, or from anybody's results, to a comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters.imports import NOT_INTERLEAVED, Imported, cells_as_found, read_results, together
from harness.adapters.run_samples import RunSamples, read_samples
from harness.adapters.store import RunDirectory, is_run_directory
from harness.analysis.ordering import scattered_blocks, why_not_interleaved
from harness.analysis.result import Comparison, build
from harness.core.agreement import disagreements, summary_of
from harness.core.errors import InputError
from harness.core.experiment import Experiment, load_experiment
from harness.core.model import TABLE_FACTORS
from harness.core.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from harness.analysis.ordering import CellKey
    from harness.core.records import RunRecord

TCG_NOTICE = (
    "Measured under TCG (emulation): the numbers compare builds only roughly, and say nothing of KVM."
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """How to judge; None takes what the experiment says.

    Attributes:
        accept_differences: whether to judge although sessions differ in more than the build.
    """

    metric: str = "iops"
    margin: float | None = None
    alpha: float | None = None
    accept_differences: bool = False


def compare_run(path: Path, judgement: Judgement, noise_floor: Path | None = None) -> Comparison:
    """Compare the variants of one run.

    Args:
        path: the run directory.
        judgement: how to judge.
        noise_floor: an A/A run of the same host; the one the run points at when None.

    Raises:
        InputError: a directory is no run, is damaged, holds nothing yet, or is of another host.
    """
    run = RunDirectory.open(path)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    found, record = _adjacent(read_samples(run)), run.record
    floor, unavailable = _floor_of(record, noise_floor)
    differing = disagreements(found.sessions)
    refused = None if judgement.accept_differences else _refused(differing)
    factors = experiment.varied_factors()
    measured = set(found.frame["variant"])
    contenders = [name for name in experiment.contenders if name in measured]
    if experiment.baseline not in measured or not contenders:
        raise InputError.single(
            str(path),
            f"only {', '.join(sorted(measured))} gave numbers so far: there is nothing to compare",
            f"harness run --resume {path}",
        )
    absent = [f"{name} gave no numbers at all" for name in experiment.contenders if name not in measured]
    return build(
        found.frame,
        baseline=experiment.baseline,
        contenders=contenders,
        margin=experiment.protocol.margin if judgement.margin is None else judgement.margin,
        alpha=experiment.protocol.alpha if judgement.alpha is None else judgement.alpha,
        metric=judgement.metric,
        factors=factors[len(TABLE_FACTORS) :],
        cells=[tuple(cell.factors()[name] for name in factors) for cell in experiment.cells()],
        no_verdict=refused or why_not_interleaved(found.order),
        ceilings={tuple(c[name] for name in factors): c["iops"] for c in run.read_ceilings()},
        warnings=[*_accepted(differing, refused), *absent, *unavailable, *found.warnings],
        footer=_footer(experiment, record, found),
        noise_floor=_noise_floor(floor, run, judgement) if floor else None,
        environment={
            **run.environment,
            "accel": record.accel,
            "accel_reason": record.accel_reason,
            "builds": record.builds,
            "guest_image": record.guest_image,
        },
    )


def _floor_of(record: RunRecord, chosen: Path | None) -> tuple[Path | None, list[str]]:
    """Return the A/A run to show beside the results, and a warning when the recorded one is not here.

    A run directory can be read anywhere, also where the one that it points at did not come along.
    """
    if chosen is not None or record.noise_floor is None:
        return chosen, []
    recorded = Path(record.noise_floor)
    if is_run_directory(recorded):
        return recorded, []
    return None, [f"the noise floor is not shown: its run directory {recorded} is not here"]


def _adjacent(found: RunSamples) -> RunSamples:
    """Leave out the blocks whose sessions did not run next to each other, and say so."""
    scattered = scattered_blocks(found.order)
    if not scattered or len(scattered) == len({block for block, _variant in found.order}):
        # With no block left there are still estimates; why_not_interleaved keeps the verdict back.
        return found
    numbers = ", ".join(str(block) for block in scattered)
    return replace(
        found,
        frame=found.frame[~found.frame["block"].isin(scattered)],
        order=[entry for entry in found.order if entry[0] not in scattered],
        warnings=[*found.warnings, f"left out, since its sessions were not side by side: block {numbers}"],
    )


def _noise_floor(path: Path, run: RunDirectory, judgement: Judgement) -> dict[CellKey, float]:
    """Return what an A/A run of the same host resolves.

    Raises:
        InputError: it is no A/A run, or of another host or accelerator.
    """
    other = RunDirectory.open(path)
    if len({build["sha256"] for build in other.record.builds.values()}) != 1:
        raise InputError.single(
            str(path), "is no A/A run: its variants are different builds", "make one with harness run --aa"
        )
    here, there = _place(run), _place(other)
    differing = [name for name in here if here[name] != there[name]]
    if differing:
        name = differing[0]
        raise InputError.single(
            str(path),
            f"is the noise floor of another host: {name} is {there[name]} there and {here[name]} here",
            "measure the noise floor on the host of the run: harness run --aa",
        )
    return compare_run(path, judgement).resolution()


def _place(run: RunDirectory) -> dict[str, object]:
    host = run.environment.get("host", {})
    cpu = host.get("cpu", {})
    return {
        "host": host.get("name"),
        "cpu": cpu.get("model"),
        "cpus": cpu.get("count"),
        "kernel": host.get("kernel"),
        "accel": run.record.accel,
    }


def _refused(differing: Sequence[str]) -> str | None:
    """Return why a verdict would blame the build for something else; None when nothing else differs."""
    if not differing:
        return None
    return f"{summary_of(differing)} (--accept-differences judges all the same)"


def _accepted(differing: Sequence[str], refused: str | None) -> list[str]:
    """Return a warning for the differences that the user accepted."""
    if not differing or refused:
        return []
    return [f"the sessions differ in more than the build, which was accepted: {'; '.join(differing)}"]


def compare_two(old: Path, new: Path, judgement: Judgement) -> Comparison:
    """Compare two sets of results: run directories, trees of fio JSON, CSV files.

    They were not interleaved, so there are estimates and no verdict.

    Raises:
        InputError: one of them cannot be read, or they do not fit together.
    """
    both = together(_side(old, "OLD"), _side(new, "NEW"))
    return build(
        both.samples,
        baseline="OLD",
        contenders=["NEW"],
        margin=0.02 if judgement.margin is None else judgement.margin,
        alpha=0.05 if judgement.alpha is None else judgement.alpha,
        metric=judgement.metric,
        factors=both.factors,
        cells=cells_as_found(both),
        no_verdict=NOT_INTERLEAVED,
        warnings=both.warnings,
    )


def _side(path: Path, variant: str) -> Imported:
    if not is_run_directory(path):
        return read_results(path, variant)
    run = RunDirectory.open(path)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    frame = read_samples(run).frame
    chosen = _variant_of(frame, experiment, variant, path)
    frame = frame[frame["variant"] == chosen].assign(variant=variant, block=float("nan"))
    warning = f"{variant} is {chosen} of {path}"
    return Imported(frame, experiment.varied_factors()[len(TABLE_FACTORS) :], (warning,))


def _variant_of(frame: pd.DataFrame, experiment: Experiment, side: str, path: Path) -> str:
    """Return which variant of a run stands for a side: the one of its name, or the obvious one."""
    measured: Sequence[str] = [name for name in experiment.variants if name in set(frame["variant"])]
    if side in measured:
        return side
    contenders = [name for name in measured if name != experiment.baseline]
    if side == "OLD" and experiment.baseline in measured:
        return experiment.baseline
    if len(contenders) == 1:
        return contenders[0]
    raise InputError.single(
        str(path),
        f"has the variants {', '.join(measured)}: which one is {side}?",
        "compare the run by itself: harness compare RUN_DIR",
    )


def _footer(experiment: Experiment, record: RunRecord, found: RunSamples) -> list[str]:
    sessions = len(found.order)
    blocks = len({block for block, _variant in found.order})
    lines = [
        (
            f"{sessions} sessions in {blocks} interleaved blocks (seed {experiment.protocol.seed}), "
            f"fio {format_duration(found.fio_seconds)}, wall {format_duration(record.wall_seconds)}; "
            f"{record.stopped or 'still running'}."
        ),
        *(f"{name}: {record.builds[name]['version']}" for name in experiment.variants),
    ]
    if len({build["sha256"] for build in record.builds.values()}) == 1:
        lines.append("A/A: both variants are the same build; the intervals are what this host can resolve.")
    if record.accel == "tcg":
        lines.append(f"{TCG_NOTICE} Why: {record.accel_reason}.")
    return lines
