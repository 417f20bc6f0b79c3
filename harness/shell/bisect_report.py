"""What a search found, for people and for programs: from its directory, as often as one likes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from harness.adapters.results.run_layout import holds_counts
from harness.analysis.bisect_text import head_lines, step_lines
from harness.analysis.cost_tables import render_costs
from harness.analysis.tables import render
from harness.core.errors import InputError
from harness.shell.comparing import compare_run
from harness.shell.costing import compare_counted
from harness.shell.counted import read_counted
from harness.shell.explaining import explanations
from harness.shell.judging import Judgement

if TYPE_CHECKING:
    from pathlib import Path

    from harness.adapters.bisect_store import BisectDirectory
    from harness.core.bisecting import Search

_NO_SYMBOLS = "Where the time went is not known: only counts of instructions say in which functions it is."


def text_report(store: BisectDirectory) -> str:
    """Return what was found: the commit, its table for a commit message and in full, functions, steps.

    Raises:
        InputError: the directory is damaged.
    """
    search = store.search
    lines = [*head_lines(search), ""]
    found = search.found
    if found is not None and found.run is not None:
        lines += _against_parent(store.path / "runs" / found.run, search.asked.metric)
    elif found is not None and found.reason:
        lines += [f"No table against its parent {found.parent}: {found.reason}", ""]
    lines += step_lines(search)
    return "\n".join(lines).rstrip("\n") + "\n"


def _against_parent(run: Path, metric: str) -> list[str]:
    if not holds_counts(run):
        comparison = compare_run(run, Judgement(metric))
        return [render(comparison, "commit"), render(comparison, "text"), _NO_SYMBOLS, ""]
    counted = read_counted(run)
    costs = compare_counted(counted)
    try:
        functions = explanations(counted, costs)
    except InputError as error:
        functions = [f"Where the instructions went cannot be said: {error.message}\n"]
    return [render_costs(costs, "commit"), render_costs(costs), *functions]


def json_report(store: BisectDirectory) -> dict[str, Any]:
    """Return everything that was found out, for programs.

    Raises:
        InputError: the directory is damaged.
    """
    search = store.search
    table, functions = _for_programs(store, search)
    return {
        "outcome": search.outcome.value,
        "directory": str(store.path),
        **asdict(search),
        "table": table,
        "functions": functions,
    }


def _for_programs(store: BisectDirectory, search: Search) -> tuple[Any, list[str]]:
    if search.found is None or search.found.run is None:
        return None, []
    run = store.path / "runs" / search.found.run
    if not holds_counts(run):
        return orjson.loads(render(compare_run(run, Judgement(search.asked.metric)), "json")), []
    counted = read_counted(run)
    costs = compare_counted(counted)
    return orjson.loads(render_costs(costs, "json")), explanations(counted, costs)
