"""From a run directory to what the history keeps of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.adapters.guestless.store import CountDirectory
from harness.adapters.results.run_layout import holds_counts
from harness.adapters.results.samples import read_samples
from harness.adapters.results.store import RunDirectory
from harness.analysis.levels import levels
from harness.analysis.ordering import cell_label
from harness.core.errors import InputError
from harness.core.experiment import load_experiment
from harness.core.history import FiledNumber, FiledRun, comparability, filed_build, host_identity
from harness.core.model import TABLE_FACTORS, Workload
from harness.core.records import RunState
from harness.shell.comparing import compare_alone
from harness.shell.costing import compare_counts
from harness.shell.judging import Judgement, NotMeasuredError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.analysis.costs import CellCost, Cost
    from harness.analysis.levels import Level
    from harness.analysis.ordering import CellKey
    from harness.analysis.result import Comparison
    from harness.core.counting.records import CountingRun
    from harness.core.experiment import Experiment
    from harness.core.records import RunRecord

FILED_METRICS = ("iops", "clat_p99_ns", "qemu_cpu_ns_per_io", "vmas", "instructions_per_io", "cycles_per_io")
"""What is filed of a run that measured it; the run directory has the rest."""

COUNTED_METRIC = "instructions_per_io"
NO_GUEST = "none"


def read_run(path: Path) -> FiledRun:
    """Return what the history keeps of a run.

    Raises:
        InputError: it is no run, is damaged, has not finished, or its workload has no table to follow.
    """
    if holds_counts(path):
        return _counted(path)
    run = RunDirectory.open(path)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    if experiment.workload is Workload.POOL_GROWTH:
        raise InputError.single(
            str(path),
            "is a run of pool-growth, which is judged by itself, by its rounds: there is no number to follow",
            f"harness compare {path}",
        )
    record = run.present
    _check_finished(path, record)
    samples = read_samples(run)
    numbers: list[FiledNumber] = []
    for metric in FILED_METRICS:
        with contextlib.suppress(NotMeasuredError):
            found = compare_alone(run, Judgement(metric), samples)
            numbers += _numbers(found, levels(samples.frame, metric, found.key_columns))
    return _filed(
        path,
        experiment,
        record,
        run.environment,
        accel=record.accel,
        content=[
            [entry.number, entry.state, entry.sha256]
            for planned in run.plan.sessions
            for entry in run.load_session(planned).iterations
        ],
        numbers=numbers,
        margin=experiment.protocol.margin,
    )


def _check_finished(path: Path, record: RunRecord | CountingRun) -> None:
    if record.state is RunState.FINISHED:
        return
    if record.state is RunState.RUNNING:
        raise InputError.single(
            str(path), "is still being measured", f"wait for its end: harness show {path}"
        )
    why = f": {record.stopped}" if record.stopped else ""
    raise InputError.single(
        str(path),
        f"has not finished ({record.state}{why}); the history keeps finished runs only",
        f"finish it: harness run --resume {path}",
    )


def _numbers(found: Comparison, measured: Mapping[tuple[str, CellKey], Level]) -> Iterator[FiledNumber]:
    """Return the numbers of one metric: cell by cell, the baseline first."""
    rows = {
        name: {
            tuple(row[column] for column in found.key_columns): row for row in frame.to_dict(orient="records")
        }
        for name, frame in found.frames.items()
    }
    for key in next(iter(rows.values())):
        for variant in (found.baseline, *found.contenders):
            if (level := measured.get((variant, key))) is None:
                continue
            row = rows[variant][key] if variant in rows else {}
            yield FiledNumber(
                cell=cell_label(key, found.factors),
                variant=variant,
                metric=found.metric.name,
                value=level.value,
                sessions=level.sessions,
                spread=level.spread,
                change=_finite(row.get("change")),
                ci_low=_finite(row.get("ci_low")),
                ci_high=_finite(row.get("ci_high")),
                verdict=verdict if isinstance(verdict := row.get("verdict"), str) else None,
            )


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _counted(path: Path) -> FiledRun:
    run = CountDirectory.open(path)
    _check_finished(path, run.record)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    comparison = compare_counts(path)
    further = comparison.factors[len(TABLE_FACTORS) :]
    if TABLE_FACTORS[0] not in comparison.factors:
        further = ()
    numbers = []
    for place, cell in enumerate(next(iter(comparison.contenders.values()))):
        label = cell_label(cell.cell, further)
        numbers += _cost(label, comparison.baseline, cell.baseline, None)
        for name, cells in comparison.contenders.items():
            numbers += _cost(label, name, cells[place].contender, cells[place])
    return _filed(
        path,
        experiment,
        run.record,
        run.environment,
        accel=NO_GUEST,
        content=[
            [
                planned.number,
                record.state,
                [thread.sha256 for thread in record.threads],
                *([record.calls] if record.calls else []),
            ]
            for planned in run.plan.counts
            if (record := run.load(planned)) is not None
        ],
        numbers=numbers,
        margin=experiment.instructions.margin,
    )


def _cost(label: str, variant: str, cost: Cost, judged: CellCost | None) -> list[FiledNumber]:
    if math.isnan(cost.per_request):
        return []
    return [
        FiledNumber(
            cell=label,
            variant=variant,
            metric=COUNTED_METRIC,
            value=cost.per_request,
            sessions=cost.repeats,
            spread=_finite(cost.resolution),
            change=_finite(judged.change) if judged else None,
            verdict=judged.verdict if judged else None,
        )
    ]


def _filed(
    path: Path,
    experiment: Experiment,
    record: RunRecord | CountingRun,
    environment: Mapping[str, Any],
    *,
    accel: str,
    content: list[Any],
    numbers: list[FiledNumber],
    margin: float,
) -> FiledRun:
    host = environment.get("host") or {}
    builds = [filed_build(name, record.builds[name]) for name in experiment.variants if name in record.builds]
    return FiledRun(
        run_id=record.run_id,
        content=_hash([record.run_id, [[build.variant, build.sha256] for build in builds], content]),
        path=str(path.absolute()),
        host_id=host_identity(host),
        host_name=str(host.get("name") or "unknown"),
        experiment=experiment.name,
        comparable=comparability(experiment),
        workload=experiment.workload.value,
        accel=accel,
        started=_moment(path, record.created),
        baseline=experiment.baseline,
        margin=margin,
        harness_version=record.harness_version or __version__,
        conditions=_conditions(host, environment, record),
        builds=tuple(builds),
        numbers=tuple(numbers),
    )


def _conditions(
    host: Mapping[str, Any], environment: Mapping[str, Any], record: RunRecord | CountingRun
) -> dict[str, str]:
    """Return what else may be the cause when a night differs from the one before."""
    image: Mapping[str, Any] = getattr(record, "guest_image", {})
    known = {
        "kernel": host.get("kernel"),
        "kernel command line": host.get("kernel_command_line"),
        "microcode": (host.get("cpu") or {}).get("microcode"),
        "CPUs": (host.get("cpu") or {}).get("count"),
        "libvirt": environment.get("libvirt"),
        "valgrind": environment.get("valgrind"),
        "guest image": str(image.get("sha256") or "")[:12] or None,
        "harness": str(environment.get("harness_commit") or record.harness_version)[:12],
    }
    return {name: str(value) for name, value in known.items() if value is not None}


def _moment(path: Path, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError.single(f"{path}/run.json", f"created: {text!r} is no time", "restore it") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
