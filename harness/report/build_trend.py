"""Many builds in their order: the section of a report, and the chart that also stands by itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.analysis.build_trend_text import cell_title, explanation, point_columns, step_lines
from harness.analysis.tables import percent
from harness.report.answer import TONES
from harness.report.charts import columns_of, finite, tips
from harness.report.page import Cell, Charts, Folded, Heading, Points, Section, Table, Tone
from harness.report.vega import Chart

if TYPE_CHECKING:
    from harness.analysis.build_trend import BuildTrend, CellTrend, Point
    from harness.report.page import Block

_HEIGHT = 150
_UNFOLDED = 6
_ROOM = 1.3
"""Above the highest bar its value and its step are written."""
_FIRST, _NO_VERDICT = "first", "no verdict"
_COLOURS = {
    "costlier": "var(--worse)", "slower": "var(--worse)",
    "cheaper": "var(--better)", "faster": "var(--better)",
    "same": "var(--same)", "unclear": "var(--unclear)", _FIRST: "var(--faint)", _NO_VERDICT: "var(--faint)",
}  # fmt: skip
_STEP = "step"
_BREAK = "|"
_NAMES = {
    "BUILD": "build",
    "VERSION": "version",
    "AGAINST PREVIOUS": "since_previous",
    "RESOLUTION": "resolution",
    "INTERVAL": "interval",
    "STEP": _STEP,
    "NOTE": "note",
}


def trend_section(trend: BuildTrend) -> Section:
    """Return the part of a report that follows the builds: the steps, and a chart and a table a cell."""
    charts = trend_charts(trend)
    # Side by side the builds' names would run into each other.
    shown: list[Block] = [Charts(charts[:_UNFOLDED], wide=True)]
    if hidden := charts[_UNFOLDED:]:
        shown.append(Folded(f"{len(hidden)} more of other cells", [Charts(hidden, wide=True)]))
    tables = [Folded(cell_title(trend, cell), [_table(trend, cell, n)]) for n, cell in enumerate(trend.cells)]
    blocks: list[Block] = [Points(step_lines(trend)), *shown, *tables, Points(explanation(trend)[:2])]
    return Section("trend", "Build by build", blocks)


def trend_answer(trend: BuildTrend) -> tuple[str, Tone]:
    """Return what a trend says, in a sentence or two, and its tone: that of the last step."""
    steps = trend.steps()
    over = f"{len(trend.builds)} builds, {trend.builds[0]} to {trend.builds[-1]}"
    if not steps:
        return f"No step over {over}.", Tone.SAME
    sizes = [max(abs(point.since_previous) for _cell, point in cells) for _before, _build, cells in steps]
    lines = step_lines(trend)
    largest, last = lines[sizes.index(max(sizes))], lines[-1]
    said = f"{len(steps)} step{'s' if len(steps) > 1 else ''} over {over}. The largest: {largest}."
    worse = any(point.is_worse for _cell, point in steps[-1][2])
    return said if largest == last else f"{said} The last: {last}.", Tone.WORSE if worse else Tone.BETTER


def trend_charts(trend: BuildTrend) -> list[Chart]:
    """Return a chart a cell: a bar a build, its colour the verdict on the change against the one before."""
    return [_chart(trend, cell) for cell in trend.cells]


def _chart(trend: BuildTrend, cell: CellTrend) -> Chart:
    metric = trend.metric
    rows = [
        {"place": place, **_row(trend, point)}
        for place, point in zip(_places(trend), cell.points, strict=True)
    ]
    found = list(dict.fromkeys(row["verdict"] for row in rows))
    highest = max((row["value"] for row in rows if row["value"] is not None), default=1.0)
    axis = {"labelAngle": 0, "grid": False, "labelExpr": f"split(datum.label, '{_BREAK}')"}
    unit = f", {metric.unit}" if metric.unit else ""
    spec = {
        "height": _HEIGHT,
        "encoding": {
            "x": {"field": "place", "type": "ordinal", "sort": None, "title": None, "axis": axis,
                  "scale": {"domain": _places(trend)}},
            "y": {"field": "value", "type": "quantitative", "title": f"{metric.label}{unit}",
                  "scale": {"domain": [0, highest * _ROOM]}, "axis": {"format": "~s", "tickCount": 5}},
            "color": {"field": "verdict", "type": "nominal", "title": None,
                      "scale": {"domain": found, "range": [_COLOURS[verdict] for verdict in found]}},
            "tooltip": tips(("build", "build"), ("text", metric.label), ("step", "against previous"),
                            ("verdict", "step"), ("overall", f"against {trend.baseline}")),
        },
        "layer": [
            {"mark": {"type": "bar", "cornerRadiusEnd": 2, "width": {"band": 0.55}}},
            {"mark": {"type": "text", "dy": -7, "color": "var(--text)"},
             "encoding": {"text": {"field": "text", "type": "nominal"}, "color": {"value": "var(--text)"}}},
            {"mark": {"type": "text", "dy": -21, "fontWeight": "bold"},
             "encoding": {"text": {"field": "mark", "type": "nominal"}}},
        ],
    }  # fmt: skip
    title = f"{cell_title(trend, cell)}: {metric.heading}"
    told = "; ".join(f"{row['build']} {row['text']} ({row['step']}, {row['verdict']})" for row in rows)
    note = "In bold: steps, the change against the build before. Between two builds nothing was measured."
    return Chart(title, f"{title}: {told}", spec, columns_of(rows), note)


def _places(trend: BuildTrend) -> list[str]:
    """Return the builds as the axis has them: with their versions, where they are not called by these."""
    pairs = zip(trend.builds, trend.versions(), strict=True)
    return [build if version in build else f"{build}{_BREAK}{version}" for build, version in pairs]


def _row(trend: BuildTrend, point: Point) -> dict[str, Any]:
    first = point.build == trend.builds[0]
    return {
        "build": point.build,
        "value": finite(point.value / trend.metric.scale),
        "text": trend.metric.format(point.value),
        "step": percent(point.since_previous),
        "overall": percent(point.since_baseline),
        "verdict": _FIRST if first else point.verdict or _NO_VERDICT,
        "mark": percent(point.since_previous) if point.is_step else "",
    }


def _table(trend: BuildTrend, cell: CellTrend, number: int) -> Table:
    columns = point_columns(trend, cell)
    headings = [
        Heading(column.head, _name(trend, column.head), left=column.left, names_row=column.head == "BUILD")
        for column in columns
    ]
    rows = [
        [
            _cell(heading.name, column.cells[place], point)
            for heading, column in zip(headings, columns, strict=True)
        ]
        for place, point in enumerate(cell.points)
    ]
    title = f"{cell_title(trend, cell)}: {trend.metric.heading}"
    return Table(title, headings, rows, name=f"trend-{number}")


def _name(trend: BuildTrend, head: str) -> str:
    return _NAMES.get(head, "value" if head == trend.metric.label.upper() else "since_baseline")


def _cell(name: str, text: str, point: Point) -> Cell:
    if name == _STEP:
        return Cell(text, tone=TONES.get(text), note=point.reason)
    if name == "interval":
        bounds = point.low, point.high
        return Cell(text, bounds=bounds if all(map(math.isfinite, bounds)) else None)
    value = {
        "value": point.value,
        "since_baseline": point.since_baseline,
        "since_previous": point.since_previous,
        "resolution": point.high - point.since_previous,
    }.get(name, math.nan)
    return Cell(text, value if math.isfinite(value) else None)
