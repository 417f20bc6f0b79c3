"""The charts of a comparison: change by cell, the metric against iodepth, every session in order."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.analysis.spread import median_interval
from harness.analysis.tables import interval, percent, records
from harness.report.answer import cell_label, cell_name
from harness.report.page import Charts, Folded
from harness.report.vega import Chart, Spec, series_colours, series_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from harness.analysis.result import Comparison
    from harness.report.page import Block

_UNFOLDED = 12
_ROW_PX = 26
_NO_VERDICT = "no verdict"
_ALL = "all cells"
_FINE = 0.05
_VERDICTS = {
    "slower": ("var(--worse)", "triangle-down"), "faster": ("var(--better)", "triangle-up"),
    "same": ("var(--same)", "square"), "unclear": ("var(--unclear)", "circle"),
    _NO_VERDICT: ("var(--faint)", "circle"),
}  # fmt: skip


def gallery(charts: Sequence[Chart], what: str) -> list[Block]:
    """Return charts side by side; of many, the first ones, the others folded away."""
    blocks: list[Block] = [Charts(charts[:_UNFOLDED])]
    if hidden := charts[_UNFOLDED:]:
        blocks.append(Folded(f"{len(hidden)} more {what}", [Charts(hidden)]))
    return blocks


def finite(value: float, digits: int = 6) -> float | None:
    """Return a number as a chart can hold it: rounded, and None where there is none."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def variants(comparison: Comparison) -> list[str]:
    """Return the variants' names, the baseline first."""
    return [comparison.baseline, *comparison.contenders]


def encoding(names: Sequence[str], *, legend: bool = True) -> Spec:
    """Return the channels that tell variants apart: colour, and shape for who does not see it."""
    extra = {} if legend else {"legend": None}
    return {
        "color": {"field": "variant", "type": "nominal", "scale": series_colours(names), "title": None}
        | extra,
        "shape": {"field": "variant", "type": "nominal", "scale": series_shapes(names), "title": None}
        | extra,
    }


def tips(*fields: tuple[str, str]) -> list[Spec]:
    """Return a tooltip's lines: field and title, all text."""
    return [{"field": field, "type": "nominal", "title": title} for field, title in fields]


def forest(comparison: Comparison, contender: str) -> Chart:
    """Return the change of each cell with its interval, the margin and the noise floor drawn behind."""
    rows = _forest_rows(comparison, contender)
    labels = [row["cell"] for row in rows]
    found = list(dict.fromkeys(row["verdict"] for row in rows))
    shown = [abs(row[name]) for row in rows for name in ("low", "high", "change") if row[name] is not None]
    numbers = "+.1%" if max(shown, default=0.0) < _FINE else "+.0%"
    y = {"field": "cell", "type": "nominal", "sort": None, "title": None, "axis": {"grid": False}}
    tip = tips(
        ("cell", "cell"), ("text", "change"), ("interval", f"{level(comparison)} interval"),
        ("verdict", "verdict"), ("p", "p, adjusted"), ("mde", "smallest visible change"),
        ("floor_text", "A/A"),
    )  # fmt: skip
    colour = {
        "field": "verdict", "type": "nominal", "title": None,
        "scale": {"domain": found, "range": [_VERDICTS[name][0] for name in found]},
    }  # fmt: skip
    shape = {**colour, "scale": {"domain": found, "range": [_VERDICTS[name][1] for name in found]}}
    axis = {"format": numbers, "grid": True, "orient": "bottom", "labelFlush": True, "tickCount": 6}
    margin = comparison.margin
    layer: list[Spec] = [
        _alone("rect", {"x": {"datum": -margin}, "x2": {"datum": margin}}, color="var(--band)"),
        _alone("rule", {"x": {"datum": 0}}, color="var(--text)", strokeWidth=1),
    ]
    if comparison.noise_floor:
        layer.append(
            {
                "mark": {"type": "bar", "color": "var(--floor)", "height": 12},
                "encoding": {"y": y, "x": {"field": "floor_low", "type": "quantitative"},
                             "x2": {"field": "floor_high"}, "tooltip": tip},
            }
        )  # fmt: skip
    layer += [
        {
            "mark": {"type": "rule", "strokeWidth": 2.5},
            "encoding": {"y": y, "x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"},
                         "color": colour, "tooltip": tip},
        },
        {
            "mark": {"type": "point", "size": 90},
            "encoding": {"y": y, "color": colour, "shape": shape, "tooltip": tip,
                         "x": {"field": "change", "type": "quantitative", "title": "change", "axis": axis}},
        },
    ]  # fmt: skip
    return Chart(
        title=f"{contender} against {comparison.baseline}: change of {comparison.metric.heading}",
        summary=f"Change of {comparison.metric.label} by cell, {contender} against {comparison.baseline}: "
        + "; ".join(f"{row['cell']} {row['text']} {row['interval']} {row['verdict']}" for row in rows),
        spec={"height": _ROW_PX * len(labels), "layer": layer},
        columns=columns_of(rows),
        note=_forest_note(comparison),
    )


