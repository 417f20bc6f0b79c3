"""From a run directory of counts to a comparison of instructions a request."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.analysis.build_trend import FEWEST, INSTRUCTIONS, BuildTrend, trend_of_costs
from harness.analysis.costs import NOT_COUNTED, CellKey, CostComparison, judge
from harness.analysis.pool_costs import CALLS, PoolCost, PoolCount, numbers_of, pool_costs
from harness.core.counting.strace import MAPPING_CALLS
from harness.core.errors import InputError
from harness.core.model import CountLoad
from harness.core.units import format_duration
from harness.shell.counted import profiles_of, read_counted
from harness.shell.results import is_aa
from harness.shell.roles import Roles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.adapters.guestless.store import CountDirectory
    from harness.core.experiment import Experiment
    from harness.shell.counted import Counted


def compare_counts(path: Path, *, margin: float | None = None, roles: Roles | None = None) -> CostComparison:
    """Compare the variants of one run of counts; otherwise as `compare_counted`."""
    return compare_counted(read_counted(path), margin=margin, roles=roles)


def compare_counted(
    counted: Counted, *, margin: float | None = None, roles: Roles | None = None
) -> CostComparison:
    """Compare the variants of one run of counts.

    Args:
        counted: what it gave.
        margin: what counts as equal; the experiment's when None.
        roles: which variant is compared with which; the experiment's when None.

    Raises:
        InputError: a file is damaged, or there is nothing to compare yet.
    """
    run, experiment, costs = counted.run, counted.experiment, counted.costs
    pool = _pool(counted) if experiment.instructions.load is CountLoad.COROUTINE_POOL else None
    baseline, chosen = (roles or Roles()).of(experiment, run.path)
    contenders = [name for name in chosen if name in counted.usable]
    counted.require(baseline, contenders)
    limit = experiment.instructions.margin if margin is None else margin
    return CostComparison(
        factors=experiment.varied_factors(),
        baseline=baseline,
        contenders={
            name: [
                judge(
                    key, costs.get((baseline, key), NOT_COUNTED), costs.get((name, key), NOT_COUNTED), limit
                )
                for key in counted.keys
            ]
            for name in contenders
        },
        margin=limit,
        ruler=counted.ruler,
        warnings=[*counted.missing(chosen), *counted.warnings],
        footer=_footer(run, experiment, pool),
        environment={**run.environment, "builds": run.record.builds},
        pool=pool,
    )


def trend_of_counts(
    counted: Counted, *, margin: float | None = None, baseline: str | None = None
) -> BuildTrend:
    """Return the builds of one run of counts as a trend, in the experiment file's order.

    Args:
        counted: what it gave.
        margin: what counts as equal; the experiment's when None.
        baseline: the build that all are held against; the experiment's when None.

    Raises:
        InputError: as `compare_counted`, or fewer than three builds were counted.
    """
    run, experiment = counted.run, counted.experiment
    against, _others = Roles(baseline).of(experiment, run.path)
    builds = [name for name in experiment.builds if name in counted.usable]
    counted.require(against, [name for name in builds if name != against])
    require_trend(builds, run.path)
    limit = experiment.instructions.margin if margin is None else margin
    return BuildTrend(
        metric=INSTRUCTIONS,
        factors=experiment.varied_factors(),
        builds=tuple(builds),
        baseline=against,
        margin=limit,
        cells=trend_of_costs(counted.costs, builds, counted.keys, baseline=against, margin=limit),
        counted=True,
        warnings=[*counted.missing(experiment.builds), *counted.warnings],
        footer=[counted.ruler, *_footer(run, experiment, None)],
        environment={**run.environment, "builds": run.record.builds},
    )


def require_trend(builds: Sequence[str], path: Path) -> None:
    """Refuse to call two builds a trend.

    Raises:
        InputError: there are fewer than three.
    """
    if len(builds) < FEWEST:
        raise InputError.single(
            str(path),
            f"has numbers of {' and '.join(builds)} only: a trend takes {FEWEST} builds",
            f"harness compare {path}",
        )


def _pool(counted: Counted) -> dict[tuple[str, CellKey], PoolCost]:
    """Return what misses of the pool cost, by variant and cell."""
    counts: list[PoolCount] = []
    for one in counted.accepted:
        calls = one.record.calls
        if calls is not None:
            numbers = {CALLS: sum(calls.get(name, 0) for name in MAPPING_CALLS)}
        else:
            numbers = numbers_of(profiles_of(counted.run, one))
        counts.append(PoolCount(one.planned.variant, one.key, one.planned.requests, numbers))
    return pool_costs(counts)


def _pool_lines(run: CountDirectory, costs: Mapping[tuple[str, CellKey], PoolCost]) -> list[str]:
    """Return why columns of the pool's table are missing, and who counted system calls."""
    lines = []
    if strace := run.environment.get("strace"):
        lines.append(f"System calls were counted by {strace}.")
    else:
        lines.append(
            "System calls were not counted: strace is not installed (harness provision installs it)."
        )
    blind = sorted({name for (name, _cell), cost in costs.items() if math.isnan(cost.misses)})
    if blind:
        lines.append(
            f"No misses are counted of {', '.join(blind)}: no symbol says where coroutines are made."
        )
    return lines


def _footer(
    run: CountDirectory, experiment: Experiment, pool: Mapping[tuple[str, CellKey], PoolCost] | None
) -> list[str]:
    head, plan, settings = run.record, run.plan, experiment.instructions
    points = sorted({count.requests for count in plan.counts})
    ring = f", {settings.ring} ring" + (", indirect descriptors" if settings.indirect else "")
    lines = [
        (
            f"{len(plan.counts)} counts of {points[0]} to {points[-1]} requests, "
            f"{settings.repeats} repeats{ring if settings.load is CountLoad.VIRTIO_BLK else ''}, "
            f"wall {format_duration(head.wall_seconds)}; {head.stopped or 'still running'}."
        ),
        *([] if pool is None else _pool_lines(run, pool)),
        *(f"{name}: {head.builds[name]['version']}" for name in plan.variants),
    ]
    if is_aa(head.builds):
        lines.append("A/A: both variants are the same build.")
    return lines
