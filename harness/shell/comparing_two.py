"""From two sets of anybody's results to a comparison: trees of fio's output, tables, run directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.results.imports import NOT_INTERLEAVED, Imported, cells_as_found, read_results, together
from harness.adapters.results.run_layout import is_run_directory
from harness.analysis.metrics import find_metric
from harness.analysis.result import Comparison, build
from harness.core.errors import InputError
from harness.shell.judging import require_metric

if TYPE_CHECKING:
    from pathlib import Path

    from harness.adapters.results.fio_trees import Ahead
    from harness.shell.judging import Judgement


def compare_two(old: Path, new: Path, judgement: Judgement, ahead: Ahead | None = None) -> Comparison:
    """Compare two sets of results: run directories, trees of fio JSON, CSV files.

    They were not interleaved, so there are estimates and no verdict.

    Args:
        old: one of them.
        new: the other one.
        judgement: how to judge.
        ahead: readings that were begun before.

    Raises:
        InputError: one of them cannot be read, or they do not fit together.
    """
    _refuse_nested(old, new)
    both = together(_side(old, "OLD", judgement, ahead), _side(new, "NEW", judgement, ahead))
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


def _refuse_nested(old: Path, new: Path) -> None:
    """Refuse a side that holds the other's files as its own."""
    for side, other in ((old, new), (new, old)):
        if side.is_dir() and other.resolve() in side.resolve().parents:
            raise InputError.single(
                str(other), f"holds the other side, {side}, as well", "give each side a directory of its own"
            )


def _side(path: Path, variant: str, judgement: Judgement, ahead: Ahead | None) -> Imported:
    if not is_run_directory(path):
        accept = judgement.accept_differences
        # IOPS say whether the device is what limits.
        metrics = dict.fromkeys([find_metric(judgement.metric).name, "iops"])
        results = read_results(path, variant, metrics=metrics, accept_differences=accept, ahead=ahead)
        require_metric(results.samples, judgement.metric, path)
        return results
    # What reads runs takes as long to import as all else here.
    from harness.shell.comparing import run_as_side

    return run_as_side(path, variant, judgement)
