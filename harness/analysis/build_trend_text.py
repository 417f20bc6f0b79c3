"""A trend over builds as text: for the terminal, a commit message, a page of documentation, a program."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.analysis.layout import Column, clean, layout, markdown_remarks, markdown_table
from harness.analysis.tables import (
    HEADS,
    JSON_FORMAT_VERSION,
    TableFormat,
    csv_text,
    interval,
    json_text,
    percent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.analysis.build_trend import BuildTrend, CellTrend, Point

_FIRST = "-"


def render_trend(trend: BuildTrend, fmt: TableFormat | str = TableFormat.TEXT) -> str:
    """Write a trend.

    The commit format is a row a cell, a column a build, each with its change against the one before; the
    others have a table a cell, a row a build.

    Returns:
        Text that ends with a newline.
    """
    writers: dict[TableFormat, Callable[[BuildTrend], str]] = {
        TableFormat.TEXT: _text,
        TableFormat.COMMIT: _commit,
        TableFormat.MARKDOWN: _markdown,
        TableFormat.CSV: _csv,
        TableFormat.JSON: _json,
    }
    return writers[TableFormat(fmt)](trend)


def cell_title(trend: BuildTrend, cell: CellTrend) -> str:
    """Return a cell's name: ``randread 4k, iodepth 8``, further factors appended."""
    rw, bs, *further = map(str, cell.cell)
    named = [f"{name} {value}" for name, value in zip(trend.factors[2:], further, strict=True)]
    return ", ".join([f"{rw} {bs}", *named])


def point_columns(trend: BuildTrend, cell: CellTrend) -> list[Column]:
    """Return the columns of a cell's table, a row a build."""
    points = cell.points
    notes = [point.reason or "" for point in points]
    versions = trend.versions()
    # A build that is called by its version needs no column for it.
    told = any(version not in point.build for version, point in zip(versions, points, strict=True))
    bounds = (
        Column("RESOLUTION", [_resolution(point) for point in points])
        if trend.counted
        else Column("INTERVAL", [interval(point.low, point.high) for point in points], left=True)
    )
    return [
        Column("BUILD", [clean(point.build) for point in points], left=True),
        *([Column("VERSION", [clean(version) for version in versions], left=True)] if told else []),
        Column(trend.metric.label.upper(), [trend.metric.format(point.value) for point in points]),
        Column(f"AGAINST {clean(trend.baseline)}", [percent(point.since_baseline) for point in points]),
        Column("AGAINST PREVIOUS", [percent(point.since_previous) for point in points]),
        bounds,
        Column("STEP", [point.verdict or _FIRST for point in points], left=True),
        *([Column("NOTE", notes, left=True)] if any(notes) else []),
    ]


def _resolution(point: Point) -> str:
    return percent(point.high - point.since_previous, decimals=2, sign=False)


def step_lines(trend: BuildTrend) -> list[str]:
    """Return a sentence a step, in the order of the builds; one that says so where there is none."""
    lines = [f"{before} -> {build}: {_step(trend, cells)}" for before, build, cells in trend.steps()]
    return lines or ["No build differs from the one before it by more than margin and doubt."]


def _step(trend: BuildTrend, cells: Sequence[tuple[CellTrend, Point]]) -> str:
    verdicts = {point.verdict for _cell, point in cells}
    if len(verdicts) == 1 and 1 < len(cells) == len(trend.cells):
        changes = [point.since_previous for _cell, point in cells]
        low, high = percent(min(changes)), percent(max(changes))
        return f"{verdicts.pop()} in all cells ({low if low == high else f'{low} to {high}'})"
    return "; ".join(
        f"{cell_title(trend, cell)} {point.verdict} ({percent(point.since_previous)})"
        for cell, point in cells
    )


def explanation(trend: BuildTrend) -> list[str]:
    """Return what the columns mean, and the caller's lines."""
    if trend.counted:
        meaning = "Resolution: how far repeats of a count lie apart."
        verdict = "beyond or within which by more than the resolution"
    else:
        meaning = "Interval: of the change against the previous build, which was measured in the same blocks."
        verdict = "each pair of neighbours is a question of its own, with Holm over its cells"
    return [
        f"Step: the verdict on a build against the one before it, in the experiment's order. {meaning}",
        f"Verdict: margin {trend.margin * 100:g}%, {verdict}.",
        *trend.footer,
    ]


def _text(trend: BuildTrend) -> str:
    lines: list[str] = []
    for cell in trend.cells:
        lines += [f"{clean(cell_title(trend, cell))}: {trend.metric.heading}", ""]
        lines += [*layout(point_columns(trend, cell)), ""]
    lines += ["Steps:", *(f"  {clean(line)}" for line in step_lines(trend)), ""]
    lines += [f"warning: {clean(warning)}" for warning in trend.warnings]
    return "\n".join([*lines, *map(clean, explanation(trend))]) + "\n"


def _keys(trend: BuildTrend) -> list[Column]:
    return [
        Column(HEADS.get(name, clean(name).upper()), [clean(cell.cell[index]) for cell in trend.cells])
        for index, name in enumerate(trend.factors)
    ]


def _commit(trend: BuildTrend) -> str:
    columns = _keys(trend)
    for number, build in enumerate(trend.builds):
        points = [cell.points[number] for cell in trend.cells]
        columns.append(Column(clean(build), [trend.metric.format(point.value) for point in points]))
        if number:
            columns.append(Column("CHANGE", [percent(point.since_previous) for point in points], left=True))
    return "\n".join(layout(columns)) + "\n"


def _markdown(trend: BuildTrend) -> str:
    lines: list[str] = []
    for cell in trend.cells:
        title = f"**{cell_title(trend, cell)}**: {trend.metric.heading}"
        lines += markdown_table(title, point_columns(trend, cell))
    lines += markdown_remarks([], step_lines(trend))
    lines += ["", *markdown_remarks(trend.warnings, explanation(trend))]
    return "\n".join(lines) + "\n"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _point(point: Point) -> dict[str, Any]:
    return {
        "build": point.build,
        "value": _number(point.value),
        "since_baseline": _number(point.since_baseline),
        "since_previous": _number(point.since_previous),
        "low": _number(point.low),
        "high": _number(point.high),
        "verdict": point.verdict,
        "reason": point.reason,
    }


def _named(trend: BuildTrend, cell: CellTrend) -> dict[str, Any]:
    return dict(zip(trend.factors, cell.cell, strict=True))


def _csv(trend: BuildTrend) -> str:
    rows = [{**_named(trend, cell), **_point(point)} for cell in trend.cells for point in cell.points]
    return csv_text(pd.DataFrame(rows))


def _json(trend: BuildTrend) -> str:
    steps = trend.steps()
    document = {
        "format_version": JSON_FORMAT_VERSION,
        "trend": list(trend.builds),
        "counted": trend.counted,
        "metric": trend.metric.name,
        "higher_is_better": trend.metric.higher_is_better,
        "baseline": trend.baseline,
        "factors": list(trend.factors),
        "margin": trend.margin,
        "cells": [
            {**_named(trend, cell), "points": [_point(point) for point in cell.points]}
            for cell in trend.cells
        ],
        "steps": [
            {"before": before, "build": build, "cells": [_named(trend, cell) for cell, _point in cells]}
            for before, build, cells in steps
        ],
        "warnings": list(trend.warnings),
        "footer": list(trend.footer),
        "environment": trend.environment,
    }
    return json_text(document)
