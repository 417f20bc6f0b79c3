"""The sections that only a run of this harness has: latency, sessions, mappings, the noise floor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.analysis.spread import session_values
from harness.analysis.tables import interval, percent, records
from harness.report.answer import TONES, is_aa
from harness.report.charts import gallery, sessions_in_order
from harness.report.page import Cell, Charts, Heading, Section, Table, Text
from harness.report.run_charts import latencies, over_time, percentile_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from harness.analysis.result import Comparison
    from harness.report.matrix_page import Story
    from harness.report.page import Block

_IN_TABLE = ("50", "99", "99.9")


def latency_section(story: Story) -> Section:
    """Return the percentiles of completion latency."""
    title = "Latency percentiles"
    if not story.percentiles:
        why = (
            "Not shown: fio gave no percentiles of completion latency that could be compared (it measured "
            "none, or several distributions in one iteration)."
        )
        return Section("latency", title, [Text(why)])
    pairs = [(comparison, session_values(story.samples, comparison)) for comparison in story.percentiles]
    told = Text(
        "Completion latency: the median over sessions of each percentile, with its interval. The axis is "
        "logarithmic: equal steps are equal ratios."
    )
    shown = [comparison for comparison in story.percentiles if _percentile(comparison) in _IN_TABLE]
    tables: list[Block] = [_latency_table(shown, name) for name in shown[0].contenders] if shown else []
    return Section("latency", title, [told, *gallery(latencies(pairs), "cells"), *tables])


def _percentile(comparison: Comparison) -> str:
    return percentile_of(comparison.metric.name) or ""


def _latency_table(comparisons: Sequence[Comparison], contender: str) -> Table:
    first = comparisons[0]
    keys = first.key_columns
    headings = [Heading(key.upper(), key, left=key == keys[0], names_row=True) for key in keys]
    columns: list[list[Cell]] = [[Cell(str(value)) for value in first.frames[contender][key]] for key in keys]
    for comparison in comparisons:
        name, metric = f"p{_percentile(comparison)}", comparison.metric
        headings += [
            Heading(f"{name} {comparison.baseline}", f"{metric.name}-baseline", "microseconds"),
            Heading(f"{name} {contender}", f"{metric.name}-contender", "microseconds"),
            Heading("CHANGE", f"{metric.name}-change", left=True),
        ]
        rows = records(comparison.frames[contender])
        columns += [
            [Cell(metric.format(row[side]), value=_known(row[side])) for row in rows]
            for side in ("baseline", "contender")
        ]
        columns.append([_latency_change(row) for row in rows])
    caption = (
        f"{contender} against {first.baseline}: completion latency in us (less is better), medians, and the "
        "change with its interval"
    )
    return Table(caption, headings, [list(row) for row in zip(*columns, strict=True)], name="latency")


def _latency_change(row: dict[str, Any]) -> Cell:
    bounds = interval(row["ci_low"], row["ci_high"])
    verdict = row["verdict"] if isinstance(row["verdict"], str) else None
    called = verdict in {"faster", "slower"}
    text = f"{percent(row['change'])} {bounds}" + (f" {verdict}" if called else "")
    return Cell(text, value=_known(row["change"]), tone=TONES[verdict] if verdict and called else None)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def sessions_section(comparison: Comparison, sessions: pd.DataFrame, story: Story) -> Section:
    """Return every session in the order they ran."""
    charts = sessions_in_order(comparison, sessions, story.order, story.labels)
    stray = int(sessions["stray"].sum())
    told = (
        "A dot is a session (a boot): the median of its iterations. A slope that the variants share is drift "
        f"of the host; a ring is a session far from the others ({stray} here). Dashed: the variants' medians."
    )
    return Section("sessions", "Every session", [Text(told), *gallery(charts, "cells")])


def mappings_section(story: Story, names: Sequence[str]) -> Section:
    """Return QEMU's coroutines and mappings over time."""
    charts = over_time(story.watched, names, story.limit)
    if not charts:
        why = story.no_telemetry or "QEMU's mappings could not be read"
        return Section("mappings", "Coroutines and VMAs", [Text(f"Not shown: {why}.")])
    return Section("mappings", "Coroutines and VMAs", [Charts(charts)])


def noise_section(comparison: Comparison, story: Story) -> Section:
    """Return what this host cannot resolve."""
    title = "Noise floor"
    mde = [value for frame in comparison.frames.values() for value in frame["mde"] if math.isfinite(value)]
    blind = (
        f"By its own intervals this run finds, 4 times in 5, changes of {percent(min(mde), sign=False)} in "
        f"its quietest cell and of {percent(max(mde), sign=False)} in its noisiest."
        if mde
        else "There are too few blocks to say what change this run would have found."
    )
    if is_aa(comparison):
        here = "This run is a noise floor: both variants are the same build."
        return Section(
            "noise", title, [Text(here), _floor_table(comparison, comparison.resolution()), Text(blind)]
        )
    if not comparison.noise_floor:
        hint = (
            "No A/A run of this host stands beside it. To have one: harness run experiment.yml --aa, then "
            "harness report RUN_DIR --noise-floor AA_RUN_DIR."
        )
        return Section("noise", title, [Text(blind), Text(hint)])
    named = f" ({story.noise_floor})" if story.noise_floor else ""
    told = f"What the same build against itself could not exclude on this host, by cell{named}:"
    return Section(
        "noise", title, [Text(told), _floor_table(comparison, comparison.noise_floor), Text(blind)]
    )


def _floor_table(comparison: Comparison, floor: Mapping[Any, float]) -> Table:
    keys = comparison.key_columns
    headings = [
        *(Heading(key.upper(), key, left=key == keys[0], names_row=True) for key in keys),
        Heading("A/A", "resolution", "the largest change that cannot be told from none"),
    ]
    rows = [
        [
            *(Cell(str(value)) for value in key),
            Cell(percent(value, sign=False), value) if math.isfinite(value) else Cell("-"),
        ]
        for key, value in floor.items()
    ]
    return Table("The noise floor of each cell", headings, rows, name="noise-floor")
