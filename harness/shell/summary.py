"""A run directory in one object, for ``harness show``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.adapters.results.host_log import read_looks
from harness.adapters.results.samples import boot_facts
from harness.core.agreement import SessionFacts, agreement
from harness.core.errors import NothingMeasuredError
from harness.core.model import Workload
from harness.core.records import BootCause, IterationState
from harness.shell.results import workload_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.adapters.guestless.store import CountDirectory
    from harness.adapters.results.store import RunDirectory
    from harness.core.agreement import Difference
    from harness.core.counting.planning import PlannedCount
    from harness.core.counting.records import CountRecord
    from harness.core.planning import PlannedSession
    from harness.core.records import SessionRecord
    from harness.core.telemetry import TelemetryRecord


def summarise(run: RunDirectory) -> dict[str, Any]:
    """Return the run's head, its host, what its variants differ in, and every session that began.

    Raises:
        InputError: a file of it is damaged.
    """
    plan = run.plan
    began = [(planned, record) for planned in plan.sessions if (record := run.load_session(planned)).boots]
    sessions = [_session(planned, record) for planned, record in began]
    host = read_looks(run.path, run.record.host_log)
    found = agreement([facts for planned, record in began for facts in _facts(run, planned, record)])
    return _pool(run) | {
        "run": asdict(run.present),
        "environment": run.environment,
        "variants": list(plan.variants),
        "agreement": {
            "disagreements": list(found.disagreements),
            "differences": [_difference(entry, plan.variants) for entry in found.differences],
        },
        "drift": host.drift,
        "damaged": host.remarks,
        "tuned": [asdict(change) for change in host.tuned],
        "planned": plan.iteration_count,
        "accepted": sum(session["accepted"] for session in sessions),
        "sessions": sessions,
    }


def _difference(found: Difference, variants: Sequence[str]) -> dict[str, Any]:
    values = {variant: found.values[variant] for variant in variants if variant in found.values}
    return {"what": found.what, "values": values, "why": found.why}


def _facts(run: RunDirectory, planned: PlannedSession, record: SessionRecord) -> Iterator[SessionFacts]:
    """Return what the boots ran on that gave samples; of a session without any, what each boot ran on."""
    for boot in record.telling_boots():
        yield boot_facts(run, planned, record, boot)


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
        "repeated": sum(boot.cause is BootCause.REPEATED for boot in record.boots),
        "replaces": record.replaces,
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


def summarise_counts(run: CountDirectory) -> dict[str, Any]:
    """Return the head of a run of counts, its host, and every count that took place.

    Raises:
        InputError: a file of it is damaged.
    """
    plan = run.plan
    records = [(planned, record) for planned in plan.counts if (record := run.load(planned))]
    return {
        "run": asdict(run.present),
        "environment": run.environment,
        "planned": len(plan.counts),
        "accepted": sum(record.state is IterationState.OK for _planned, record in records),
        "counts": [_count(run, planned, record) for planned, record in records],
    }


def _count(run: CountDirectory, planned: PlannedCount, record: CountRecord) -> dict[str, Any]:
    return {
        "number": planned.number,
        "variant": planned.variant,
        "cell": planned.cell.label,
        "factors": record.factors,
        "requests": record.requests,
        "repeat": record.repeat,
        "seconds": record.seconds,
        "counted": [thread.name for thread in record.threads if thread.counted],
        "threads": {thread.name: run.total_of(planned, thread) for thread in record.threads},
        "calls": record.calls,
        "failure": record.reason,
    }
