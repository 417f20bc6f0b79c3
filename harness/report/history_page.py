"""The history's page: what changed from night to night, a chart a cell, and links to the runs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.analysis.metrics import METRICS
from harness.analysis.tables import percent
from harness.analysis.trend_text import followed_text, level_text, place_title, run_text
from harness.analysis.trends import onsets
from harness.report.page import Cell, Charts, Heading, Page, Points, Section, Table, Text, Tone
from harness.report.vega import Chart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.analysis.trends import Onset, PlaceTrends, Shift, Trend
    from harness.core.history import FiledRun

    Link = Callable[[FiledRun], str | None]

_HEIGHT = 190
_STEP_HEADINGS = (
    Heading("CELL", "cell", left=True, names_row=True),
    Heading("METRIC", "metric", left=True),
    Heading("STEP", "change", note="The new level against the one before (Hodges-Lehmann)"),
    Heading("VERDICT", "verdict", left=True),
    Heading("SINCE", "since", left=True),
    Heading("BEGINS WITH", "build", left=True, note="The build of the first run at the new level"),
    Heading("ALSO CHANGED", "also", left=True, note="What else differs between that run and the last before"),
    Heading("FIRST RUN", "first", left=True, note="The first run at the new level"),
    Heading("LAST BEFORE", "before", left=True, note="The last run at the old level"),
)
_TREND_HEADINGS = (
    Heading("CELL", "cell", left=True, names_row=True),
    Heading("METRIC", "metric", left=True),
    Heading("RUNS", "runs"),
    Heading("AT FIRST", "at_first", note="The median before the first step"),
    Heading("NOW", "now", note="The median since the last step"),
    Heading("STEPS", "steps"),
)


def trends_page(places: Sequence[PlaceTrends], link: Link) -> Page:
    """Return the page.

    Args:
        places: at least one.
        link: what leads from the page to a run: a relative path or a file URL; None where it is gone.
    """
    return Page(
        title="Trends",
        place=", ".join(dict.fromkeys(place_title(place) for place in places)),
        answer=_answer(places),
        tone=_tone(places),
        notices=[_TCG] if any(place.place.accel == "tcg" for place in places) else [],
        sections=[
            section
            for number, place in enumerate(places, start=1)
            for section in _sections(place, number, link)
        ],
    )


_TCG = "Some runs were measured under TCG (emulation): they say nothing of KVM."


def _answer(places: Sequence[PlaceTrends]) -> str:
    """Return the steps that count now, in a sentence: the last one of each trend."""
    trends = [trend for place in places for trend in place.trends]
    last = [(trend, trend.shifts[-1]) for trend in trends if trend.shifts]
    worse = [pair for pair in last if pair[1].worse]
    cells = f"{len(trends)} trend{'s' if len(trends) != 1 else ''}"
    if worse:
        trend, shift = max(worse, key=lambda pair: pair[1].first.started)
        return (
            f"In {len(worse)} of {cells} the last step was for the worse; the newest: {trend.cell} "
            f"{shift.word(trend.metric)} ({trend.metric.label} {percent(shift.step.change)}) "
            f"since {shift.first.started:%Y-%m-%d}."
        )
    if last:
        return f"In {len(last)} of {cells} the last step was for the better; none stands at a worse level."
    return f"No step in {cells}: every level stayed what it was."


def _tone(places: Sequence[PlaceTrends]) -> Tone:
    if any(place.stands_worse for place in places):
        return Tone.WORSE
    stepped = any(trend.shifts for place in places for trend in place.trends)
    return Tone.BETTER if stepped else Tone.SAME


def _sections(place: PlaceTrends, number: int, link: Link) -> list[Section]:
    title = place_title(place)
    steps = onsets(place)
    about = Text(followed_text(place) + ".")
    found: list[Any] = [Text("No step was found.")]
    if steps:
        found = [_step_table(steps, place, link)]
    return [
        Section(f"steps-{number}", f"Steps: {title}", [about, *found]),
        Section(
            f"trends-{number}",
            f"Trends: {title}",
            [
                Charts([_chart(trend) for trend in place.trends]),
                Points(_READING),
                _trend_table(place.trends),
            ],
        ),
        Section(f"runs-{number}", f"Runs: {title}", [_run_table(place, link)]),
    ]


_READING = (
    "A dot is a run; a line is a level, the median from one step to the next; an upright line begins a step.",
    "Noise alone makes less than one step on this page in a year of nights.",
)


def _step_table(steps: Sequence[Onset], place: PlaceTrends, link: Link) -> Table:
    rows = [_step_row(trend, shift, place, link) for onset in steps for trend, shift in onset.shifts]
    return Table("Where the level of a cell changed, the newest first", _STEP_HEADINGS, rows, name="steps")


def _step_row(trend: Trend, shift: Shift, place: PlaceTrends, link: Link) -> list[Cell]:
    tone = Tone.WORSE if shift.worse else Tone.BETTER
    also = "; ".join(f"{what}: {then} -> {now}" for what, then, now in shift.also)
    return [
        Cell(trend.cell),
        Cell(trend.metric.label),
        Cell(percent(shift.step.change), value=shift.step.change, tone=tone),
        Cell(shift.word(trend.metric), tone=tone),
        Cell(f"{shift.first.started:%Y-%m-%d}"),
        Cell(_build(shift.first, place.variant), note=run_text(shift.first, place.variant)),
        Cell(", ".join(what for what, _then, _now in shift.also) or "-", note=also or None),
        Cell(shift.first.run_id, href=link(shift.first)),
        Cell(shift.before.run_id, href=link(shift.before), note=run_text(shift.before, place.variant)),
    ]


def _build(run: FiledRun, variant: str) -> str:
    """Return a build by the one word that finds it again: its commit, or else version and hash."""
    build = run.build(variant)
    if build is None:
        return "-"
    return f"commit {build.commit[:12]}" if build.commit else build.label


def _trend_table(trends: Sequence[Trend]) -> Table:
    rows = [
        [
            Cell(trend.cell),
            Cell(trend.metric.label),
            Cell(str(len(trend.runs)), value=len(trend.runs)),
            Cell(level_text(trend, trend.levels[0]), value=trend.levels[0]),
            Cell(level_text(trend, trend.levels[-1]), value=trend.levels[-1]),
            Cell(str(len(trend.shifts)), value=len(trend.shifts)),
        ]
        for trend in trends
    ]
    return Table("The levels in figures", _TREND_HEADINGS, rows, name="trends")


def _run_table(place: PlaceTrends, link: Link) -> Table:
    headings = [
        Heading("STARTED", "started", left=True),
        Heading("RUN", "run", left=True, names_row=True),
        Heading(f"BUILD OF {place.variant}", "build", left=True),
    ]
    rows = [
        [
            Cell(f"{run.started:%Y-%m-%d %H:%M}"),
            Cell(run.run_id, href=link(run)),
            Cell(build.label if (build := run.build(place.variant)) else "-"),
        ]
        for run in reversed(place.runs)
    ]
    return Table("Every run behind the trends, the newest first", headings, rows, name="runs")


def _chart(trend: Trend) -> Chart:
    metric = trend.metric
    bounds = [0, *(shift.step.first for shift in trend.shifts), len(trend.runs)]
    level = [
        value
        for value, (start, end) in zip(trend.levels, pairwise(bounds), strict=True)
        for _run in range(end - start)
    ]
    begins = {shift.step.first: shift for shift in trend.shifts}
    shown = [_shown(trend, value) for value in trend.values]
    columns: dict[str, list[Any]] = {
        "started": [run.started.isoformat() for run in trend.runs],
        "value": shown,
        "level": [_shown(trend, value) for value in level],
        "era": [sum(bound <= place for bound in bounds[1:-1]) for place in range(len(trend.runs))],
        "step": [_step_tone(begins.get(place)) for place in range(len(trend.runs))],
        "run": [run.run_id for run in trend.runs],
        "build": [build.label if (build := run.build(trend.variant)) else "-" for run in trend.runs],
        "read": [level_text(trend, value) for value in trend.values],
        "what": [
            f"{begins[place].word(metric)}: {percent(begins[place].step.change)}" if place in begins else "no"
            for place in range(len(trend.runs))
        ],
    }
    steps = ", ".join(
        f"{percent(shift.step.change)} on {shift.first.started:%Y-%m-%d}" for shift in trend.shifts
    )
    return Chart(
        title=f"{trend.cell}: {metric.label}" + (" against the baseline" if trend.relative else ""),
        summary=f"{len(trend.runs)} runs, now at {level_text(trend, trend.levels[-1])}; "
        + (f"steps: {steps}." if steps else "no step."),
        spec=_spec(trend),
        columns=columns,
    )


def _shown(trend: Trend, value: float) -> float:
    """Return a value as the axis has it: percent against the baseline, or the metric's shown unit."""
    return (value - 1) * 100 if trend.relative else value / trend.metric.scale


