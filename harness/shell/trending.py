"""From a run directory of many builds to their trend, to what is behind its steps, and to a picture."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.adapters.outputs import check_output, write_output
from harness.adapters.results.run_layout import holds_counts
from harness.adapters.results.samples import RunSamples, read_samples
from harness.adapters.results.store import RunDirectory
from harness.analysis.build_trend import BuildTrend, trend_of_samples
from harness.core.errors import InputError
from harness.core.experiment import load_experiment
from harness.report.build_trend import trend_charts
from harness.report.page import colours
from harness.report.vega import svg
from harness.shell.comparing import compare_alone, refuse_running
from harness.shell.costing import compare_counted, require_trend, trend_of_counts
from harness.shell.counted import read_counted
from harness.shell.explaining import explanations
from harness.shell.roles import Roles

if TYPE_CHECKING:
    from pathlib import Path

    from harness.analysis.costs import CostComparison
    from harness.shell.judging import Judgement


def trend_of_run(path: Path, judgement: Judgement) -> BuildTrend:
    """Return the builds of one run as a trend, in the experiment file's order.

    Args:
        path: the run directory, of counts or of an fio matrix.
        judgement: how to judge; of its roles only the baseline counts.

    Raises:
        InputError: as `compare_counts` and `compare_run`, or there are fewer than three builds with numbers.
    """
    if holds_counts(path):
        return trend_of_counts(read_counted(path), margin=judgement.margin, baseline=judgement.roles.baseline)
    run = RunDirectory.open(path)
    refuse_running(path, run.present)
    return trend_of_matrix(run, judgement, read_samples(run))


def trend_of_matrix(run: RunDirectory, judgement: Judgement, found: RunSamples) -> BuildTrend:
    """Return the trend of an fio matrix; otherwise as `trend_of_run`.

    Args:
        run: its directory.
        judgement: how to judge.
        found: its samples.
    """
    experiment = load_experiment(run.experiment, f"{run.path}/experiment.yml")
    builds = [name for name in experiment.builds if name in set(found.frame["variant"])]
    require_trend(builds, run.path)
    overall = compare_alone(run, replace(judgement, roles=Roles(judgement.roles.baseline)), found)
    neighbours = [
        compare_alone(run, replace(judgement, roles=Roles(before, build)), found)
        for before, build in pairwise(builds)
    ]
    warnings = dict.fromkeys(warning for one in (overall, *neighbours) for warning in one.warnings)
    no_verdict = [f"No verdict: {overall.no_verdict}."] if overall.no_verdict else []
    return BuildTrend(
        metric=overall.metric,
        factors=tuple(overall.key_columns),
        builds=tuple(builds),
        baseline=overall.baseline,
        margin=overall.margin,
        cells=trend_of_samples(overall, neighbours),
        counted=False,
        warnings=[*no_verdict, *warnings],
        footer=overall.footer,
        environment=overall.environment,
    )


def explain_steps(path: Path, trend: BuildTrend) -> str:
    """Return, for every step of a run of counts, which functions it is in.

    Raises:
        InputError: the directory is damaged.
    """
    texts, counted = [], read_counted(path)
    for before, build, cells in trend.steps():
        whole = compare_counted(counted, margin=trend.margin, roles=Roles(before, build))
        texts += explanations(counted, _only(whole, build, {cell.cell for cell, _point in cells}))
    return "\n".join(texts) if texts else "There is no step to explain.\n"


def _only(comparison: CostComparison, contender: str, cells: set[tuple[object, ...]]) -> CostComparison:
    chosen = [cell for cell in comparison.contenders[contender] if cell.cell in cells]
    return replace(comparison, contenders={contender: chosen})


def check_plot(path: Path) -> None:
    """Refuse a file name that is not that of an SVG.

    Raises:
        InputError: names what is wanted; otherwise as `check_output`.
    """
    if path.suffix.lower() != ".svg":
        raise InputError.single(str(path), "is not named as an SVG", "name it *.svg")
    check_output(path, "trend.svg")


def write_trend_plot(trend: BuildTrend, path: Path) -> None:
    """Draw a trend, a chart a cell.

    Raises:
        HarnessError: it cannot be written.
    """
    write_output(path, svg(trend_charts(trend), colours()).encode())
