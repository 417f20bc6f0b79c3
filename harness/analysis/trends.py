"""Runs in time order to trends: a series a cell, its steps, and what began with each.

The better series is the change against the run's own baseline: both were measured side by side, so a host
that got slower as a whole does not show. It is followed as long as the baseline's binary stays the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from harness.analysis.metrics import find_metric
from harness.analysis.steps import Step, exact_steps, find_steps, risk_a_look
from harness.core.model import Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pandas as pd

    from harness.analysis.metrics import Metric
    from harness.core.history import FiledRun


FOLLOWED = ("iops", "instructions_per_io")
"""What is followed unless somebody asks: whatever the workload, a run has one of them."""

_TIMED = ("iops", "bw", "clat", "lat")


class Follow(StrEnum):
    """What is followed from run to run."""

    AUTO = "auto"
    CHANGE = "change"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Place:
    """What makes runs comparable: trends never cross it."""

    host_id: str
    experiment: str
    comparable: str
    accel: str

    @classmethod
    def of(cls, run: FiledRun) -> Place:
        """Return a run's place."""
        return cls(run.host_id, run.experiment, run.comparable, run.accel)


@dataclass(frozen=True, slots=True)
class Shift:
    """A step, and what began with it.

    Attributes:
        first: the first run at the new level; its build is the one to look at.
        before: the last run at the old level.
        worse: whether the metric got worse.
        also: what else changed between the two: (condition, before, after).
    """

    step: Step
    first: FiledRun
    before: FiledRun
    worse: bool
    also: tuple[tuple[str, str, str], ...]

    def word(self, metric: Metric) -> str:
        """Return what a verdict would call it."""
        words = ("slower", "faster") if metric.name.startswith(_TIMED) else ("costlier", "cheaper")
        return words[0] if self.worse else words[1]


@dataclass(frozen=True, slots=True)
class Trend:
    """One cell of one variant and metric over time.

    Attributes:
        runs: those that measured it, the oldest first.
        values: one a run: in the metric's unit, or contender / baseline.
        relative: whether values are contender / baseline.
        levels: the median from each step to the next; one more than there are shifts.
    """

    cell: str
    metric: Metric
    variant: str
    relative: bool
    runs: Sequence[FiledRun]
    values: Sequence[float]
    shifts: Sequence[Shift]
    levels: Sequence[float]

    @property
    def since_the_first(self) -> float:
        """The level now against the first one, as a fraction."""
        return self.levels[-1] / self.levels[0] - 1


@dataclass(frozen=True, slots=True)
class PlaceTrends:
    """All trends of one place.

    Attributes:
        runs: of this place, the oldest first.
        why: why a value, not the change against the baseline, is followed; None when it is the change.
    """

    place: Place
    variant: str
    runs: Sequence[FiledRun]
    trends: Sequence[Trend]
    why: str | None

    @property
    def stands_worse(self) -> bool:
        """Whether the last step of any trend was for the worse."""
        return any(trend.shifts and trend.shifts[-1].worse for trend in self.trends)


@dataclass(frozen=True, slots=True)
class Question:
    """How to follow.

    Attributes:
        metrics: names in `METRICS`.
        variant: which one to follow; the first contender of the newest run when None.
        margin: a smaller step does not matter; the newest run's when None.
    """

    metrics: tuple[str, ...] = FOLLOWED
    variant: str | None = None
    follow: Follow = Follow.AUTO
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class _Series:
    cell: str
    metric: str
    runs: list[FiledRun]
    numbers: list[float]


@dataclass(frozen=True, slots=True)
class _Followed:
    runs: Sequence[FiledRun]
    variant: str
    why: str | None
    series: Sequence[_Series]


def follow(runs: Sequence[FiledRun], numbers: pd.DataFrame, question: Question) -> list[PlaceTrends]:
    """Return the trends of every place, in the order in which places were first filed.

    The risk of a false alarm is shared by all series of the answer: the more are looked at, the surer a step
    has to be.

    Args:
        runs: the oldest first.
        numbers: a row a number: ``run`` (its place in the list), ``cell, variant, metric, value, change``.
        question: how to follow.
    """
    places: dict[Place, list[int]] = {}
    for number, run in enumerate(runs):
        places.setdefault(Place.of(run), []).append(number)
    wanted = numbers[numbers["metric"].isin(question.metrics)]
    of_run = dict(iter(wanted.groupby("run", sort=False)))
    followed = {
        place: _followed(runs, [of_run[n] for n in own if n in of_run], [runs[n] for n in own], question)
        for place, own in places.items()
    }
    risk = risk_a_look(sum(len(found.series) for found in followed.values()))
    return [
        PlaceTrends(
            place,
            found.variant,
            found.runs,
            tuple(_trend(series, found, question, risk) for series in found.series),
            found.why,
        )
        for place, found in followed.items()
    ]


