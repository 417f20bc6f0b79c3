"""Filed runs as text: a line a run, and everything that is filed of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis.layout import Column, clean, layout
from harness.analysis.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.core.history import FiledNumber, FiledRun

_NOTHING = "-"


def run_table(runs: Sequence[FiledRun]) -> str:
    """Return a line a run; ends with a newline."""
    columns = [
        Column("STARTED", [f"{run.started:%Y-%m-%d %H:%M}" for run in runs], left=True),
        Column("RUN", [clean(run.run_id) for run in runs], left=True),
        Column("HOST", [clean(run.host_name) for run in runs], left=True),
        Column("EXPERIMENT", [clean(run.experiment) for run in runs], left=True),
        Column("ACCEL", [clean(run.accel) for run in runs], left=True),
        Column("BUILDS", [clean(_builds(run)) for run in runs], left=True),
    ]
    return "\n".join(layout(columns)) + "\n"


def _builds(run: FiledRun) -> str:
    return ", ".join(f"{build.variant} {build.label}" for build in run.builds)


def run_lines(run: FiledRun) -> Iterator[str]:
    """Return everything that is filed of a run."""
    yield clean(f"{run.run_id}: {run.experiment} on {run.host_name}, {run.started:%Y-%m-%d %H:%M} UTC")
    yield clean(f"  where     {run.path}")
    yield clean(f"  host      {run.host_name} ({run.host_id}), accelerator {run.accel}")
    yield clean(f"  workload  {run.workload}; comparable: {run.comparable}")
    for build in run.builds:
        role = " (baseline)" if build.variant == run.baseline else ""
        yield clean(f"  {build.variant:<9} {build.label}{role}")
    for name, value in run.conditions.items():
        yield clean(f"  {name}: {value}")
    yield ""
    yield from layout(_number_columns(run))


def _number_columns(run: FiledRun) -> list[Column]:
    from harness.analysis.tables import interval

    numbers = run.numbers
    return [
        Column("CELL", [clean(found.cell) for found in numbers], left=True),
        Column("METRIC", [clean(found.metric) for found in numbers], left=True),
        Column("VARIANT", [clean(found.variant) for found in numbers], left=True),
        Column("VALUE", [_value(found) for found in numbers]),
        Column("SESSIONS", [str(found.sessions) for found in numbers]),
        Column("SPREAD", [_percent(found.spread, sign=False) for found in numbers]),
        Column("CHANGE", [_percent(found.change) for found in numbers]),
        Column(
            "INTERVAL",
            [
                _NOTHING if f.ci_low is None or f.ci_high is None else interval(f.ci_low, f.ci_high)
                for f in numbers
            ],
            left=True,
        ),
        Column("VERDICT", [clean(found.verdict or _NOTHING) for found in numbers], left=True),
    ]


def _value(found: FiledNumber) -> str:
    # A newer harness may have filed what this one does not know the unit of.
    metric = METRICS.get(found.metric)
    return str(found.value) if metric is None else metric.format(found.value)


def _percent(value: float | None, *, sign: bool = True) -> str:
    from harness.analysis.tables import percent

    return _NOTHING if value is None else percent(value, sign=sign)
