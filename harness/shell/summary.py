"""A run directory in one object, for ``harness show``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.core.errors import NothingMeasuredError
from harness.core.model import Workload
from harness.shell.results import workload_of

if TYPE_CHECKING:
    from harness.adapters.store import RunDirectory
    from harness.core.planning import PlannedSession
    from harness.core.records import SessionRecord
    from harness.core.telemetry import TelemetryRecord


def summarise(run: RunDirectory) -> dict[str, Any]:
    """Return the run's head, its host, and every session that began.

    Raises:
        InputError: a file of it is damaged.
    """
    plan = run.plan
    sessions = [
        _session(planned, record) for planned in plan.sessions if (record := run.load_session(planned)).boots
    ]
    return _pool(run) | {
        "run": asdict(run.present),
        "environment": run.environment,
        "planned": plan.iteration_count,
        "accepted": sum(session["accepted"] for session in sessions),
        "sessions": sessions,
    }


def _pool(run: RunDirectory) -> dict[str, Any]:
    """Return ``pool`` with each variant's rounds, growth and outcome, for a run of pool-growth."""
    if workload_of(run.path) is not Workload.POOL_GROWTH:
        return {}
    from harness.analysis.pool_tables import pool_records
    from harness.shell.pool_report import pool_report

    try:
        report = pool_report(run.path)
    except NothingMeasuredError:
        return {"pool": {}}
    return {"pool": pool_records(report.variants, in_flight=report.in_flight)}


def _session(planned: PlannedSession, record: SessionRecord) -> dict[str, Any]:
    accepted = record.accepted()
    failures = [boot.failure for boot in record.boots if boot.failure]
    failures += [f"{entry.factors}: {entry.reason}" for entry in record.iterations if entry.reason]
    return {
        "number": planned.number,
        "block": planned.block,
        "variant": planned.variant,
        "guest": dict(planned.guest),
        "state": record.state,
        "boots": len(record.boots),
        "ready_seconds": record.boots[-1].ready_seconds,
        "planned": len(planned.iterations),
        "accepted": len(accepted),
        "facts": record.boots[-1].facts,
        "telemetry": _telemetry(record.boots[-1].telemetry),
        "failures": failures,
    }


def _telemetry(kept: TelemetryRecord | None) -> dict[str, Any] | None:
    """Return what the last boot's telemetry says, with the share of one core that reading it took."""
    return None if kept is None else {**asdict(kept), "share": kept.share}
