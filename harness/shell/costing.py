"""From a run directory of counts to a comparison of instructions a request."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.adapters.guestless.store import CountDirectory
from harness.analysis.costs import NOT_COUNTED, CellKey, CostComparison, Count, costs_of, judge
from harness.analysis.pool_costs import CALLS, PoolCost, PoolCount, numbers_of, pool_costs
from harness.core.counting.strace import MAPPING_CALLS
from harness.core.errors import InputError
from harness.core.experiment import Experiment, load_experiment
from harness.core.model import Counter, CountLoad
from harness.core.records import IterationState
from harness.core.units import format_duration
from harness.shell.roles import Roles

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.core.counting.planning import PlannedCount
    from harness.core.counting.records import CountRecord
    from harness.core.model import Cell

_WHERE = {
    CountLoad.VIRTIO_BLK: "the thread that serves the disk, for requests of a driver that is no guest",
    CountLoad.QEMU_IMG: "`qemu-img bench`, all threads",
    CountLoad.COROUTINE_POOL: "the thread that serves the bursts, for requests of a driver that is no guest",
}


def compare_counts(path: Path, *, margin: float | None = None, roles: Roles | None = None) -> CostComparison:
    """Compare the variants of one run of counts.

    Args:
        path: the run directory.
        margin: what counts as equal; the experiment's when None.
        roles: which variant is compared with which; the experiment's when None.

    Raises:
        InputError: the directory is damaged, or holds nothing to compare yet.
    """
    run = CountDirectory.open(path)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    counts, warnings = read_counts(run, experiment)
    pool = _pool(run, experiment) if experiment.instructions.load is CountLoad.COROUTINE_POOL else None
    costs = costs_of(counts)
    usable = {variant for (variant, _cell), cost in costs.items() if cost.repeats}
    baseline, chosen = (roles or Roles()).of(experiment, path)
    contenders = [name for name in chosen if name in usable]
    if baseline not in usable or not contenders:
        raise InputError.single(
            str(path),
            f"counts of {', '.join(sorted(usable)) or 'no variant'} are there so far: nothing to compare",
            f"harness run --resume {path}",
        )
    missing = [f"{name} was not counted" for name in chosen if name not in usable]
    keys = [key_of(cell, experiment) for cell in experiment.cells()]
    limit = experiment.instructions.margin if margin is None else margin
    return CostComparison(
        factors=experiment.varied_factors(),
        baseline=baseline,
        contenders={
            name: [
                judge(
                    key, costs.get((baseline, key), NOT_COUNTED), costs.get((name, key), NOT_COUNTED), limit
                )
                for key in keys
            ]
            for name in contenders
        },
        margin=limit,
        ruler=f"Ruler: instructions in user mode, counted by callgrind ({run.record.counted_with}), of "
        f"{_WHERE[experiment.instructions.load]}; no time was measured.",
        warnings=[*missing, *warnings],
        footer=_footer(run, experiment, pool),
        environment={**run.environment, "builds": run.record.builds},
        pool=pool,
    )


def key_of(cell: Cell, experiment: Experiment) -> CellKey:
    """Return a cell's factors in the order of the table's columns."""
    factors = cell.factors()
    return tuple(factors[name] for name in experiment.varied_factors())


def read_counts(run: CountDirectory, experiment: Experiment) -> tuple[list[Count], list[str]]:
    """Return every count that took place, from callgrind's files, and a warning for each that failed.

    Raises:
        InputError: a file is missing, or is not what callgrind wrote.
    """
    counts: list[Count] = []
    warnings: list[str] = []
    for planned in run.plan.counts:
        record = run.load(planned)
        if record is None or (planned.counter is Counter.STRACE and record.state is IterationState.OK):
            continue
        if record.state is IterationState.OK:
            counts.append(_count(run, planned, record, key_of(planned.cell, experiment)))
        else:
            warnings.append(f"count {planned.directory}, {planned.cell.label}: {record.reason}")
    return counts, warnings


def _count(run: CountDirectory, planned: PlannedCount, record: CountRecord, key: CellKey) -> Count:
    counted, threads = 0, dict[str, int]()
    for thread in record.threads:
        total = run.total_of(planned, thread)
        threads[thread.name] = threads.get(thread.name, 0) + total
        counted += total if thread.counted else 0
    return Count(planned.variant, key, planned.requests, planned.repeat, counted, threads)


def _pool(run: CountDirectory, experiment: Experiment) -> dict[tuple[str, CellKey], PoolCost]:
    """Return what misses of the pool cost, by variant and cell."""
    counts: list[PoolCount] = []
    for planned in run.plan.counts:
        record = run.load(planned)
        if record is None or record.state is not IterationState.OK:
            continue
        if record.calls is not None:
            numbers = {CALLS: sum(record.calls.get(name, 0) for name in MAPPING_CALLS)}
        else:
            served = [thread for thread in record.threads if thread.counted]
            numbers = numbers_of(run.profile_of(planned, thread) for thread in served)
        key = key_of(planned.cell, experiment)
        counts.append(PoolCount(planned.variant, key, planned.requests, numbers))
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
    head, settings = run.record, experiment.instructions
    points = sorted({count.requests for count in run.plan.counts})
    ring = f", {settings.ring} ring" + (", indirect descriptors" if settings.indirect else "")
    lines = [
        (
            f"{len(run.plan.counts)} counts of {points[0]} to {points[-1]} requests, "
            f"{settings.repeats} repeats{ring if settings.load is CountLoad.VIRTIO_BLK else ''}, "
            f"wall {format_duration(head.wall_seconds)}; {head.stopped or 'still running'}."
        ),
        *([] if pool is None else _pool_lines(run, pool)),
        *(f"{name}: {head.builds[name]['version']}" for name in experiment.variants),
    ]
    if len({build["sha256"] for build in head.builds.values()}) == 1:
        lines.append("A/A: both variants are the same build.")
    return lines
