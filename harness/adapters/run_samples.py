"""A run directory as samples: the raw fio JSON is read again, so that old results can be judged again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from harness.core.agreement import SessionFacts
from harness.core.errors import InputError
from harness.core.fio_output import metrics, parse_fio
from harness.core.records import IterationState, SessionRecord

if TYPE_CHECKING:
    from harness.adapters.store import RunDirectory
    from harness.core.planning import PlannedSession


@dataclass(frozen=True)
class RunSamples:
    """What a run measured.

    Attributes:
        frame: a row an accepted iteration: ``variant, block, session, iteration``, factors, metrics.
        order: (block, variant) of every session that gave samples, in the order they really ran.
        fio_seconds: time fio measured or ramped, in accepted iterations.
        sessions: what every boot that gave samples ran on.
        warnings: failed iterations and sessions, a sentence each.
    """

    frame: pd.DataFrame
    order: list[tuple[int, str]]
    fio_seconds: float
    sessions: list[SessionFacts]
    warnings: list[str]


def read_samples(run: RunDirectory) -> RunSamples:
    """Read every accepted iteration of a run.

    Raises:
        InputError: a file is missing, or is not what was recorded; names it.
    """
    plan = run.plan
    rows: list[dict[str, object]] = []
    started: list[tuple[str, int, str]] = []
    facts: list[SessionFacts] = []
    warnings: list[str] = []
    for planned in plan.sessions:
        record = run.load_session(planned)
        found = _rows(run, planned, record)
        rows += found
        warnings += _warnings(planned, record)
        if found:
            boots = sorted({entry.boot for entry in record.iterations if entry.state is IterationState.OK})
            # A session that was repeated counts as run when it last was.
            started.append((record.boots[boots[-1]].started, planned.block, planned.variant))
            facts += [boot_facts(run, planned, record, boot) for boot in boots]
    if not rows:
        raise InputError.single(
            str(run.path), "holds no accepted iteration yet", "finish it with harness run --resume"
        )
    return RunSamples(
        frame=pd.DataFrame(rows),
        order=[(block, variant) for _moment, block, variant in sorted(started)],
        fio_seconds=len(rows) * (plan.runtime + plan.ramp),
        sessions=facts,
        warnings=warnings,
    )


def boot_facts(run: RunDirectory, planned: PlannedSession, record: SessionRecord, boot: int) -> SessionFacts:
    """Return what one boot of a session ran on."""
    label = planned.directory if boot == 0 else f"{planned.directory} (boot {boot + 1})"
    facts, domain = record.boots[boot].facts, run.read_domain_xml(planned)
    return SessionFacts(label, planned.variant, planned.guest, facts, domain)


def _rows(run: RunDirectory, planned: PlannedSession, record: SessionRecord) -> list[dict[str, object]]:
    return [
        {
            "variant": planned.variant,
            "block": planned.block,
            "session": planned.number,
            "iteration": entry.repeat,
            **entry.factors,
            **metrics(parse_fio(run.read_output(planned, entry.file, entry.sha256))),
        }
        for entry in record.iterations
        if entry.state is IterationState.OK and entry.file and entry.sha256
    ]


def _warnings(planned: PlannedSession, record: SessionRecord) -> list[str]:
    accepted = record.accepted()
    found = [
        f"session {planned.directory}: {entry.reason}"
        for entry in record.iterations
        if entry.reason and entry.number not in accepted
    ]
    found += [f"session {planned.directory}: {boot.failure}" for boot in record.boots if boot.failure]
    boots = {entry.boot for entry in record.iterations if entry.number in accepted}
    if len(boots) > 1:
        found.append(f"session {planned.directory} was resumed: its cells ran in {len(boots)} boots")
    return found
