"""From a run directory to a comparison."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.adapters.results.bundle import was_unpacked
from harness.adapters.results.host_log import read_looks
from harness.adapters.results.imports import Imported
from harness.adapters.results.run_layout import is_run_here
from harness.adapters.results.samples import RunSamples, read_samples
from harness.adapters.results.store import RunDirectory
from harness.analysis.ordering import scattered_blocks, why_not_interleaved
from harness.analysis.result import Comparison, absence, build
from harness.analysis.verdicts import Verdict
from harness.core.agreement import disagreements, summary_of
from harness.core.errors import InputError
from harness.core.experiment import Experiment, load_experiment
from harness.core.model import TABLE_FACTORS
from harness.core.records import RunRecord, RunState
from harness.core.units import format_duration
from harness.shell.judging import TCG_NOTICE, require_metric
from harness.shell.noise_floor import check_applies, open_floor, place_of
from harness.shell.results import check_builds, is_aa
from harness.shell.roles import Roles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from harness.analysis.ordering import CellKey
    from harness.shell.judging import Judgement


def compare_run(
    path: Path, judgement: Judgement, noise_floor: Path | None = None, found: RunSamples | None = None
) -> Comparison:
    """Compare the variants of one run.

    Args:
        path: the run directory.
        judgement: how to judge.
        noise_floor: an A/A run of the same host; the one the run points at when None.
        found: its samples, where they were read already.

    Raises:
        InputError: a directory is no run, is damaged, holds nothing yet, is still being measured, or is of
            another host.
    """
    run = RunDirectory.open(path)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    place = place_of(run.environment, run.record.accel)
    comparison = compare_alone(run, judgement, found)
    # Both at one level, so that the columns can be held against each other; a floor has its own variants.
    judgement = replace(judgement, alpha=comparison.alpha, roles=Roles())
    if noise_floor is not None:
        return _beside(comparison, *read_noise_floor(noise_floor, experiment, place, judgement))
    if run.record.noise_floor is None:
        return comparison
    recorded = path / run.record.noise_floor
    try:
        return _beside(comparison, *read_noise_floor(recorded, experiment, place, judgement))
    except InputError as error:
        # A run can be read anywhere, also where the one that it points at did not come along.
        why = error.message if is_run_here(recorded) else f"its run directory {recorded} is not here"
        return _beside(comparison, {}, [f"the noise floor is not shown: {why}"])


def compare_metrics(
    path: Path, judgements: Sequence[Judgement], noise_floor: Path | None = None
) -> list[Comparison]:
    """Compare the variants of one run by several metrics; its samples are read once.

    Raises:
        InputError: as `compare_run`.
    """
    run = RunDirectory.open(path)
    refuse_running(path, run.present)
    found = read_samples(run)
    return [compare_run(path, judgement, noise_floor, found) for judgement in judgements]


def read_noise_floor(
    path: Path, experiment: Experiment, place: Mapping[str, object], judgement: Judgement
) -> tuple[dict[CellKey, float], list[str]]:
    """Return what an A/A run says a host cannot tell from no change, a fraction a cell, and warnings.

    Args:
        path: the A/A run's directory.
        experiment: of the run that it is shown beside.
        place: as `place_of` has it, of that run.
        judgement: how both are judged.

    Raises:
        InputError: as `open_floor` and `check_applies`, or it resolves nothing.
    """
    floor = open_floor(path)
    differing = check_applies(floor, experiment, place)
    found = compare_alone(floor, judgement).resolution()
    if not any(math.isfinite(value) for value in found.values()):
        raise InputError.single(
            str(path),
            "has too few blocks for any noise floor",
            "make one with more blocks: harness run EXPERIMENT --aa --blocks 10",
        )
    other = f"the noise floor was measured with other settings: {', '.join(differing)}"
    return found, [other] if differing else []


def _beside(comparison: Comparison, floor: dict[CellKey, float], warnings: list[str]) -> Comparison:
    return replace(comparison, noise_floor=floor, warnings=(*warnings, *comparison.warnings))


def compare_alone(run: RunDirectory, judgement: Judgement, found: RunSamples | None = None) -> Comparison:
    """Compare the variants of one run, without any noise floor beside it; otherwise as `compare_run`."""
    path, record = run.path, run.present
    refuse_running(path, record)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    check_builds(path / "experiment.yml", experiment.variants, record.builds)
    found = adjacent(found or read_samples(run))
    require_metric(found.frame, judgement.metric, path, found.unmeasured)
    differing = disagreements(found.sessions)
    refused = None if judgement.accept_differences else _refused(differing)
    factors = experiment.varied_factors()
    measured = set(found.frame["variant"])
    baseline, chosen = judgement.roles.of(experiment, path)
    contenders = [name for name in chosen if name in measured]
    if baseline not in measured or not contenders:
        raise InputError.single(
            str(path),
            f"only {', '.join(sorted(measured))} gave numbers so far: there is nothing to compare",
            f"harness run --resume {path}",
        )
    died = Counter(name for name, _cell in found.crashes)
    absent = {name: died[name] for name in chosen if name not in measured}
    comparison = build(
        found.frame,
        baseline=baseline,
        contenders=contenders,
        margin=experiment.protocol.margin if judgement.margin is None else judgement.margin,
        alpha=experiment.protocol.alpha if judgement.alpha is None else judgement.alpha,
        metric=judgement.metric,
        factors=factors[len(TABLE_FACTORS) :],
        cells=[tuple(cell.factors()[name] for name in factors) for cell in experiment.cells()],
        no_verdict=refused or why_not_interleaved(found.order),
        ceilings={
            tuple(c[name] for name in factors): c["iops"]
            for c in run.read_ceilings()
            if all(name in c for name in factors)
        },
        warnings=[
            *_accepted(differing, refused),
            *(absence(name, count) for name, count in absent.items()),
            *drift_warnings(run),
            *found.warnings,
        ],
        crashes=[(name, tuple(cell[factor] for factor in factors)) for name, cell in found.crashes],
        footer=_footer(experiment, record, found),
        environment={
            **run.environment,
            "accel": record.accel,
            "accel_reason": record.accel_reason,
            "builds": record.builds,
            "guest_image": record.guest_image,
        },
    )
    warnings = (*_false_alarms(comparison, record), *comparison.warnings)
    return replace(comparison, warnings=warnings, absent=absent)


def _false_alarms(comparison: Comparison, record: RunRecord) -> list[str]:
    """Return, of an A/A run, a warning where the build was called faster or slower than itself."""
    called = sorted({Verdict.FASTER, Verdict.SLOWER} & comparison.verdicts() - {None})
    if not called or not is_aa(record.builds):
        return []
    chance = f"chance alone does that in up to {comparison.alpha * 100:g}% of A/A runs"
    blame = "in more of them the host is at fault (harness doctor)"
    return [f"one build called {' and '.join(called)} than itself: a false alarm; {chance}, and {blame}"]


def refuse_running(path: Path, record: RunRecord) -> None:
    """Show no sign, p or verdict before the end: who stops by them finds changes that are not there.

    Raises:
        InputError: the run goes on at the moment.
    """
    if record.state is RunState.RUNNING:
        raise InputError.single(
            str(path),
            "is still being measured: a look at the changes before the end makes false alarms likely",
            f"wait for its end, or stop it with Ctrl-C; how far it is: harness show {path}",
        )


def adjacent(found: RunSamples) -> RunSamples:
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


def drift_warnings(run: RunDirectory) -> list[str]:
    """Return a warning for each setting of the host that changed while the run measured, or may have."""
    found = read_looks(run.path, run.record.host_log)
    told = [f"the host changed: {sentence}" for sentence in found.drift]
    return told + [f"{remark}: what it said of the host is left out" for remark in found.remarks]


def run_as_side(path: Path, variant: str, judgement: Judgement) -> Imported:
    """Return one variant of a run as one of two sets of results: OLD is its baseline, NEW the other one.

    Raises:
        InputError: it is damaged, still being measured, or lacks the metric; or several could be meant.
    """
    run = RunDirectory.open(path)
    refuse_running(path, run.present)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    found = read_samples(run)
    frame = found.frame
    require_metric(frame, judgement.metric, path, found.unmeasured)
    chosen = _variant_of(frame, experiment, variant, path)
    frame = frame[frame["variant"] == chosen].assign(variant=variant, block=float("nan"))
    # Where a bundle was unpacked is nobody's business.
    warning = f"{variant} is {chosen} of {run.record.run_id if was_unpacked(path) else path}"
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
            f"{record.stopped or record.state}."
        ),
        *build_lines(experiment, record),
    ]
    if is_aa(record.builds):
        lines.append("A/A: both variants are the same build; the intervals are what this host can resolve.")
    if record.accel == "tcg":
        lines.append(f"{TCG_NOTICE} Why: {record.accel_reason}.")
    return lines


def build_lines(experiment: Experiment, record: RunRecord) -> list[str]:
    """Return a line a variant with its build's version."""
    return [f"{name}: {record.builds[name]['version']}" for name in experiment.variants]
