"""From a run directory, or two sets of results, to a report's HTML; and that to a file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.adapters.outputs import check_output, file_replaced, write_output
from harness.adapters.results.run_layout import holds_counts
from harness.adapters.results.samples import RunSamples, read_samples
from harness.adapters.results.store import RunDirectory
from harness.adapters.telemetry.files import read_telemetry
from harness.analysis.build_trend import FEWEST
from harness.analysis.explanation import explain
from harness.analysis.metrics import METRICS
from harness.core.errors import InputError
from harness.core.model import Workload
from harness.core.unicode import utf8
from harness.report.call_graphs import CellTree
from harness.report.cost_page import CostStory, cost_page
from harness.report.matrix_page import MatrixReport, Story, matrix_page
from harness.report.page import GENERATOR, render_page
from harness.report.pool_page import PoolStory, pool_page
from harness.report.run_charts import Watched, percentile_of
from harness.shell.background import background
from harness.shell.comparing import compare_alone, compare_run, refuse_running
from harness.shell.comparing_two import compare_two
from harness.shell.costing import compare_counted, trend_of_counts
from harness.shell.counted import read_counted
from harness.shell.explaining import explained
from harness.shell.pool_report import max_map_count, pool_report
from harness.shell.results import workload_of
from harness.shell.trending import trend_of_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.adapters.results.fio_trees import Ahead
    from harness.analysis.build_trend import BuildTrend
    from harness.analysis.costs import CostComparison
    from harness.analysis.result import Comparison
    from harness.core.planning import PlannedSession
    from harness.core.telemetry import Telemetry
    from harness.shell.counted import Counted
    from harness.shell.judging import Judgement

_MARK_BYTES = 2048
_MARK = f'<meta name="generator" content="{GENERATOR}'.encode()


def report_run(path: Path, judgements: Sequence[Judgement], noise_floor: Path | None = None) -> str:
    """Return the page of one run, whatever its workload.

    Args:
        path: the run directory.
        judgements: how to judge, a metric each; of counts only the margin counts, of rounds nothing.
        noise_floor: an A/A run of the same host; the one the run points at when None.

    Raises:
        InputError: as `compare_run`, `compare_counts` and `pool_report`.
    """
    if holds_counts(path):
        counted = read_counted(path)
        return report_counts(
            counted, compare_counted(counted, margin=judgements[0].margin, roles=judgements[0].roles)
        )
    if workload_of(path) is Workload.POOL_GROWTH:
        return report_pool(path)
    return render_page(matrix_page(matrix_report(path, judgements, noise_floor)))


def report_counts(counted: Counted, comparison: CostComparison) -> str:
    """Return the page of a run of counts, compared already.

    Raises:
        InputError: the directory is damaged.
    """
    behind = background(counted.run.path)
    texts, trees = [], []
    for found in explained(counted, comparison):
        texts.append(explain(found.explanation))
        trees.append(CellTree(found.label, found.explanation.names, found.tree))
    trend = _trend(counted, comparison)
    story = CostStory(behind.run_id, comparison, behind, texts, trees, trend)
    return render_page(cost_page(story))


def _trend(counted: Counted, comparison: CostComparison) -> BuildTrend | None:
    if len(comparison.contenders) < FEWEST - 1:
        return None
    return trend_of_counts(counted, margin=comparison.margin, baseline=comparison.baseline)


def report_pool(path: Path) -> str:
    """Return the page of a run of pool-growth.

    Raises:
        InputError: as `pool_report`.
    """
    behind = background(path)
    return render_page(pool_page(PoolStory(behind.run_id, pool_report(path), behind)))


def two_reports(
    old: Path, new: Path, judgements: Sequence[Judgement], ahead: Ahead | None = None
) -> MatrixReport:
    """Return what the page of two sets of results is made from.

    Args:
        old: one of them.
        new: the other one.
        judgements: how to judge, by a metric each.
        ahead: readings that were begun before.

    Raises:
        InputError: as `compare_two`.
    """
    comparisons = [compare_two(old, new, judgement, ahead) for judgement in judgements]
    title = f"{new.name} against {old.name}"
    return MatrixReport(title, comparisons, sources=(f"OLD: {old}", f"NEW: {new}"))


def matrix_report(
    path: Path, judgements: Sequence[Judgement], noise_floor: Path | None = None
) -> MatrixReport:
    """Return what the page of an fio matrix is made from; the samples are read once.

    Raises:
        InputError: as `compare_run`.
    """
    run = RunDirectory.open(path)
    refuse_running(path, run.present)
    found = read_samples(run)
    comparisons = [compare_run(path, judgement, noise_floor, found) for judgement in judgements]
    floor = str(noise_floor or run.record.noise_floor) if comparisons[0].noise_floor else None
    story = replace(
        _story(run, found), percentiles=_percentiles(run, found, judgements[0]), noise_floor=floor
    )
    many = len(comparisons[0].contenders) >= FEWEST - 1
    trend = trend_of_matrix(run, judgements[0], found) if many else None
    return MatrixReport(story.background.run_id, comparisons, story, trend=trend)


def _story(run: RunDirectory, found: RunSamples) -> Story:
    directories = {session.number: session.directory for session in run.plan.sessions}
    boots = list(_telemetry(run))
    watched = [_watched(session, telemetry) for session, telemetry in boots]
    return Story(
        samples=found.frame,
        background=background(run.path),
        order={number: place for place, number in enumerate(found.ran, start=1)},
        labels={number: directories[number] for number in found.ran},
        watched=[seen for seen in watched if seen is not None],
        no_telemetry=None if boots else "this run has no telemetry",
        limit=max_map_count(run),
    )


def _percentiles(run: RunDirectory, found: RunSamples, judgement: Judgement) -> list[Comparison]:
    """Return comparisons by the percentiles of completion latency that fio gave, the lowest first."""
    names = [name for name in METRICS if percentile_of(name) and name in found.frame.columns]
    return [
        compare_alone(run, replace(judgement, metric=name), found)
        for name in names
        if found.frame[name].notna().any()
    ]


def _telemetry(run: RunDirectory) -> Iterator[tuple[PlannedSession, Telemetry]]:
    """Yield what telemetry saw of every boot of a session that began."""
    for planned in run.plan.sessions:
        record = run.load_session(planned)
        telemetry, _lost = read_telemetry(run, planned, record)
        yield from ((planned, seen) for _boot, seen in sorted(telemetry.items()))


def _watched(planned: PlannedSession, telemetry: Telemetry) -> Watched | None:
    seen = [
        (reading.seconds, reading.vmas, reading.coroutines)
        for reading in telemetry.readings
        if reading.vmas is not None
    ]
    if not seen:
        return None
    seconds, vmas, coroutines = zip(*seen, strict=True)
    return Watched(planned.variant, planned.directory, seconds, vmas, coroutines)


def check_report(path: Path) -> None:
    """Refuse to write a report where something else would be lost, or where it cannot be written.

    Raises:
        InputError: the file is something else than a report; otherwise as `check_output`.
    """
    check_output(path, "report.html")
    file = file_replaced(path)
    if file is not None and file.exists() and not _is_report(file):
        raise InputError.single(
            str(path), "exists, and is no report: it is not overwritten", "name another file with -o"
        )


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return _MARK in stream.read(_MARK_BYTES)
    except OSError:
        return False


def write_report(path: Path, html: str) -> None:
    """Write a report where `check_report` allowed it.

    Raises:
        HarnessError: it cannot be written.
    """
    write_output(path, utf8(html))
