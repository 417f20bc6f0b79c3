"""The report of pool-growth: does the pool grow without bound, and what became of QEMU?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.analysis.pool import Fate, Growth
from harness.analysis.pool_tables import explanation, judgement_of, pool_columns, render_pool
from harness.report.background import provenance_section, repeat_section
from harness.report.charts import columns_of, encoding, tips
from harness.report.page import Cell, Charts, Heading, Page, Points, Section, Table, Tone
from harness.report.run_charts import limit_layers
from harness.report.vega import Chart, Spec

if TYPE_CHECKING:
    from harness.analysis.pool import PoolVariant
    from harness.analysis.pool_tables import PoolReport
    from harness.report.background import Background


@dataclass(frozen=True)
class PoolStory:
    """Everything the page of a pool-growth run is made from."""

    title: str
    report: PoolReport
    background: Background


def pool_page(story: PoolStory) -> Page:
    """Return the page of a pool-growth run."""
    report, background = story.report, story.background
    host = str((report.environment.get("host") or {}).get("name") or "")
    judged = [sentence for variant in report.variants for sentence in judgement_of(variant)]
    sections = [
        Section("results", "Results", [_table(report), Points(judged)]),
        Section("rounds", "Round by round", [Charts(_charts(report))]),
        Section("meaning", "What a round is", [Points([*explanation(report), *report.footer])]),
        provenance_section(background),
        repeat_section(background, {"The table for a commit message": render_pool(report, "commit")}),
    ]
    return Page(
        title=story.title,
        place=background.headline(host, "coroutines and memory mappings of QEMU, no time"),
        answer=_answer(report),
        tone=_tone(report),
        sections=sections,
        notices=[*(line for line in report.footer if line.startswith("Measured under")), *report.warnings],
    )


def _answer(report: PoolReport) -> str:
    """Return the outcome of every variant in one sentence."""
    return "; ".join(_outcome(variant) for variant in report.variants) + "."


def _outcome(variant: PoolVariant) -> str:
    growth = judgement_of(variant)[0].rstrip(".").partition(":")[0].partition(";")[0]
    fatal = variant.fatal
    if fatal is None:
        last = f" at {variant.rounds[-1].vmas:,} VMAs" if variant.rounds else ""
        return f"{growth} and survived {variant.round} rounds{last}"
    signal = (fatal.death or "").partition(" (")[0]
    seen = f" at {fatal.last_seen.vmas:,} VMAs" if fatal.last_seen else ""
    return f"{growth} and died by {signal} in round {variant.round}{seen}"


def _tone(report: PoolReport) -> Tone:
    contenders = report.variants[1:] or report.variants
    if any(v.fate is Fate.ABORTED or v.growth is Growth.UNBOUNDED for v in contenders):
        return Tone.WORSE
    return Tone.UNCLEAR if any(v.growth is Growth.UNCLEAR for v in contenders) else Tone.BETTER


def _table(report: PoolReport) -> Table:
    columns = pool_columns(report)
    names = ["round"]
    numbers: list[list[int | None]] = [list(range(1, report.rounds + 1))]
    for number, variant in enumerate(report.variants):
        for field in ("coroutines", "vmas"):
            names.append(f"{field}-{number}")
            known = [int(getattr(mappings, field)) for mappings in variant.rounds]
            numbers.append([*known, *[None] * (report.rounds - len(known))])
    headings = [
        Heading(column.head, name, names_row=name == "round")
        for column, name in zip(columns, names, strict=True)
    ]
    cells = [
        [
            Cell(text, value, tone=Tone.WORSE if text == "aborted" else None)
            for text, value in zip(column.cells, values, strict=True)
        ]
        for column, values in zip(columns, numbers, strict=True)
    ]
    caption = "Coroutines and memory mappings (VMAs) of QEMU after each round"
    return Table(caption, headings, [list(row) for row in zip(*cells, strict=True)], name="rounds")


def _charts(report: PoolReport) -> list[Chart]:
    """Return VMAs and coroutines after each round of pool-growth, with the limit and every abort."""
    return [
        _round_chart(report, "vmas", "VMAs of QEMU after each round", "VMAs", report.limit),
        _round_chart(report, "coroutines", "Coroutines of QEMU after each round", "coroutines", None),
    ]


def _round_chart(report: PoolReport, field: str, title: str, what: str, limit: int | None) -> Chart:
    names = [variant.name for variant in report.variants]
    rows: list[dict[str, Any]] = []
    for variant in report.variants:
        for number, mappings in enumerate(variant.rounds, start=1):
            value = getattr(mappings, field)
            rows.append({"round": number, "value": value, "variant": variant.name, "text": f"{value:,}",
                         "death": None})  # fmt: skip
        fatal = variant.fatal
        if fatal is not None:
            value = getattr(fatal.last_seen, field) if fatal.last_seen else limit
            seen = f"aborted, last seen {value:,}" if value else "aborted"
            rows.append({"round": variant.round, "value": value, "variant": variant.name, "text": seen,
                         "death": fatal.death})  # fmt: skip
    channels = encoding(names)
    x = {"field": "round", "type": "quantitative", "title": "round",
         "axis": {"tickMinStep": 1, "format": "d", "grid": False}}  # fmt: skip
    y = {"field": "value", "type": "quantitative", "title": what, "axis": {"format": "~s"}}
    tip = tips(("variant", "variant"), ("round", "round"), ("text", what))
    spec: Spec = {
        "height": 280,
        "layer": [
            {"transform": [{"filter": "datum.value != null"}],
             "mark": {"type": "line", "strokeWidth": 2},
             "encoding": {"x": x, "y": y, "color": channels["color"]}},
            {"transform": [{"filter": "datum.death == null"}],
             "mark": {"type": "point", "size": 60}, "encoding": {"x": x, "y": y, **channels, "tooltip": tip}},
            {"transform": [{"filter": "datum.death != null && datum.value != null"}],
             "mark": {"type": "text", "text": "✖", "fontSize": 20, "fontWeight": "bold"},
             "encoding": {"x": x, "y": y, "color": channels["color"],
                          "tooltip": [*tip, *tips(("death", "died by"))]}},
            *(limit_layers(limit) if limit is not None else []),
        ],
    }  # fmt: skip
    told = "; ".join(f"{row['variant']} round {row['round']}: {row['text']}" for row in rows)
    dead = any(variant.fatal for variant in report.variants)
    return Chart(title, f"{title}: {told}", spec, columns_of(rows), "✖: QEMU died." if dead else "")
