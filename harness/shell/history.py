"""The history's verbs: file runs, find them, follow them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from harness.adapters.results.history_store import HistoryStore
from harness.adapters.workspace import Workspace
from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from harness.analysis.trends import PlaceTrends, Question, Shift, Trend
    from harness.core.history import FiledRun, Selection

FORMAT_VERSION = 1
"""Of the JSON that `harness history` prints."""

_FAR = 3
"""So many directories up a link is absolute rather than relative."""


@dataclass(frozen=True, slots=True)
class Added:
    """A run that was asked to be filed; ``new`` is False when it was there already."""

    run: FiledRun
    new: bool


def store_at(store: Path | None, state: Path | None) -> HistoryStore:
    """Return the history in a file, or in the state directory."""
    return HistoryStore(store or Workspace.at(state).history)


def add(store: HistoryStore, paths: Sequence[Path]) -> list[Added]:
    """File runs, or bundles of them: all, or none when one of them cannot be.

    Raises:
        InputError: with every problem of every path.
    """
    from harness.shell.filing import read_run
    from harness.shell.opening import readable

    runs: list[FiledRun] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            with readable(path) as directory:
                # Filed is where the bundle is, not where it was unpacked for a moment.
                runs.append(replace(read_run(directory), path=str(path.absolute())))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return [Added(run, new) for run, new in zip(runs, store.add(runs), strict=True)]


def one_run(store: HistoryStore, run_id: str, host: str | None) -> FiledRun:
    """Return the run of that id.

    Raises:
        InputError: there is none, or one on each of several hosts.
    """
    found = store.run(run_id, host)
    if not found:
        raise InputError.single(
            str(store.path), f"has no run {run_id}", "harness history list shows what is filed"
        )
    if len(found) > 1:
        hosts = ", ".join(f"{run.host_name} ({run.host_id})" for run in found)
        raise InputError.single(
            str(store.path), f"has a run {run_id} of several hosts: {hosts}", "choose with --host"
        )
    return found[0]


def trends(store: HistoryStore, selection: Selection, question: Question, most: int) -> list[PlaceTrends]:
    """Return the trends of what is selected.

    Raises:
        InputError: nothing is filed there, or nothing of what is to be followed: says what there is.
    """
    from harness.analysis.trends import follow

    runs, numbers = store.followed(selection, most)
    if not runs or numbers is None:
        raise InputError.single(
            str(store.path), "has no such run", "harness history list shows what is filed; add files runs"
        )
    _check_followed(store, runs, numbers, question)
    found = follow(runs, numbers, question)
    if not any(place.trends for place in found):
        names = ", ".join(dict.fromkeys(place.variant for place in found))
        message = f"has nothing to follow of {names}: no {' or '.join(question.metrics)} that is a number"
        raise InputError.single(str(store.path), message, "choose with --variant, --metric and --follow")
    return found


def _check_followed(
    store: HistoryStore, runs: Sequence[FiledRun], numbers: pd.DataFrame, question: Question
) -> None:
    """Refuse a variant or metric that no run has: an empty answer would say that nothing got worse.

    Raises:
        InputError: with both, and what there is.
    """
    from harness.analysis.trends import FOLLOWED

    problems = []
    variants = dict.fromkeys(build.variant for run in runs for build in run.builds)
    if question.variant is not None and question.variant not in variants:
        message = f"{question.variant} is no variant of these runs in {store.path}"
        problems.append(Problem("--variant", message, f"one of {', '.join(variants)}"))
    metrics = dict.fromkeys(numbers["metric"])
    missing = [name for name in question.metrics if name not in metrics]
    # The default names what runs of different workloads have: one of them is enough.
    if missing and (question.metrics != FOLLOWED or len(missing) == len(question.metrics)):
        message = f"none of these runs in {store.path} has {' or '.join(missing)}"
        problems.append(Problem("--metric", message, f"they have {', '.join(metrics) or 'no numbers'}"))
    if problems:
        raise InputError(problems)


def run_json(run: FiledRun) -> dict[str, Any]:
    """Return a run as an object for programs."""
    return asdict(run) | {"started": run.started.isoformat()}


def trends_json(found: Sequence[PlaceTrends]) -> dict[str, Any]:
    """Return trends as an object for programs."""
    return {"format_version": FORMAT_VERSION, "places": [_place_json(place) for place in found]}


def _place_json(place: PlaceTrends) -> dict[str, Any]:
    newest = place.runs[-1]
    return {
        **asdict(place.place),
        "host_name": newest.host_name,
        "workload": newest.workload,
        "baseline": newest.baseline,
        "variant": place.variant,
        "followed": "value" if place.why else "change",
        "why": place.why,
        "runs": len(place.runs),
        "trends": [_trend_json(trend) for trend in place.trends],
    }


def _trend_json(trend: Trend) -> dict[str, Any]:
    return {
        "cell": trend.cell,
        "metric": trend.metric.name,
        "runs": [run.run_id for run in trend.runs],
        "values": list(trend.values),
        "levels": list(trend.levels),
        "steps": [_shift_json(shift) for shift in trend.shifts],
    }


def _shift_json(shift: Shift) -> dict[str, Any]:
    return {
        "change": shift.step.change,
        "p_value": shift.step.p_value,
        "worse": shift.worse,
        "first": _short_json(shift.first),
        "before": _short_json(shift.before),
        "also_changed": [dict(zip(("what", "before", "first"), entry, strict=True)) for entry in shift.also],
    }


def _short_json(run: FiledRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "path": run.path,
        "started": run.started.isoformat(),
        "builds": [asdict(build) for build in run.builds],
    }


def moment_of(text: str, option: str) -> datetime:
    """Return the moment that a date such as 2026-01-31 begins, or an ISO time says; UTC unless it says.

    Raises:
        InputError: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError.single(option, f"{text!r} is no date", f"give one: {option} 2026-01-31") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def write_trends(found: Sequence[PlaceTrends], output: Path) -> Path:
    """Write the page of trends, whole; return where it is.

    Raises:
        InputError: something else is there, or no file can be.
    """
    from harness.shell.reporting import check_report, write_report

    check_report(output)
    write_report(output, trends_html(found, output.parent))
    return output


def trends_html(found: Sequence[PlaceTrends], directory: Path) -> str:
    """Return the page of trends; its links to runs lead from a directory."""
    from harness.report.history_page import trends_page
    from harness.report.page import render_page

    return render_page(trends_page(found, partial(link_to, directory.absolute())))


def link_to(directory: Path, run: FiledRun) -> str | None:
    """Return what leads from a page in a directory to a run; None where it is not (any more).

    Relative where both are below one directory, so that they may be moved together.
    """
    target = Path(run.path)
    if not target.exists():
        return None
    relative = os.path.relpath(target, directory)
    if relative.count("..") > _FAR:
        return target.as_uri()
    return quote(relative if relative.startswith("..") else f"./{relative}")
