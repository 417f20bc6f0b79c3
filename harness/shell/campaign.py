"""The campaign: executes a plan against protocols, and survives what goes wrong on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.adapters.files import printable_lines
from harness.core.errors import GuestDiedError, GuestError, HarnessError, Interrupted
from harness.core.experiment.protocol import Protocol
from harness.core.records import (
    BootCause,
    BootRecord,
    IterationRecord,
    IterationState,
    RunState,
    SessionRecord,
    SessionState,
)
from harness.shell.accepting import fio_judge
from harness.shell.events import (
    Event,
    IterationDone,
    RunEnded,
    RunStarted,
    SessionCrashed,
    SessionFailed,
    SessionReady,
    SessionStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from harness.core.planning import Plan, PlannedIteration, PlannedSession
    from harness.core.protocols import Clock, Execution, GuestSession, Lab, StopSignal, Store
    from harness.shell.accepting import Judge


@dataclass(slots=True)
class Outcome:
    """How a campaign ended.

    Attributes:
        state: as recorded in the run directory.
        stopped: why, in plain words.
        failures: what went wrong, one line each.
    """

    state: RunState
    stopped: str
    failures: list[str] = field(default_factory=list)


class Campaign:
    """Runs what is missing of a plan.

    Args:
        plan: what to run.
        store: where it is kept; what it holds already is not run again.
        lab: where guests are booted.
        clock: time.
        stop: the user's wish to end.
        emit: told what happens.
        enough: asked after every pair of blocks and at the end, with the number of whole blocks; returns why
            the run can end now, or None. It may read interval widths, never a sign or a p-value.
        judge: says why an iteration's output does not count; None when it does.
        rounds: whether a session is one piece, its iterations rounds that build on one another
            (pool-growth). One that was interrupted begins anew; and a QEMU that dies is a result, which
            completes the session. It is tried again only if its guest was never up.
        protocol: says how often a session is tried again that failed for a reason of the host, and after
            how many sessions of a variant in a row that gave nothing the run ends.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        store: Store,
        lab: Lab,
        clock: Clock,
        stop: StopSignal,
        emit: Callable[[Event], None],
        enough: Callable[[int], str | None] = lambda _blocks: None,
        judge: Judge = fio_judge,
        rounds: bool = False,
        protocol: Protocol | None = None,
    ) -> None:
        self._plan = plan
        self._store = store
        self._lab = lab
        self._clock = clock
        self._stop = stop
        self._emit = emit
        self._enough = enough
        self._judge_output = judge
        self._rounds = rounds
        self._protocol = protocol or Protocol()
        self._failures: list[str] = []
        self._fruitless: Counter[str] = Counter()
        self._boots = 0

    def run(self) -> Outcome:
        """Run to the end of the plan, to the stopping rule, to an interrupt or to a failure.

        Raises:
            HarnessError: something no further session can mend (libvirt gone, disk full). What was
                measured is kept, and the state says ``failed``.
        """
        began = self._clock.monotonic()
        self._store.set_state(RunState.RUNNING, stopped=None, wall_seconds=0.0)
        self._boots = self._boots_so_far()
        self._emit(RunStarted(self._plan, self._remaining()))
        outcome = Outcome(RunState.FAILED, "an unexpected error", self._failures)
        try:
            outcome.stopped = self._sessions()
            outcome.state = RunState.FAILED if self._failures else RunState.FINISHED
        except Interrupted:
            outcome.state, outcome.stopped = RunState.INTERRUPTED, "interrupted by the user"
        except HarnessError as error:
            outcome.stopped = error.message
            raise
        finally:
            self._store.set_state(
                outcome.state, stopped=outcome.stopped, wall_seconds=self._clock.monotonic() - began
            )
            self._emit(RunEnded(outcome.stopped))
        return outcome

    def _boots_so_far(self) -> int:
        """Return the ordinal of the next boot; those of sessions that were put aside count too."""
        boots = [boot for session in self._plan.sessions for boot in self._store.load_session(session).boots]
        return max([len(boots), *(boot.ordinal + 1 for boot in boots if boot.ordinal is not None)])

    def _remaining(self) -> int:
        return sum(len(self._missing(session)) for session in self._plan.sessions)

    def _missing(self, session: PlannedSession) -> list[PlannedIteration]:
        record = self._store.load_session(session)
        if self._rounds:
            whole = record.state in {SessionState.DONE, SessionState.CRASHED}
            return [] if whole else list(session.iterations)
        accepted = record.accepted()
        return [iteration for iteration in session.iterations if iteration.number not in accepted]

    def _sessions(self) -> str:
        for index, session in enumerate(self._plan.sessions):
            if self._begins_pair(index) and (reason := self._enough(session.block)):
                return reason
            if self._missing(session):
                self._session(session)
            if self._fruitless[session.variant] >= self._protocol.give_up_after:
                return (
                    f"{self._protocol.give_up_after} sessions of {session.variant} in a row gave nothing "
                    f"(protocol.give_up_after): {self._failures[-1]}"
                )
        return self._enough(self._plan.blocks) or "the plan is done"

    def _session(self, session: PlannedSession) -> None:
        """Run what is missing of a session; one that the host failed is tried again, and says so."""
        record, failures = self._store.load_session(session), len(self._failures)
        before = len(record.boots)
        # A variant whose last session gave nothing had its chance: a build that cannot boot burns no night.
        repeats = 0 if self._fruitless[session.variant] else self._protocol.retries
        cause = BootCause.RESUMED if before or record.replaces else BootCause.FIRST
        while self._boot(session, cause, may_repeat=repeats > 0):
            cause, repeats = BootCause.REPEATED, repeats - 1
            # What it failed at is in its record; it counts as a failure only if it fails again.
            del self._failures[failures:]
        record = self._store.load_session(session)
        fruitful = self._rounds and record.state is SessionState.CRASHED
        fruitful |= any(e.boot >= before and e.state is IterationState.OK for e in record.iterations)
        self._fruitless[session.variant] = 0 if fruitful else self._fruitless[session.variant] + 1

    def _is_of_the_host(self, error: GuestError, boot: BootRecord) -> bool:
        """Return whether a boot failed for a reason that may be gone the next time.

        A QEMU that died is what a run wants to know of. Rounds are worth repeating only where nothing was
        seen yet that a second boot could hide.
        """
        if self._rounds:
            return boot.ready_seconds is None
        return not isinstance(error, GuestDiedError)

    def _begins_pair(self, index: int) -> bool:
        """Return whether a pair of blocks ended just before this session."""
        block = self._plan.sessions[index].block
        return index > 0 and block % 2 == 0 and self._plan.sessions[index - 1].block != block

    def _boot(self, session: PlannedSession, cause: BootCause, *, may_repeat: bool) -> bool:
        """Boot a session's guest and run what is missing; return whether to try that again."""
        self._check_stop()
        missing, record = self._missing(session), self._store.load_session(session)
        record.state = SessionState.RUNNING
        boot = BootRecord(started=_stamp(self._clock.now()), cause=cause, ordinal=self._boots)
        self._boots += 1
        record.boots.append(boot)
        self._store.save_session(session, record)
        self._emit(SessionStarted(session))
        guest: GuestSession | None = None
        number, directory, again = len(record.boots) - 1, self._store.session_directory(session), False
        try:
            with self._lab.session(session, directory, boot=number) as guest:
                boot.ready_seconds, boot.facts = round(guest.ready_seconds, 3), guest.facts
                self._store.save_session(session, record)
                self._emit(SessionReady(session, guest.ready_seconds))
                for iteration in missing:
                    self._iteration(guest, session, record, iteration)
            record.state = SessionState.DONE
        except GuestError as error:
            again = may_repeat and self._is_of_the_host(error, boot)
            # What is kept and shown may quote the guest: nothing in it commands a terminal.
            record.state, boot.failure = SessionState.FAILED, _told(error)
            if isinstance(error, GuestDiedError):
                self._died(session, record, error, again=again)
            else:
                self._fail(session, boot.failure, again=again)
        except HarnessError as error:
            # Interrupted, or something no further session can mend: the session can be resumed.
            record.state, boot.failure = SessionState.INTERRUPTED, error.message
            raise
        finally:
            boot.ended = _stamp(self._clock.now())
            boot.telemetry = guest.telemetry if guest else None
            record.files |= self._store.left_beside(session, boot=number)
            self._store.save_session(session, record)
        return again

    def _iteration(
        self,
        guest: GuestSession,
        session: PlannedSession,
        record: SessionRecord,
        iteration: PlannedIteration,
    ) -> None:
        self._check_stop()
        began, clock = self._clock.now(), self._clock.monotonic()
        try:
            execution = guest.run(iteration, runtime=self._plan.runtime, ramp=self._plan.ramp)
        except GuestDiedError as died:
            seconds = self._clock.monotonic() - clock
            record.iterations.append(
                self._crashed(iteration, died, began, seconds, boot=len(record.boots) - 1)
            )
            record.boots[-1].crash = replace(died.crash, iteration=iteration.number)
            raise
        entry = self._judge(session, iteration, execution, boot=len(record.boots) - 1)
        record.iterations.append(entry)
        # On disk before the next one starts: what was reported as done is never lost.
        self._store.save_session(session, record)
        mappings = entry.mappings if self._rounds else None
        self._emit(IterationDone(session, iteration, execution.seconds, entry.reason, mappings))
        if entry.reason:
            self._failures.append(f"session {session.directory}, {iteration.cell.label}: {entry.reason}")

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Interrupted("interrupted")

    def _judge(
        self, session: PlannedSession, iteration: PlannedIteration, execution: Execution, *, boot: int
    ) -> IterationRecord:
        file = sha256 = None
        if execution.stdout:
            file, sha256 = self._store.save_output(session, iteration, execution.stdout, boot=boot)
        reason = self._judge_output(execution, iteration, self._plan)
        return IterationRecord(
            number=iteration.number,
            repeat=iteration.repeat,
            factors=iteration.cell.factors(),
            boot=boot,
            started=_stamp(execution.started),
            seconds=round(execution.seconds, 3),
            state=IterationState.FAILED if reason else IterationState.OK,
            exit_code=execution.exit_code,
            reason=printable_lines(reason) if reason else None,
            file=file,
            sha256=sha256,
            mappings=execution.mappings,
        )

    def _crashed(
        self,
        iteration: PlannedIteration,
        died: GuestDiedError,
        began: datetime,
        seconds: float,
        *,
        boot: int,
    ) -> IterationRecord:
        return IterationRecord(
            number=iteration.number,
            repeat=iteration.repeat,
            factors=iteration.cell.factors(),
            boot=boot,
            started=_stamp(began),
            seconds=round(seconds, 3),
            state=IterationState.CRASHED,
            reason=printable_lines(f"crashed: {died.crash.cause}"),
        )

    def _died(
        self, session: PlannedSession, record: SessionRecord, died: GuestDiedError, *, again: bool
    ) -> None:
        boot = record.boots[-1]
        record.state, boot.crash = SessionState.CRASHED, boot.crash or died.crash
        # Only QEMU's own failure answers the question; and only after the guest was up.
        if self._rounds and boot.crash.qemu_failed and boot.ready_seconds is not None:
            self._emit(SessionCrashed(session, boot.crash, printable_lines(boot.crash.cause)))
            return
        if self._rounds:
            record.state = SessionState.FAILED
        self._fail(session, printable_lines(died.message), again=again)

    def _fail(self, session: PlannedSession, reason: str, *, again: bool) -> None:
        self._failures.append(f"session {session.directory}: {reason}")
        self._emit(SessionFailed(session, reason, again))


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _told(error: GuestError) -> str:
    """Return why a session failed, and what to do about it, for the console and the record."""
    remedy = f"\nremedy: {error.remedy}" if error.remedy else ""
    return printable_lines(f"{error.message}{remedy}")