def _followed(
    every: Sequence[FiledRun], tables: Sequence[pd.DataFrame], own: Sequence[FiledRun], question: Question
) -> _Followed:
    newest = own[-1]
    contenders = [build.variant for build in newest.builds if build.variant != newest.baseline]
    variant = question.variant or next(iter(contenders), newest.baseline)
    why = _why_values(own, variant, question.follow)
    series: dict[tuple[str, str], _Series] = {}
    for table in tables:
        rows = table[table["variant"] == variant]
        for number, cell, metric, value in _points(rows, relative=why is None):
            one = series.setdefault((cell, metric), _Series(cell, metric, [], []))
            one.runs.append(every[number])
            one.numbers.append(value)
    return _Followed(own, variant, why, list(series.values()))


def _points(rows: pd.DataFrame, *, relative: bool) -> Iterator[tuple[int, str, str, float]]:
    """Return place of the run, cell, metric and value of every number that there is."""
    values = 1 + rows["change"].astype(float) if relative else rows["value"].astype(float)
    columns = (rows[name].tolist() for name in ("run", "cell", "metric"))
    for number, cell, metric, value in zip(*columns, values.tolist(), strict=True):
        if math.isfinite(value) and value > 0:
            yield int(number), str(cell), str(metric), value


def _why_values(runs: Sequence[FiledRun], variant: str, wish: Follow) -> str | None:
    """Return why the change against the baseline is not followed; None when it is."""
    if wish is Follow.CHANGE:
        return None
    if wish is Follow.VALUE:
        return "as asked for"
    if variant == runs[-1].baseline:
        return "the baseline itself is followed"
    pinned = {build.sha256 for run in runs if (build := run.build(run.baseline)) is not None}
    return None if len(pinned) == 1 else f"the baseline is not pinned: {len(pinned)} builds were it"


def _trend(series: _Series, found: _Followed, question: Question, risk: float) -> Trend:
    newest = series.runs[-1]
    least = newest.margin if question.margin is None else question.margin
    if newest.workload == Workload.INSTRUCTIONS:
        steps = exact_steps(series.numbers, least=least)
    else:
        steps = find_steps(series.numbers, risk=risk, least=least)
    metric = find_metric(series.metric)
    bounds = [0, *(step.first for step in steps), len(series.numbers)]
    return Trend(
        cell=series.cell,
        metric=metric,
        variant=found.variant,
        relative=found.why is None,
        runs=tuple(series.runs),
        values=tuple(series.numbers),
        shifts=tuple(_shift(series, step, metric) for step in steps),
        levels=tuple(median(series.numbers[start:end]) for start, end in pairwise(bounds)),
    )


def _shift(series: _Series, step: Step, metric: Metric) -> Shift:
    first, before = series.runs[step.first], series.runs[step.first - 1]
    worse = (step.change < 0) == metric.higher_is_better
    return Shift(step, first, before, worse, tuple(_also(before, first)))


def _also(before: FiledRun, first: FiledRun) -> Iterable[tuple[str, str, str]]:
    """Return what else changed: the step may not be the build's doing."""
    for name in dict.fromkeys([*before.conditions, *first.conditions]):
        then, now = (run.conditions.get(name, "not known") for run in (before, first))
        if then != now:
            yield name, then, now


@dataclass(frozen=True, slots=True)
class Onset:
    """Everything that began with one run.

    Attributes:
        shifts: the trends that changed, each with its step.
    """

    first: FiledRun
    before: FiledRun
    shifts: Sequence[tuple[Trend, Shift]]


def onsets(place: PlaceTrends) -> list[Onset]:
    """Return the steps of a place by the run they begin with, the newest first."""
    found: dict[str, list[tuple[Trend, Shift]]] = {}
    for trend in place.trends:
        for shift in trend.shifts:
            found.setdefault(shift.first.run_id, []).append((trend, shift))
    groups = [Onset(pairs[0][1].first, pairs[0][1].before, tuple(pairs)) for pairs in found.values()]
    return sorted(groups, key=lambda onset: onset.first.started, reverse=True)
