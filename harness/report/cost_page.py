"""The report of instruction counts: what a request costs, and where the difference is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.analysis.cost_tables import (
    explanation,
    full_columns,
    instructions,
    pool_columns,
    pool_title,
    render_costs,
)
from harness.analysis.tables import percent
from harness.report.answer import TONES, cell_label, cost_answer
from harness.report.background import provenance_section, repeat_section
from harness.report.charts import columns_of, encoding, finite, tips
from harness.report.page import Cell, Charts, Code, Folded, Heading, Page, Points, Section, Table
from harness.report.vega import Chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.costs import CellCost, CostComparison
    from harness.report.background import Background
    from harness.report.page import Block


@dataclass(frozen=True)
class CostStory:
    """Everything the page of a run of counts is made from.

    Attributes:
        title: of the window.
        comparison: of the counts.
        background: what the run was.
        explanations: of each cell, which functions the difference is in; as text, the title first.
    """

    title: str
    comparison: CostComparison
    background: Background
    explanations: Sequence[str] = field(default_factory=tuple)


def cost_page(story: CostStory) -> Page:
    """Return the page of a run of counts."""
    comparison, background = story.comparison, story.background
    said, tone = cost_answer(comparison)
    host = str((comparison.environment.get("host") or {}).get("name") or "")
    tables: list[Block] = [_table(comparison, name) for name in comparison.contenders]
    tables += [_pool_table(comparison, name) for name in comparison.contenders if comparison.pool is not None]
    sections = [
        Section("results", "Results", [*tables, Points(explanation(comparison))]),
        Section("cells", "By cell", [Charts([_chart(comparison)], wide=True)]),
        Section("functions", "Where the difference is", _explained(story.explanations)),
        provenance_section(background),
        repeat_section(background, {"The table for a commit message": render_costs(comparison, "commit")}),
    ]
    return Page(
        title=story.title,
        place=background.headline(host, "instructions a request, no time"),
        answer=said,
        tone=tone,
        sections=sections,
        notices=[comparison.ruler, *comparison.warnings],
    )


def _explained(explanations: Sequence[str]) -> list[Block]:
    blocks: list[Block] = []
    for text in explanations:
        title, _newline, rest = text.partition("\n")
        blocks.append(Folded(title, [Code(rest.strip("\n"))]))
    return blocks


_NAMES = {
    "CHANGE": ("change", "more (+) or fewer (-) instructions a request"),
    "RESOLUTION": ("resolution", "how far repeats of a count lie apart"),
    "VERDICT": ("verdict", "costlier, cheaper, same (within the margin) or unclear"),
    "NOTE": ("note", None),
}


def _table(comparison: CostComparison, contender: str) -> Table:
    columns, cells = full_columns(comparison, contender), comparison.contenders[contender]
    keys = list(comparison.factors)
    heads = [column.head for column in columns[len(keys) + 2 :]]
    names = [*keys, "baseline", "contender", *(_NAMES[head][0] for head in heads)]
    notes = dict(_NAMES.values())
    headings = [
        Heading(
            column.head, name, notes.get(name), left=column.left or name == keys[0], names_row=name in keys
        )
        for name, column in zip(names, columns, strict=True)
    ]
    rows = [
        [
            Cell(
                column.cells[number],
                _number(cell, name),
                tone=TONES.get(cell.verdict) if name == "verdict" else None,
            )
            for name, column in zip(names, columns, strict=True)
        ]
        for number, cell in enumerate(cells)
    ]
    title = f"{contender} against {comparison.baseline}: instructions a request (fewer is better)"
    number = list(comparison.contenders).index(contender)
    return Table(title, headings, rows, name=f"costs-{number}")


def _pool_table(comparison: CostComparison, contender: str) -> Table:
    columns, keys = pool_columns(comparison, contender), list(comparison.factors)
    names = [*keys, *(column.head for column in columns[len(keys) :])]
    headings = [
        Heading(column.head, name, left=name == keys[0], names_row=name in keys)
        for name, column in zip(names, columns, strict=True)
    ]
    rows = [
        [Cell(column.cells[number]) for column in columns]
        for number in range(len(comparison.contenders[contender]))
    ]
    number = list(comparison.contenders).index(contender)
    return Table(pool_title(comparison, contender), headings, rows, name=f"pool-{number}")


def _number(cell: CellCost, name: str) -> float | None:
    known = {
        "baseline": cell.baseline.per_request,
        "contender": cell.contender.per_request,
        "change": cell.change,
        "resolution": cell.resolution,
    }
    value = known.get(name, math.nan)
    return value if math.isfinite(value) else None


def _chart(comparison: CostComparison) -> Chart:
    """Return instructions a request by cell, a bar a variant."""
    names = [comparison.baseline, *comparison.contenders]
    rows: list[dict[str, Any]] = []
    for number, (contender, cells) in enumerate(comparison.contenders.items()):
        for cell in cells:
            named = dict(zip(comparison.factors, cell.cell, strict=True))
            label = cell_label(named, list(comparison.factors))
            sides = [(contender, cell.contender, percent(cell.change))]
            if number == 0:
                sides.insert(0, (comparison.baseline, cell.baseline, "-"))
            rows += [
                {"cell": label, "variant": name, "value": finite(cost.per_request),
                 "text": instructions(cost.per_request), "change": change, "verdict": cell.verdict}
                for name, cost, change in sides
            ]  # fmt: skip
    cells_shown = len({row["cell"] for row in rows})
    spec = {
        "height": cells_shown * (18 * len(names) + 14),
        "mark": {"type": "bar", "cornerRadiusEnd": 2},
        "encoding": {
            "y": {"field": "cell", "type": "nominal", "sort": None, "title": None, "axis": {"grid": False},
                  "scale": {"paddingInner": 0.25}},
            "yOffset": {"field": "variant", "type": "nominal", "scale": {"domain": names}},
            "x": {"field": "value", "type": "quantitative", "title": "instructions a request",
                  "axis": {"format": "~s", "tickCount": 6}},
            "color": encoding(names)["color"],
            "tooltip": tips(("cell", "cell"), ("variant", "variant"), ("text", "instructions a request"),
                            ("change", f"against {comparison.baseline}"), ("verdict", "verdict")),
        },
    }  # fmt: skip
    told = "; ".join(f"{row['cell']} {row['variant']}: {row['text']}" for row in rows)
    title = "Instructions a request (fewer is better)"
    note = f"Bars of a cell: {', '.join(names)}."
    return Chart(title, f"{title}: {told}", spec, columns_of(rows), note)
