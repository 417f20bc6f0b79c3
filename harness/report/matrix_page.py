"""The report of a comparison: an fio matrix of one run, or two sets of results from anywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.analysis.remarks import shortened
from harness.analysis.spread import session_values
from harness.analysis.tables import explanation, full_columns, records, render
from harness.report.answer import TONES, answer, place
from harness.report.background import provenance_section, repeat_section
from harness.report.build_trend import trend_section
from harness.report.charts import against_depth, forest, gallery, level, variants
from harness.report.page import Cell, Charts, Code, Folded, Heading, Page, Points, Section, Table, Text
from harness.report.run_sections import (
    latency_section,
    mappings_section,
    noise_section,
    sessions_section,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from harness.analysis.build_trend import BuildTrend
    from harness.analysis.layout import Column
    from harness.analysis.result import Comparison
    from harness.report.background import Background
    from harness.report.page import Block
    from harness.report.run_charts import Watched

_MEANINGS = {
    "CHANGE": ("change", "the contender against the baseline: the Hodges-Lehmann estimate over blocks"),
    "P(ADJ)": ("p_adjusted", "chance of so large a difference if nothing changed, adjusted for all cells"),
    "A/A": ("noise_floor", "what the same build against itself could not exclude on this host"),
    "VERDICT": ("verdict", "faster, slower, same (within the margin) or unclear"),
    "MDE": ("mde", "the smallest change that a run like this one finds 4 times in 5"),
    "BLOCKS": ("n_blocks", "blocks in which both builds gave a number"),
    "STRAY": ("stray", "sessions far from the others, baseline+contender"),
    "SESSIONS": ("sessions", "sessions that gave a number, baseline+contender"),
    "NOTE": ("note", None),
}  # fmt: skip
"""Heads of the text table -> their names in JSON and what they mean."""


@dataclass(frozen=True)
class Story:
    """What one run's directory says beside its comparison.

    Attributes:
        samples: a row a sample.
        background: what the run was.
        order: a session's number -> its place in the order they ran, from 1.
        labels: a session's number -> its name.
        watched: what telemetry saw, a boot each.
        no_telemetry: why there is none; None when there is.
        limit: vm.max_map_count; None when it was not recorded.
        percentiles: comparisons by completion latency, the lowest percentile first.
        noise_floor: the A/A run's name; None without one.
    """

    samples: pd.DataFrame
    background: Background
    order: Mapping[int, int]
    labels: Mapping[int, str]
    watched: Sequence[Watched] = ()
    no_telemetry: str | None = None
    limit: int | None = None
    percentiles: Sequence[Comparison] = ()
    noise_floor: str | None = None


@dataclass(frozen=True)
class MatrixReport:
    """Everything a comparison's page is made from.

    Attributes:
        title: of the window.
        comparisons: a metric each; the first one answers.
        story: of a run; None of results from elsewhere.
        sources: where those came from, a sentence each.
        trend: by the first metric, of three builds or more; None otherwise.
    """

    title: str
    comparisons: Sequence[Comparison]
    story: Story | None = None
    sources: Sequence[str] = field(default_factory=tuple)
    trend: BuildTrend | None = None


def matrix_page(report: MatrixReport) -> Page:
    """Return the page of a comparison."""
    first, *others = report.comparisons
    said, tone = answer(first)
    story = report.story
    sessions = session_values(story.samples, first) if story else None
    followed = [trend_section(report.trend)] if report.trend else []
    sections = [*followed, _results(first), _change(first), *(_other(comparison) for comparison in others)]
    sections.append(_depth(first, sessions))
    if story is not None and sessions is not None:
        sections += [latency_section(story), sessions_section(first, sessions, story)]
        sections += [mappings_section(story, variants(first)), noise_section(first, story)]
        sections.append(provenance_section(story.background))
        table = {"The table for a commit message": render(first, "commit", ci=True)}
        sections.append(repeat_section(story.background, table))
        where = (first.environment.get("host") or {}).get("name")
        headline = story.background.headline(str(where or ""), _ruler(first))
    else:
        sections.append(_sources(report))
        headline = "Two sets of results, compared · not measured side by side"
    notices = [line for line in first.footer if _noticed(line)]
    warned = [warning for comparison in report.comparisons for warning in comparison.warnings]
    return Page(
        title=report.title,
        place=headline,
        answer=said,
        tone=tone,
        sections=sections,
        notices=[*notices, *shortened(list(dict.fromkeys(warned)))],
    )


def _noticed(line: str) -> bool:
    """Return whether a line of the footer belongs on top: emulated numbers, or one build against itself."""
    return line.startswith(("Measured under", "A/A"))


def _ruler(comparison: Comparison) -> str:
    under = place({"accel": comparison.environment.get("accel")})
    return f"fio in guests {under}".strip()


def _results(comparison: Comparison) -> Section:
    blocks: list[Block] = [results_table(comparison, name) for name in comparison.contenders]
    remarks = [*explanation(comparison), *(line for line in comparison.footer if not _noticed(line))]
    return Section("results", "Results", [*blocks, Points(remarks)])


def _other(comparison: Comparison) -> Section:
    """Return the section of a further metric."""
    blocks: list[Block] = []
    for name in comparison.contenders:
        blocks += [results_table(comparison, name), Charts([forest(comparison, name)], wide=True)]
    return Section(comparison.metric.name.replace("_", "-"), comparison.metric.label.capitalize(), blocks)


def results_table(comparison: Comparison, contender: str) -> Table:
    """Return the table as `harness compare` prints it, the numbers behind it in full."""
    columns = full_columns(comparison, contender)
    frame = comparison.frames[contender]
    rows: list[dict[str, Any]] = records(frame)
    if comparison.no_verdict is None:
        rows.append(comparison.pooled(contender))
    keys = comparison.key_columns
    names = [*keys, "baseline", "contender", *(_name(column) for column in columns[len(keys) + 2 :])]
    floor = comparison.noise_floor
    cells = [
        [
            _cell(name, column.cells[number], row, floor.get(tuple(row.get(key, "") for key in keys)))
            for name, column in zip(names, columns, strict=True)
        ]
        for number, row in enumerate(rows)
    ]
    return Table(
        f"{contender} against {comparison.baseline}: {comparison.metric.heading}",
        [_heading(name, column, keys) for name, column in zip(names, columns, strict=True)],
        cells,
        name=f"{comparison.metric.name}-{comparison.contenders.index(contender)}",
        total=comparison.no_verdict is None,
    )


def _name(column: Column) -> str:
    return _MEANINGS[column.head][0] if column.head in _MEANINGS else "interval"


def _heading(name: str, column: Column, keys: Sequence[str]) -> Heading:
    meaning = next((text for head, (known, text) in _MEANINGS.items() if known == name), None)
    if name == "interval":
        meaning = "where the true change lies, at this level"
    return Heading(column.head, name, meaning, left=column.left or name == keys[0], names_row=name in keys)


def _cell(name: str, text: str, row: dict[str, Any], floor: float | None) -> Cell:
    if name == "interval":
        bounds = row["ci_low"], row["ci_high"]
        return Cell(text, bounds=bounds if all(map(math.isfinite, bounds)) else None)
    if name == "verdict":
        return Cell(text, tone=TONES.get(text), note=row["reason"])
    value = floor if name == "noise_floor" else row.get(name)
    if name == "p_adjusted":
        value = row.get("p_adjusted", row["p_value"])
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return Cell(text, value=value if numeric and name not in {"stray", "iodepth", "bs"} else None)


def _change(comparison: Comparison) -> Section:
    charts = [forest(comparison, name) for name in comparison.contenders]
    return Section("change", "Change by cell", [Charts(charts, wide=True)])


def _depth(comparison: Comparison, sessions: pd.DataFrame | None) -> Section:
    charts = against_depth(comparison, sessions)
    explained = "Medians; there is no interval, since sessions were not interleaved."
    if sessions is not None:
        explained = (
            f"Medians over sessions, with {level(comparison)} intervals of each (order statistics; from 6 "
            "sessions on). Overlap proves nothing: sessions are compared pair by pair, and the change by "
            "cell is what counts."
        )
    return Section(
        "iodepth",
        f"{comparison.metric.label} against iodepth",
        [Text(explained), *gallery(charts, "of other cells")],
    )


def _sources(report: MatrixReport) -> Section:
    told = (
        "These results were not measured side by side by this harness: there are estimates, and no "
        "intervals, verdicts, sessions, telemetry or provenance."
    )
    table = render(report.comparisons[0], "commit")
    return Section(
        "sources",
        "Where the numbers come from",
        [Text(told), Points(report.sources), Folded("The table for a commit message", [Code(table)])],
    )
