"""A run directory as samples: the raw fio JSON is read again, so that old results can be judged again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from harness.adapters.results.record_files import RESTORE
from harness.adapters.telemetry.files import read_telemetry
from harness.core.agreement import SessionFacts
from harness.core.errors import DamagedError, InputError
from harness.core.fio_output import FioOutputError, metrics, parse_fio
from harness.core.records import BootCause, IterationState, SessionRecord
from harness.core.telemetry_metrics import TELEMETRY_METRICS, measured, why_missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.adapters.results.store import RunDirectory
    from harness.core.model import FactorValue
    from harness.core.planning import Plan, PlannedSession
    from harness.core.records import IterationRecord
    from harness.core.telemetry import Telemetry

    _ByBoot = Mapping[int, Telemetry]


@dataclass(frozen=True)
class RunSamples:
    """What a run measured.

    Attributes:
        frame: a row an accepted iteration: ``variant, block, session, iteration``, factors, metrics.
        order: (block, variant) of every session that gave samples, in the order they really ran.
        ran: the numbers of these sessions, in that order.
        fio_seconds: time fio measured or ramped, in accepted iterations.
        sessions: what every boot that gave samples ran on.
        warnings: failed iterations and sessions, and lost telemetry, a sentence each.
        crashes: the variant and the factors of every iteration in which QEMU died.
        unmeasured: why a metric that telemetry gives is in no row; a metric -> a reason.
    """

    frame: pd.DataFrame
    order: list[tuple[int, str]]
    fio_seconds: float
    sessions: list[SessionFacts]
    warnings: list[str]
    crashes: list[tuple[str, dict[str, FactorValue]]]
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    ran: tuple[int, ...] = ()


def read_samples(run: RunDirectory) -> RunSamples:
    """Read every accepted iteration of a run.

    Raises:
        InputError: a file is missing, or is not what was recorded; names it.
    """
    plan = run.plan
    rows: list[dict[str, object]] = []
    started: list[tuple[tuple[bool, int, str], int, str, int]] = []
    facts: list[SessionFacts] = []
    warnings: list[str] = []
    crashes: list[tuple[str, dict[str, FactorValue]]] = []
    watched: list[Telemetry] = []
    repeated: list[str] = []
    replaced: list[str] = []
    for planned in plan.sessions:
        record = run.load_session(planned)
        telemetry, lost = read_telemetry(run, planned, record)
        found = _rows(run, plan, planned, record, telemetry)
        rows += found
        watched += telemetry.values()
        warnings += [*_warnings(planned, record), *lost]
        repeated += [planned.directory] * any(boot.cause is BootCause.REPEATED for boot in record.boots)
        replaced += [planned.directory] * (record.replaces is not None)
        crashes += [
            (planned.variant, entry.factors)
            for entry in record.iterations
            if entry.state is IterationState.CRASHED
        ]
        if found:
            boots = record.telling_boots()
            # A session that was repeated counts as run when it last was.
            started.append((record.boots[boots[-1]].turn, planned.block, planned.variant, planned.number))
            facts += [boot_facts(run, planned, record, boot) for boot in boots]
    if not rows:
        raise InputError.single(
            str(run.path), "holds no accepted iteration yet", f"finish it: harness run --resume {run.path}"
        )
    warnings += again_warnings(repeated, replaced)
    frame = pd.DataFrame(rows)
    return RunSamples(
        frame=frame,
        order=[(block, variant) for _turn, block, variant, _number in sorted(started)],
        ran=tuple(number for _turn, _block, _variant, number in sorted(started)),
        fio_seconds=len(rows) * (plan.runtime + plan.ramp),
        sessions=facts,
        warnings=warnings,
        crashes=crashes,
        unmeasured={
            name: why_missing(name, watched) for name in TELEMETRY_METRICS if name not in frame.columns
        },
    )


def again_warnings(repeated: list[str], replaced: list[str]) -> list[str]:
    """Return a warning for sessions that were measured more than once.

    Args:
        repeated: the directories of those that the host failed.
        replaced: of those that were lost or damaged afterwards.
    """
    found = []
    if repeated:
        who, them = (
            ("1 session was", "it") if len(repeated) == 1 else (f"{len(repeated)} sessions were", "them")
        )
        found.append(f"{who} repeated, after the host had failed {them}: {', '.join(repeated)}")
    if replaced:
        who, had = (
            ("1 session was", "it had")
            if len(replaced) == 1
            else (f"{len(replaced)} sessions were", "they had")
        )
        found.append(
            f"{who} measured again, since what {had} given was lost or damaged: {', '.join(replaced)}"
        )
    return found


def boot_facts(run: RunDirectory, planned: PlannedSession, record: SessionRecord, boot: int) -> SessionFacts:
    """Return what one boot of a session ran on."""
    label = planned.directory if boot == 0 else f"{planned.directory} (boot {boot + 1})"
    facts, domain = record.boots[boot].facts, run.read_domain_xml(planned, record, boot)
    return SessionFacts(label, planned.variant, planned.guest, facts, domain)


def _rows(
    run: RunDirectory, plan: Plan, planned: PlannedSession, record: SessionRecord, telemetry: _ByBoot
) -> list[dict[str, object]]:
    numbers = [entry.number for entry in record.iterations if entry.state is IterationState.OK]
    if len(set(numbers)) < len(numbers):
        where = f"{run.path}/sessions/{planned.directory}/session.json"
        raise DamagedError.single(where, "has an iteration that counts twice", RESTORE)
    return [
        {
            "variant": planned.variant,
            "block": planned.block,
            "session": planned.number,
            "iteration": entry.repeat,
            **entry.factors,
            **_numbers(run, plan, planned, entry, telemetry),
        }
        for entry in record.iterations
        if entry.state is IterationState.OK and entry.file and entry.sha256
    ]


def _numbers(
    run: RunDirectory, plan: Plan, planned: PlannedSession, entry: IterationRecord, telemetry: _ByBoot
) -> dict[str, float]:
    """Return every metric of an iteration: those of fio's output, and those of its boot's telemetry."""
    output = run.read_output(planned, entry.file or "", entry.sha256 or "")
    where = f"{run.path}/sessions/{planned.directory}/{entry.file}"
    try:
        found = metrics(parse_fio(output))
    except FioOutputError as error:
        raise DamagedError.single(where, error.message, RESTORE) from error
    if not found.get("iops"):
        raise DamagedError.single(where, "says that fio did no I/O, and yet it was accepted", RESTORE)
    if watched := telemetry.get(entry.boot):
        found |= measured(watched, entry.number, iops=found["iops"], ramp=plan.ramp, runtime=plan.runtime)
    return found


def _warnings(planned: PlannedSession, record: SessionRecord) -> list[str]:
    accepted = record.accepted()
    found = [
        f"session {planned.directory}: {entry.reason}"
        for entry in record.iterations
        if entry.state is IterationState.FAILED and entry.number not in accepted
    ]
    # The first line says what happened; the console's tail behind it is for who looks at the session.
    found += [
        f"session {planned.directory}: {boot.failure.splitlines()[0].removesuffix('; its console ends:')}"
        for boot in record.boots
        if boot.failure
    ]
    boots = {entry.boot for entry in record.iterations if entry.number in accepted}
    if len(boots) > 1:
        how = "repeated" if BootCause.REPEATED in {record.boots[boot].cause for boot in boots} else "resumed"
        found.append(f"session {planned.directory} was {how}: its cells ran in {len(boots)} boots")
    return found