def _alone(mark: str, channels: Spec, **style: Any) -> Spec:
    """Return a layer that is drawn once, whatever the data."""
    return {"data": {"values": [{}]}, "mark": {"type": mark, **style}, "encoding": channels}


def level(comparison: Comparison) -> str:
    """Return the level of the intervals: ``95%``."""
    return f"{(1 - comparison.alpha) * 100:g}%"


def _forest_note(comparison: Comparison) -> str:
    cells = " ".join(comparison.key_columns)
    margin = f"Cells: {cells}. Band: the margin of {comparison.margin * 100:g}%."
    better = "right" if comparison.metric.higher_is_better else "left"
    parts = [margin, f"Lines: {level(comparison)} intervals.", f"To the {better} is better."]
    if comparison.no_verdict is not None:
        parts = [margin, "Estimates only: there are no intervals."]
    if comparison.noise_floor:
        parts.append("Grey bars: what the same build against itself could not exclude here (A/A).")
    return " ".join(parts)


def _forest_rows(comparison: Comparison, contender: str) -> list[dict[str, Any]]:
    frame = comparison.frames[contender]
    keys = comparison.key_columns
    named = [(cell_label(row, keys), row) for row in records(frame)]
    floors = [comparison.noise_floor.get(tuple(row[key] for key in keys), math.inf) for _name, row in named]
    rows = [_forest_row(name, row, floor) for (name, row), floor in zip(named, floors, strict=True)]
    pooled = comparison.pooled(contender)
    return [*rows, _forest_row(_ALL, pooled, math.inf)] if len(rows) > 1 else rows


def _forest_row(name: str, row: dict[str, Any], floor: float) -> dict[str, Any]:
    low, high = row["ci_low"], row["ci_high"]
    bounded = math.isfinite(low) and math.isfinite(high)
    verdict = row["verdict"]
    p = row.get("p_adjusted", row["p_value"])
    return {
        "cell": name,
        "change": finite(row["change"]),
        "low": finite(low) if bounded else None,
        "high": finite(high) if bounded else None,
        "floor_low": None if math.isinf(floor) else finite(-floor),
        "floor_high": finite(floor),
        "verdict": verdict if isinstance(verdict, str) else _NO_VERDICT,
        "text": percent(row["change"]),
        "interval": interval(low, high),
        "p": "-" if math.isnan(p) else f"{p:.3g}",
        "mde": percent(row["mde"], sign=False),
        "floor_text": percent(floor, sign=False) if math.isfinite(floor) else "-",
    }


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return rows as columns, which take half the room."""
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def against_depth(comparison: Comparison, sessions: pd.DataFrame | None) -> list[Chart]:
    """Return a chart a pattern and block size (and further factors): the metric against iodepth.

    Args:
        comparison: gives the medians.
        sessions: from `session_values`, for the intervals; None draws none.
    """
    keys = comparison.key_columns
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in _medians(comparison, sessions):
        further = [f"{name} {row[name]}" for name in keys if name not in {"rw", "bs", "iodepth"}]
        groups.setdefault(", ".join([f"{row['rw']} {row['bs']}", *further]), []).append(row)
    return [_depth_chart(comparison, name, rows) for name, rows in groups.items()]


def _medians(comparison: Comparison, sessions: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return each variant's median and interval in each cell, in the unit that is shown."""
    keys, scale = comparison.key_columns, comparison.metric.scale
    bounds = variant_intervals(comparison, sessions)
    sides = [(comparison.baseline, comparison.contenders[0], "baseline")]
    sides += [(name, name, "contender") for name in comparison.contenders]
    rows = []
    for variant, contender, column in sides:
        for row in records(comparison.frames[contender]):
            key = tuple(row[name] for name in keys)
            low, high = bounds.get((variant, key), (math.nan, math.nan))
            rows.append(
                {name: row[name] for name in keys}
                | {"variant": variant, "value": row[column] / scale, "low": low / scale, "high": high / scale}
            )
    return [row for row in rows if math.isfinite(row["value"])]


def variant_intervals(
    comparison: Comparison, sessions: pd.DataFrame | None
) -> dict[tuple[str, tuple[Any, ...]], tuple[float, float]]:
    """Return the interval of each variant's median in each cell, in the metric's unit."""
    if sessions is None:
        return {}
    values: dict[tuple[str, tuple[Any, ...]], list[float]] = defaultdict(list)
    for row in records(sessions):
        key = tuple(row[name] for name in comparison.key_columns)
        values[row["variant"], key].append(row["value"])
    return {key: median_interval(np.array(found), alpha=comparison.alpha) for key, found in values.items()}


