"""The history as text: lists of runs, one run, and the steps of trends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis.layout import Column, clean, layout
from harness.analysis.tables import percent
from harness.analysis.trends import onsets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.analysis.trends import Onset, PlaceTrends, Trend
    from harness.core.history import FiledRun

_NOTHING = "-"


def trend_lines(places: Sequence[PlaceTrends]) -> Iterator[str]:
    """Return what changed, place by place."""
    for number, place in enumerate(places):
        if number:
            yield ""
        yield from _place_lines(place)


def place_title(place: PlaceTrends) -> str:
    """Return what a place's trends are of: experiment, host, accelerator."""
    newest = place.runs[-1]
    where = "" if newest.accel == "none" else f", {newest.accel.upper()}"
    return f"{newest.experiment} on {newest.host_name}{where}"


def followed_text(place: PlaceTrends) -> str:
    """Return which series is followed, and over which runs."""
    first, newest = place.runs[0], place.runs[-1]
    days = f"{first.started:%Y-%m-%d} to {newest.started:%Y-%m-%d}"
    runs = f"{len(place.runs)} run{'s' if len(place.runs) > 1 else ''}, {days}"
    if place.why:
        return f"{runs}; the values of {place.variant} are followed: {place.why}"
    build = newest.build(newest.baseline)
    return (
        f"{runs}; {place.variant} against the pinned {newest.baseline}"
        f"{f' ({build.label})' if build else ''} is followed"
    )


def level_text(trend: Trend, level: float) -> str:
    """Return a level as people read it: a change of the baseline, or a value with its unit."""
    if trend.relative:
        return percent(level - 1)
    unit = f" {trend.metric.unit}" if trend.metric.unit else ""
    return f"{trend.metric.format(level)}{unit}"


def _place_lines(place: PlaceTrends) -> Iterator[str]:
    yield clean(place_title(place))
    yield clean(f"  {followed_text(place)}")
    yield ""
    trends = place.trends
    columns = [
        Column("CELL", [clean(trend.cell) for trend in trends], left=True),
        Column("METRIC", [trend.metric.label for trend in trends], left=True),
        Column("RUNS", [str(len(trend.runs)) for trend in trends]),
        Column("AT FIRST", [level_text(trend, trend.levels[0]) for trend in trends]),
        Column("NOW", [level_text(trend, trend.levels[-1]) for trend in trends]),
        Column("STEPS", [str(len(trend.shifts)) for trend in trends]),
    ]
    yield from (f"  {line}" for line in layout(columns))
    for onset in onsets(place):
        yield ""
        yield from (clean(line) for line in _onset_lines(onset, place))


def _onset_lines(onset: Onset, place: PlaceTrends) -> Iterator[str]:
    yield f"  {onset.first.started:%Y-%m-%d}: {', '.join(shift_texts(onset))}"
    yield f"    begins with {run_text(onset.first, place.variant)}"
    yield f"    last before {run_text(onset.before, place.variant)}"
    for what, then, now in onset.shifts[0][1].also:
        yield f"    also changed: {what}, {then} -> {now}"
    yield f"    harness show {onset.first.path}"


def shift_texts(onset: Onset) -> list[str]:
    """Return a step a cell: ``randread-4k-8 slower (IOPS -6.1%)``."""
    return [
        f"{trend.cell} {shift.word(trend.metric)} ({trend.metric.label} {percent(shift.step.change)})"
        for trend, shift in onset.shifts
    ]


def run_text(run: FiledRun, variant: str) -> str:
    """Return a run and the build that is followed in it."""
    build = run.build(variant)
    return f"{run.run_id}: {variant} {build.label if build else 'not in it'}"
