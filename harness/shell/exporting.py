"""A run's result, whatever its workload, for programs and pages that are not ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.adapters.guestless.store import CountDirectory
from harness.adapters.results.run_layout import holds_counts
from harness.adapters.results.samples import read_samples
from harness.adapters.results.store import RunDirectory
from harness.analysis.cost_tables import render_costs
from harness.analysis.costs import CostComparison
from harness.analysis.exports.benchstat import benchstat, count_samples, pool_samples, session_samples
from harness.analysis.exports.findings import Head, Result, findings_of, warnings_of
from harness.analysis.exports.junit import junit
from harness.analysis.exports.openmetrics import openmetrics
from harness.analysis.metrics import find_metrics
from harness.analysis.pool_tables import PoolReport, render_pool
from harness.analysis.tables import render_all
from harness.core.counting.records import CountingRun
from harness.core.errors import InputError
from harness.core.experiment import load_experiment
from harness.core.model import Workload
from harness.core.records import RunState
from harness.shell.comparing import adjacent, compare_metrics
from harness.shell.costing import compare_counts
from harness.shell.counted import key_of, read_counted
from harness.shell.judging import Judgement, NotMeasuredError
from harness.shell.pool_report import pool_report

if TYPE_CHECKING:
    from pathlib import Path

    from harness.analysis.exports.benchstat import Bench
    from harness.core.experiment import Experiment
    from harness.core.records import RunRecord


class ExportFormat(StrEnum):
    """What a result can be written as, beside text."""

    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"
    JUNIT = "junit"
    BENCHSTAT = "benchstat"
    OPENMETRICS = "openmetrics"


FILE_NAMES = {
    ExportFormat.MARKDOWN: "table.md",
    ExportFormat.CSV: "table.csv",
    ExportFormat.JSON: "result.json",
    ExportFormat.JUNIT: "junit.xml",
    ExportFormat.BENCHSTAT: "benchstat.txt",
    ExportFormat.OPENMETRICS: "metrics.prom",
}
"""What each is called in a directory of several; node_exporter reads ``*.prom``."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to judge; None takes what the experiment says.

    Attributes:
        metrics: of a fio-matrix, what to compare.
        unclear_fails: whether JUnit calls an `unclear` cell a failure.
    """

    metrics: str = "iops"
    margin: float | None = None
    alpha: float | None = None
    accept_differences: bool = False
    noise_floor: Path | None = None
    unclear_fails: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A run and what it says; ``problem`` instead of a result when it ended too early for any."""

    path: Path
    head: Head
    result: Result | None
    problem: InputError | None = None


def judge_run(path: Path, wanted: Wanted) -> Judged:
    """Judge a run of any workload.

    Raises:
        InputError: it is no run, is damaged, is being measured, or holds nothing to judge.
    """
    head = _head(path)
    return Judged(path, head, _result(path, head.workload, wanted))


def judge_or_say_why(path: Path, wanted: Wanted) -> Judged:
    """Judge a run; of one that failed or was interrupted before it had anything to judge, say why.

    Raises:
        InputError: as `judge_run`, but for that.
    """
    head = _head(path)
    try:
        return Judged(path, head, _result(path, head.workload, wanted))
    except NotMeasuredError:
        raise
    except InputError as error:
        if head.state not in {RunState.FAILED, RunState.INTERRUPTED}:
            raise
        return Judged(path, head, None, error)


def _head(path: Path) -> Head:
    run = RunDirectory.open(path)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    record = CountDirectory.open(path).present if holds_counts(path) else run.present
    host = run.environment.get("host") or {}
    return Head(
        run_id=record.run_id,
        name=record.name,
        workload=experiment.workload,
        state=record.state,
        stopped=record.stopped,
        created=record.created,
        wall_seconds=record.wall_seconds,
        harness_version=record.harness_version,
        baseline=experiment.baseline,
        builds=record.builds,
        host=str(host.get("name") or ""),
        cpu=str((host.get("cpu") or {}).get("model") or ""),
        kernel=str(host.get("kernel") or ""),
        accel=_accel(record, experiment),
        ruler=record.counted_with if isinstance(record, CountingRun) else "",
    )


def _accel(record: RunRecord | CountingRun, experiment: Experiment) -> str:
    """Return the accelerator; empty where there was no guest."""
    guestless = experiment.workload is Workload.POOL_GROWTH and experiment.pool.guestless
    return "" if isinstance(record, CountingRun) or guestless else record.accel


def _result(path: Path, workload: Workload, wanted: Wanted) -> Result:
    if workload is Workload.INSTRUCTIONS:
        return compare_counts(path, margin=wanted.margin)
    if workload is Workload.POOL_GROWTH:
        return pool_report(path)
    judgements = [
        Judgement(metric.name, wanted.margin, wanted.alpha, wanted.accept_differences)
        for metric in find_metrics(wanted.metrics)
    ]
    return tuple(compare_metrics(path, judgements, wanted.noise_floor))


def render_table(judged: Judged, form: str) -> str:
    """Write the tables as `harness compare` does."""
    result = judged.result
    assert result is not None  # noqa: S101 - judge_run gave it
    if isinstance(result, CostComparison):
        return render_costs(result, form)
    if isinstance(result, PoolReport):
        return render_pool(result, form)
    return render_all(result, form)


def export_run(judged: Judged, form: ExportFormat, wanted: Wanted) -> str:
    """Write a judged run in one format.

    Returns:
        Text that ends with a newline.

    Raises:
        InputError: its files cannot be read.
    """
    if form is ExportFormat.JUNIT:
        result = judged.result
        findings = findings_of(result) if result is not None else []
        table = render_table(judged, "text") if result is not None else ""
        return junit(
            judged.head,
            findings,
            table=table,
            warnings=warnings_of(result) if result is not None else (),
            problem=str(judged.problem) if judged.problem else None,
            unclear_fails=wanted.unclear_fails,
        )
    assert judged.result is not None  # noqa: S101 - only JUnit has a word for a run without a result
    if form is ExportFormat.OPENMETRICS:
        return openmetrics(judged.head, judged.result)
    if form is ExportFormat.BENCHSTAT:
        return benchstat(judged.head, _benches(judged, wanted))
    return render_table(judged, form.value)


def _benches(judged: Judged, wanted: Wanted) -> list[Bench]:
    path, result = judged.path, judged.result
    experiment = load_experiment(RunDirectory.open(path).experiment, f"{path}/experiment.yml")
    if isinstance(result, CostComparison):
        return count_samples(read_counted(path).counts, result.factors, experiment.variants)
    if isinstance(result, PoolReport):
        return pool_samples(result)
    frame = adjacent(read_samples(RunDirectory.open(path))).frame
    cells = [key_of(cell, experiment) for cell in experiment.cells()]
    factors = experiment.varied_factors()
    return session_samples(frame, find_metrics(wanted.metrics), experiment.variants, factors, cells)