def _depth_chart(comparison: Comparison, name: str, rows: Sequence[dict[str, Any]]) -> Chart:
    metric, names = comparison.metric, variants(comparison)
    data = [
        {
            "depth": str(row["iodepth"]), "variant": row["variant"], "value": finite(row["value"]),
            "low": finite(row["low"]), "high": finite(row["high"]),
            "text": metric.format(row["value"] * metric.scale),
            "interval": _bounds(comparison, row["low"], row["high"]),
        }
        for row in rows
    ]  # fmt: skip
    tip = tips(
        ("variant", "variant"), ("depth", "iodepth"), ("text", metric.label), ("interval", level(comparison))
    )
    unit = f", {metric.unit}" if metric.unit else ""
    y = {"field": "value", "type": "quantitative", "title": f"{metric.label}{unit}", "axis": {"format": "~s"}}
    spec = side_by_side(names, along=("depth", "iodepth"), y=y, tip=tip, height_px=220)
    told = "; ".join(f"{row['variant']} at {row['depth']}: {row['text']} {row['interval']}" for row in data)
    return Chart(name, f"{metric.label} against iodepth, {name}: {told}", spec, columns_of(data))


def side_by_side(
    names: Sequence[str],
    *,
    along: tuple[str, str],
    y: Spec,
    tip: list[Spec],
    height_px: int,
    size: int = 70,
    intervals: Spec | None = None,
) -> Spec:
    """Return a chart of every variant's values with their intervals, next to each other at each place.

    Args:
        names: of the variants.
        along: field and title of the places.
        y: the channel of the values; ``low`` and ``high`` are their bounds.
        tip: the tooltip.
        height_px: of the chart.
        size: of a point, px².
        intervals: what the layer of intervals has beside its mark.
    """
    field, title = along
    channels = encoding(names)
    return {
        "height": height_px,
        "encoding": {
            "x": {"field": field, "type": "ordinal", "sort": None, "title": title,
                  "axis": {"labelAngle": 0, "grid": False}},
            "xOffset": {"field": "variant", "type": "nominal", "scale": {"domain": names, "padding": 0.3}},
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.55},
             "encoding": {"y": y, "color": channels["color"]}},
            {**(intervals or {}), "mark": {"type": "rule", "strokeWidth": 2},
             "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": channels["color"],
                          "tooltip": tip}},
            {"mark": {"type": "point", "size": size}, "encoding": {"y": y, **channels, "tooltip": tip}},
        ],
    }  # fmt: skip


def _bounds(comparison: Comparison, low: float, high: float) -> str:
    if not math.isfinite(low):
        return "-"
    metric = comparison.metric
    return f"{metric.format(low * metric.scale)} to {metric.format(high * metric.scale)}"


def sessions_in_order(
    comparison: Comparison, sessions: pd.DataFrame, order: Mapping[int, int], labels: Mapping[int, str]
) -> list[Chart]:
    """Return a chart a cell: every session as a dot, in the order they ran.

    Args:
        comparison: says what the cells are.
        sessions: from `session_values`.
        order: a session's number -> its place in the order they ran, from 1.
        labels: a session's number -> its name.
    """
    groups: dict[str, list[dict[str, Any]]] = {
        cell_name(row, comparison.key_columns): []
        for row in records(comparison.frames[comparison.contenders[0]])
    }
    for row in records(sessions):
        groups[cell_name(row, comparison.key_columns)].append(
            {
                "order": order[row["session"]], "variant": row["variant"],
                "value": finite(row["value"] / comparison.metric.scale), "stray": bool(row["stray"]),
                "text": comparison.metric.format(row["value"]),
                "session": labels[row["session"]] + (" (stray)" if row["stray"] else ""),
            }
        )  # fmt: skip
    return [_session_chart(comparison, name, rows) for name, rows in groups.items() if rows]


def _session_chart(comparison: Comparison, name: str, rows: Sequence[dict[str, Any]]) -> Chart:
    metric, names = comparison.metric, variants(comparison)
    tip = tips(("session", "session"), ("variant", "variant"), ("order", "ran as"), ("text", metric.label))
    unit = f", {metric.unit}" if metric.unit else ""
    x = {"field": "order", "type": "quantitative", "title": "session, in the order they ran",
         "scale": {"zero": False, "nice": False, "padding": 10},
         "axis": {"grid": False, "tickMinStep": 1, "format": "d"}}  # fmt: skip
    y = {"field": "value", "type": "quantitative", "title": f"{metric.label}{unit}",
         "scale": {"zero": False}, "axis": {"format": "~s"}}  # fmt: skip
    channels = encoding(names)
    stray = [row["session"] for row in rows if row["stray"]]
    spec: Spec = {
        "height": 200,
        "layer": [
            {"mark": {"type": "rule", "strokeDash": [5, 3], "opacity": 0.8},
             "encoding": {"y": {**y, "aggregate": "median"}, "color": channels["color"]}},
            {"mark": {"type": "point", "size": 42},
             "encoding": {"x": x, "y": y, **channels, "tooltip": tip}},
            *([{"transform": [{"filter": "datum.stray"}],
             "mark": {"type": "point", "filled": False, "size": 190, "color": "var(--text)"},
             "encoding": {"x": x, "y": y, "tooltip": tip}}] if stray else []),
        ],
    }  # fmt: skip
    summary = f"{metric.label} of {len(rows)} sessions in the order they ran, {name}"
    told = f"; stray: {', '.join(stray)}" if stray else "; none is stray"
    return Chart(name, summary + told, spec, columns_of(rows))