def _step_tone(shift: Shift | None) -> str | None:
    if shift is None:
        return None
    return "worse" if shift.worse else "better"


def _spec(trend: Trend) -> dict[str, Any]:
    unit = METRICS[trend.metric.name].unit
    axis = "change, %" if trend.relative else f"{trend.metric.label}{f', {unit}' if unit else ''}"
    when = {
        "field": "started",
        "type": "temporal",
        "title": None,
        "axis": {"grid": False, "labelOverlap": True},
    }
    height = {"type": "quantitative", "title": axis, "scale": {"zero": False}}
    colour = {
        "field": "step",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": ["worse", "better"], "range": ["var(--worse)", "var(--better)"]},
    }
    tooltip = [
        {"field": "run", "title": "run"},
        {"field": "started", "type": "temporal", "title": "began", "format": "%Y-%m-%d %H:%M"},
        {"field": "read", "title": trend.metric.label},
        {"field": "build", "title": trend.variant[:40]},
        {"field": "what", "title": "step"},
    ]
    stepped = [{"filter": "datum.step !== null"}]
    return {
        "height": _HEIGHT,
        "encoding": {"x": when},
        "layer": [
            {
                "transform": stepped,
                "mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5},
                "encoding": {"color": colour},
            },
            {
                "mark": {"type": "point", "size": 14, "color": "var(--series-2)", "opacity": 0.65},
                "encoding": {"y": {"field": "value", **height}, "tooltip": tooltip},
            },
            {
                "mark": {"type": "line", "strokeWidth": 2.5, "color": "var(--text)"},
                "encoding": {
                    "y": {"field": "level", **height},
                    "detail": {"field": "era", "type": "nominal"},
                },
            },
            {
                "transform": stepped,
                "mark": {"type": "point", "size": 90, "shape": "diamond"},
                "encoding": {"y": {"field": "value", **height}, "color": colour, "tooltip": tooltip},
            },
        ],
    }
