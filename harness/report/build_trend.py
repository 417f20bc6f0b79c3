"""Many builds in their order: the section of a report, and the chart that also stands by itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.analysis.build_trend_text import cell_title, explanation, point_columns, step_lines
from harness.analysis.tables import percent
from harness.report.answer import TONES
from harness.report.charts import columns_of, encoding, finite, gallery, tips
from harness.report.page import Cell, Folded, Heading, Points, Section, Table
from harness.report.vega import Chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.build_trend import BuildTrend, CellTrend, Point
    from harness.report.page import Block

_HEIGHT = 260
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
    """Return the part of a report that follows the builds: the steps, a chart a pattern, a table a cell."""
    tables = [Folded(cell_title(trend, cell), [_table(trend, cell, n)]) for n, cell in enumerate(trend.cells)]
    blocks: list[Block] = [
        Points(step_lines(trend)),
        *gallery(trend_charts(trend), "of other cells"),
        *tables,
    ]
    return Section("trend", "Build by build", [*blocks, Points(explanation(trend)[:2])])


def trend_charts(trend: BuildTrend) -> list[Chart]:
    """Return a chart a pattern and block size (and further factors): a line an iodepth over the builds."""
    groups: dict[str, list[CellTrend]] = {}
    for cell in trend.cells:
        rw, bs, _depth, *further = map(str, cell.cell)
        named = [f"{name} {value}" for name, value in zip(trend.factors[3:], further, strict=True)]
        groups.setdefault(", ".join([f"{rw} {bs}", *named]), []).append(cell)
    return [_chart(trend, name, cells) for name, cells in groups.items()]


def _chart(trend: BuildTrend, name: str, cells: Sequence[CellTrend]) -> Chart:
    metric = trend.metric
    names = [f"iodepth {cell.cell[2]}" for cell in cells]
    rows = [
        {"variant": line, "place": place, **_row(trend, point)}
        for line, cell in zip(names, cells, strict=True)
        for place, point in zip(_places(trend), cell.points, strict=True)
    ]
    unit = f", {metric.unit}" if metric.unit else ""
    axis = {"labelAngle": 0, "grid": False, "labelExpr": f"split(datum.label, '{_BREAK}')"}
    x = {"field": "place", "type": "ordinal", "sort": None, "title": None, "axis": axis,
         "scale": {"domain": _places(trend)}}  # fmt: skip
    y = {"field": "value", "type": "quantitative", "title": f"{metric.label}{unit}",
         "axis": {"format": "~s"}}  # fmt: skip
    tip = tips(
        ("variant", "cell"), ("build", "build"), ("text", metric.label), ("step", "against previous"),
        ("verdict", "step"), ("overall", f"against {trend.baseline}"),
    )  # fmt: skip
    channels = encoding(names)
    marked = {"filter": "datum.mark != ''"}
    spec = {
        "height": _HEIGHT,
        "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"color": channels["color"]}},
            {"mark": {"type": "point", "size": 70}, "encoding": {**channels, "tooltip": tip}},
            {
                "transform": [marked],
                "mark": {"type": "text", "dy": -13, "fontWeight": "bold"},
                "encoding": {"text": {"field": "mark", "type": "nominal"}, "color": channels["color"]},
            },
        ],
    }
    told = "; ".join(f"{row['variant']} {row['build']}: {row['text']} ({row['step']})" for row in rows)
    heading = f"{name}: {metric.heading}"
    note = "Percentages: steps, the change against the build before. Between two builds nothing was measured."
    return Chart(heading, f"{heading}: {told}", spec, columns_of(rows), note)


def _places(trend: BuildTrend) -> list[str]:
    """Return the builds as the axis has them: with their versions, where they are not called by these."""
    pairs = zip(trend.builds, trend.versions(), strict=True)
    return [build if version in build else f"{build}{_BREAK}{version}" for build, version in pairs]


def _row(trend: BuildTrend, point: Point) -> dict[str, Any]:
    return {
        "build": point.build,
        "value": finite(point.value / trend.metric.scale),
        "text": trend.metric.format(point.value),
        "step": percent(point.since_previous),
        "overall": percent(point.since_baseline),
        "verdict": point.verdict or "-",
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
