"""A run directory in one object, for ``harness show``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.core.records import IterationState

if TYPE_CHECKING:
    from harness.adapters.count_store import CountDirectory
    from harness.adapters.store import RunDirectory
    from harness.core.counting.planning import PlannedCount
    from harness.core.counting.records import CountRecord
    from harness.core.planning import PlannedSession
    from harness.core.records import SessionRecord


def summarise(run: RunDirectory) -> dict[str, Any]:
    """Return the run's head, its host, and every session that began.

    Raises:
        InputError: a file of it is damaged.
    """
    plan = run.plan
    sessions = [
        _session(planned, record) for planned in plan.sessions if (record := run.load_session(planned)).boots
    ]
    return {
        "run": asdict(run.record),
        "environment": run.environment,
        "planned": plan.iteration_count,
        "accepted": sum(session["accepted"] for session in sessions),
        "sessions": sessions,
    }


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
        "failures": failures,
    }


def summarise_counts(run: CountDirectory) -> dict[str, Any]:
    """Return the head of a run of counts, its host, and every count that took place.

    Raises:
        InputError: a file of it is damaged.
    """
    plan = run.plan
    records = [(planned, record) for planned in plan.counts if (record := run.load(planned))]
    return {
        "run": asdict(run.head),
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
        "failure": record.reason,
    }
