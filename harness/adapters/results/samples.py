"""A run directory as samples: the raw fio JSON is read again, so that old results can be judged again."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.adapters.files import inside, refuse_elsewhere
from harness.adapters.results.record_files import RESTORE
from harness.adapters.results.run_outputs import Numbers, Output, OutputReading, numbers_of
from harness.adapters.results.sample_frame import Session, frame_of
from harness.adapters.results.workers import pool
from harness.adapters.telemetry.files import read_telemetry
from harness.core.agreement import SessionFacts
from harness.core.errors import DamagedError, InputError
from harness.core.fio_output import FioOutputError, metrics, parse_fio
from harness.core.records import BootCause, IterationState, RunState, SessionRecord
from harness.core.telemetry_metrics import TELEMETRY_METRICS, why_missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from harness.adapters.results.store import RunDirectory
    from harness.core.model import FactorValue
    from harness.core.planning import Plan, PlannedSession
    from harness.core.records import IterationRecord


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
    sessions, numbers = _all_at_once(run, plan) or _one_by_one(run, plan)
    gave = [session for session in sessions if session.accepted]
    if not gave:
        raise InputError.single(
            str(run.path), "holds no accepted iteration yet", f"finish it: harness run --resume {run.path}"
        )
    started = sorted(session.began for session in gave)
    frame = frame_of(plan, gave, numbers)
    watched = [telemetry for session in sessions for telemetry in session.telemetry.values()]
    return RunSamples(
        frame=frame,
        order=[(block, variant) for _turn, block, variant, _number in started],
        ran=tuple(number for _turn, _block, _variant, number in started),
        fio_seconds=len(frame) * (plan.runtime + plan.ramp),
        sessions=[fact for session in gave for fact in session.facts],
        warnings=_all_warnings(sessions),
        crashes=[
            (session.planned.variant, entry.factors)
            for session in sessions
            for entry in session.record.iterations
            if entry.state is IterationState.CRASHED
        ],
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


def _all_at_once(run: RunDirectory, plan: Plan) -> tuple[list[Session], Numbers] | None:
    """Read a run whose files are as they were written; None where anything is wrong."""
    expected = sum(len(planned.iterations) for planned in plan.sessions)
    with pool(), contextlib.suppress(InputError):
        # What is still being measured changes again and again.
        keep = run.record.state is not RunState.RUNNING
        reading = OutputReading(run.path, expected, keep=keep)
        sessions = []
        for planned in plan.sessions:
            sessions.append(session := _session(run, planned))
            reading.add(_outputs(run, session))
        for session in sessions:
            session.facts = _facts(run, session)
        numbers = reading.numbers()
        return None if numbers is None else (sessions, numbers)
    return None


def _one_by_one(run: RunDirectory, plan: Plan) -> tuple[list[Session], Numbers]:
    """Read a run session by session, and each output with care.

    Raises:
        InputError: the first thing that is wrong, in the order of the plan.
    """
    sessions: list[Session] = []
    found: list[dict[str, float]] = []
    for planned in plan.sessions:
        session = _session(run, planned)
        found += [_numbers(run, planned, entry) for entry in session.accepted]
        session.facts = _facts(run, session)
        sessions.append(session)
    return sessions, numbers_of(found)


def _session(run: RunDirectory, planned: PlannedSession) -> Session:
    record = run.load_session(planned)
    telemetry, lost = read_telemetry(run, planned, record)
    counted = [entry for entry in record.iterations if entry.state is IterationState.OK]
    if len({entry.number for entry in counted}) < len(counted):
        where = f"{run.path}/sessions/{planned.directory}/session.json"
        raise DamagedError.single(where, "has an iteration that counts twice", RESTORE)
    accepted = [entry for entry in counted if entry.file and entry.sha256]
    return Session(planned, record, telemetry, lost, accepted)


def _facts(run: RunDirectory, session: Session) -> list[SessionFacts]:
    if not session.accepted:
        return []
    return [boot_facts(run, session.planned, session.record, boot) for boot in session.boots]


def boot_facts(run: RunDirectory, planned: PlannedSession, record: SessionRecord, boot: int) -> SessionFacts:
    """Return what one boot of a session ran on."""
    label = planned.directory if boot == 0 else f"{planned.directory} (boot {boot + 1})"
    facts, domain = record.boots[boot].facts, run.read_domain_xml(planned, record, boot)
    return SessionFacts(label, planned.variant, planned.guest, facts, domain)


def _outputs(run: RunDirectory, session: Session) -> list[Output]:
    directory = inside(run.path / "sessions", session.planned.directory)
    for entry in session.accepted:
        refuse_elsewhere(directory, entry.file or "")
    place = str(directory)
    return [Output(f"{place}/{entry.file}", entry.sha256 or "") for entry in session.accepted]


def _numbers(run: RunDirectory, planned: PlannedSession, entry: IterationRecord) -> dict[str, float]:
    """Return what fio's output of an iteration says."""
    output = run.read_output(planned, entry.file or "", entry.sha256 or "")
    where = f"{run.path}/sessions/{planned.directory}/{entry.file}"
    try:
        found = metrics(parse_fio(output))
    except FioOutputError as error:
        raise DamagedError.single(where, error.message, RESTORE) from error
    if not found.get("iops"):
        raise DamagedError.single(where, "says that fio did no I/O, and yet it was accepted", RESTORE)
    return found


def _all_warnings(sessions: Sequence[Session]) -> list[str]:
    found = [sentence for one in sessions for sentence in (*_warnings(one.planned, one.record), *one.lost)]
    repeated = [
        one.planned.directory
        for one in sessions
        if any(boot.cause is BootCause.REPEATED for boot in one.record.boots)
    ]
    replaced = [one.planned.directory for one in sessions if one.record.replaces is not None]
    return found + again_warnings(repeated, replaced)


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
