"""From a run directory of pool-growth to what its rounds say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.results.samples import again_warnings, boot_facts
from harness.adapters.results.store import RunDirectory
from harness.analysis.pool import PoolSession, judge_pool
from harness.analysis.pool_tables import PoolReport
from harness.core.agreement import disagreements
from harness.core.errors import NothingMeasuredError
from harness.core.experiment import load_experiment
from harness.core.records import IterationState, SessionState
from harness.core.units import format_duration
from harness.shell.comparing import build_lines, drift_warnings

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.experiment import Experiment
    from harness.core.records import RunRecord, SessionRecord


def pool_report(path: Path) -> PoolReport:
    """Return what the rounds of a run say of each variant.

    Raises:
        InputError: it is no run of pool-growth, is damaged, or holds no round yet.
    """
    run = RunDirectory.open(path)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    limit, sessions = max_map_count(run), _sessions(run)
    if not sessions:
        raise NothingMeasuredError.single(str(path), "holds no round yet", f"harness run --resume {path}")
    in_flight = experiment.pool.in_flight
    found = tuple(
        judge_pool(name, sessions[name], in_flight=in_flight, limit=limit)
        for name in experiment.variants
        if name in sessions
    )
    warnings = [f"{name} has no round yet" for name in experiment.variants if name not in sessions]
    return PoolReport(
        variants=found,
        in_flight=in_flight,
        limit=limit,
        warnings=(*warnings, *_differences(run), *drift_warnings(run), *_failures(run)),
        footer=tuple(_footer(experiment, run.record, sum(len(s) for s in sessions.values()))),
        environment={**run.environment, "builds": run.record.builds, "accel": run.record.accel},
    )


def max_map_count(run: RunDirectory) -> int | None:
    """Return the limit of mappings that a run was under; None when it was not recorded."""
    if run.record.max_map_count is not None:
        return run.record.max_map_count
    value = run.environment.get("host", {}).get("sysctl", {}).get("vm.max_map_count")
    return int(value) if str(value).isdecimal() else None


def _sessions(run: RunDirectory) -> dict[str, list[PoolSession]]:
    found: dict[str, list[PoolSession]] = {}
    for planned in run.plan.sessions:
        record = run.load_session(planned)
        if (session := _session(record)) is not None:
            found.setdefault(planned.variant, []).append(session)
    return found


def _session(record: SessionRecord) -> PoolSession | None:
    """Return a session's rounds in its last boot: a pool that was hoarded ended with its process."""
    boot = len(record.boots) - 1
    rounds = tuple(
        entry.mappings
        for entry in record.iterations
        if entry.boot == boot and entry.state is IterationState.OK and entry.mappings is not None
    )
    crash = record.boots[-1].crash if record.boots and record.state is SessionState.CRASHED else None
    if crash is None:
        return PoolSession(rounds) if rounds else None
    return PoolSession(rounds, crash.cause, crash.message, crash.mappings)


def _footer(experiment: Experiment, record: RunRecord, sessions: int) -> list[str]:
    wall, stopped = format_duration(record.wall_seconds), record.stopped or "still running"
    lines = [f"{sessions} sessions, wall {wall}; {stopped}.", *build_lines(experiment, record)]
    if experiment.pool.guestless:
        return [*lines, "No guest: a driver outside asked QEMU's virtio-blk devices for the I/O (qtest)."]
    if record.accel == "tcg":
        lines.append(
            "Measured under TCG (emulation): rounds take longer than under KVM; the pool is the same."
        )
    return lines


def _differences(run: RunDirectory) -> list[str]:
    """Return what differs between sessions beside the build: then it may not be the build's doing."""
    began = [
        (planned, record) for planned in run.plan.sessions if (record := run.load_session(planned)).boots
    ]
    facts = [boot_facts(run, planned, record, len(record.boots) - 1) for planned, record in began]
    return [f"the sessions differ in more than the build: {found}" for found in disagreements(facts)]


def _failures(run: RunDirectory) -> list[str]:
    found = []
    for planned in run.plan.sessions:
        record = run.load_session(planned)
        # A QEMU that died is in the table; any other end of a boot is something to know.
        found += [
            f"session {planned.directory}, boot {number}: {boot.failure.splitlines()[0]}"
            for number, boot in enumerate(record.boots, start=1)
            if boot.failure and boot.crash is None
        ]
        found += [
            f"session {planned.directory}, round {entry.repeat + 1}: {entry.reason}"
            for entry in record.iterations
            if entry.state is IterationState.FAILED
        ]
        found += again_warnings([], [planned.directory]) if record.replaces else []
    return found
