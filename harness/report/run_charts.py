"""Further charts of a run: latency percentiles, and QEMU's mappings over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.analysis.tables import records
from harness.report.answer import cell_name
from harness.report.charts import (
    columns_of,
    encoding,
    finite,
    side_by_side,
    tips,
    variant_intervals,
    variants,
)
from harness.report.vega import Chart, Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from harness.analysis.result import Comparison

_MOST_POINTS = 120
_NEAR = 0.25
"""From this part of a limit on it is drawn; further away it would squeeze everything else."""

_PERCENTILES = {"p50": "50", "p90": "90", "p95": "95", "p99": "99", "p999": "99.9", "p9999": "99.99"}


def percentile_of(metric: str) -> str | None:
    """Return the percentile of a completion latency's metric: ``clat_p999_ns`` is 99.9; None of others."""
    return _PERCENTILES.get(metric.removeprefix("clat_").removesuffix("_ns"))


def latencies(percentiles: Sequence[tuple[Comparison, pd.DataFrame]]) -> list[Chart]:
    """Return a chart a cell: completion latency against percentile, a line a variant.

    Args:
        percentiles: a comparison a percentile, lowest first, and its sessions, from `session_values`.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for comparison, sessions in percentiles:
        bounds = variant_intervals(comparison, sessions)
        medians = sessions.groupby([*comparison.key_columns, "variant"], sort=False)["value"].median()
        for row in records(medians.reset_index()):
            key = tuple(row[name] for name in comparison.key_columns)
            low, high = (bound / comparison.metric.scale for bound in bounds[row["variant"], key])
            value = row["value"] / comparison.metric.scale
            groups.setdefault(cell_name(row, comparison.key_columns), []).append(
                {
                    "percentile": percentile_of(comparison.metric.name), "variant": row["variant"],
                    "value": finite(value), "low": finite(low), "high": finite(high),
                    "text": f"{value:,.1f} us",
                    "interval": f"{low:,.1f} to {high:,.1f} us" if math.isfinite(low) else "-",
                }
            )  # fmt: skip
    return [_latency_chart(percentiles[0][0], name, rows) for name, rows in groups.items()]


def _latency_chart(comparison: Comparison, name: str, rows: Sequence[dict[str, Any]]) -> Chart:
    names = variants(comparison)
    tip = tips(("variant", "variant"), ("percentile", "percentile"), ("text", "completion latency"),
               ("interval", "interval"))  # fmt: skip
    y = {"field": "value", "type": "quantitative", "title": "completion latency, us",
         "scale": {"type": "log"}, "axis": {"format": "~s", "tickCount": 3}}  # fmt: skip
    # A logarithm has no place for a bound of zero.
    positive: Spec = {"transform": [{"filter": "datum.low > 0"}]}
    spec = side_by_side(
        names, along=("percentile", "percentile"), y=y, tip=tip, height_px=200, size=56, intervals=positive
    )
    told = "; ".join(f"{row['variant']} {row['percentile']}: {row['text']}" for row in rows)
    return Chart(name, f"Percentiles of completion latency, {name}: {told}", spec, columns_of(rows))


@dataclass(frozen=True, slots=True)
class Watched:
    """What telemetry saw of one boot's QEMU.

    Attributes:
        variant: whose it was.
        session: its name.
        seconds: since the watching began.
        vmas: memory mappings then.
        coroutines: likewise; None where they could not be told.
    """

    variant: str
    session: str
    seconds: Sequence[float]
    vmas: Sequence[int]
    coroutines: Sequence[int | None]


def over_time(watched: Sequence[Watched], names: Sequence[str], limit: int | None) -> list[Chart]:
    """Return QEMU's mappings and coroutines over time, a line a boot.

    Args:
        watched: of every boot.
        names: the variants', in order.
        limit: vm.max_map_count; None when it is unknown.
    """
    charts = [
        _time_chart("VMAs of QEMU (memory mappings)", "VMAs", names, limit,
                    [(boot, boot.seconds, boot.vmas) for boot in watched]),
        _time_chart("Coroutines of QEMU, pooled and in flight", "coroutines", names, None,
                    [(boot, boot.seconds, boot.coroutines) for boot in watched]),
    ]  # fmt: skip
    return [chart for chart in charts if chart is not None]


def _time_chart(
    title: str,
    what: str,
    names: Sequence[str],
    limit: int | None,
    lines: Sequence[tuple[Watched, Sequence[float], Sequence[int | None]]],
) -> Chart | None:
    rows: list[dict[str, Any]] = []
    peaks: dict[str, int] = {}
    for boot, seconds, values in lines:
        seen = [(at, value) for at, value in zip(seconds, values, strict=True) if value is not None]
        for at, value in thinned(seen, _MOST_POINTS):
            rows.append(
                {"seconds": round(at, 1), "value": value, "variant": boot.variant, "session": boot.session}
            )
            peaks[boot.variant] = max(peaks.get(boot.variant, 0), value)
    if not rows:
        return None
    drawn = limit is not None and max(peaks.values()) > _NEAR * limit
    channels = encoding(names)
    spec: Spec = {
        "height": 230,
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 1.3, "opacity": 0.65},
                "encoding": {
                    "x": {"field": "seconds", "type": "quantitative", "title": "seconds since the boot began",
                          "scale": {"nice": False}, "axis": {"grid": False}},
                    "y": {"field": "value", "type": "quantitative", "title": what, "axis": {"format": "~s"}},
                    "detail": {"field": "session", "type": "nominal"},
                    "color": channels["color"],
                    "strokeDash": {"field": "variant", "type": "nominal", "title": None,
                                   "scale": {"domain": list(names), "range": _DASHES}},
                    "tooltip": tips(("variant", "variant"), ("session", "session")),
                },
            },
            *(limit_layers(limit) if drawn and limit is not None else []),
        ],
    }  # fmt: skip
    told = "; ".join(f"{name} at most {peaks[name]:,}" for name in names if name in peaks)
    note = f"Peak: {told}." + (
        f" The limit (vm.max_map_count) is {limit:,}{'' if drawn else ', far above'}." if limit else ""
    )
    return Chart(title, f"{title} over time, a line a boot: {told}", spec, columns_of(rows), note)


_DASHES = [[1, 0], [6, 2], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3], [10, 4], [3, 1]]


def limit_layers(limit: int) -> list[Spec]:
    """Return what draws the limit of mappings: a line and its name."""
    rule = {"data": {"values": [{}]}, "mark": {"type": "rule", "strokeDash": [6, 4], "color": "var(--text)"},
            "encoding": {"y": {"datum": limit}}}  # fmt: skip
    text = {"data": {"values": [{}]},
            "mark": {"type": "text", "align": "left", "dx": 4, "dy": -7,
                     "text": f"vm.max_map_count {limit:,}"},
            "encoding": {"y": {"datum": limit}, "x": {"value": 0}}}  # fmt: skip
    return [rule, text]


def thinned(points: Sequence[tuple[float, int]], most: int) -> list[tuple[float, int]]:
    """Return at most so many points of a line: of each stretch the highest, for peaks are what matters."""
    if len(points) <= most:
        return list(points)
    edges = [round(number * len(points) / most) for number in range(most + 1)]
    return [max(points[first:last], key=lambda point: point[1]) for first, last in pairwise(edges)]
