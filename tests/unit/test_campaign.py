"""The campaign, with fakes for every order, crash and resume; the run directory is a real one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import (
    Behaviour,
    FakeClock,
    FakeGuest,
    FakeLab,
    FakeStop,
    campaign,
    fio_json,
    good,
    new_run,
    qemu_died,
    raise_at,
)
from harness.adapters.files import sha256_of
from harness.adapters.results.samples import read_samples
from harness.adapters.results.store import RunDirectory
from harness.core.errors import GuestDiedError, GuestError, HarnessError, Interrupted
from harness.core.experiment.protocol import Protocol
from harness.core.mappings import Mappings
from harness.core.model import Cell
from harness.core.protocols import Execution
from harness.core.records import IterationState, RunState, SessionRecord, SessionState
from harness.shell.campaign import Outcome
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
    from collections.abc import Iterator

    from harness.core.planning import PlannedSession

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def accepted(run: RunDirectory) -> list[int]:
    return [
        entry.number
        for planned in run.plan.sessions
        for entry in run.load_session(planned).iterations
        if entry.state is IterationState.OK
    ]


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def test_a_good_run_is_finished_with_every_iteration_in_order(tmp_path: Path) -> None:
    run, lab = new_run(tmp_path / "r", repeats=2), FakeLab()
    assert campaign(run, lab) == Outcome(RunState.FINISHED, "the plan is done", [])
    assert (run.record.state, run.record.stopped) == (RunState.FINISHED, "the plan is done")
    assert accepted(run) == list(range(16))
    assert lab.booted == [session.directory for session in run.plan.sessions]
    assert lab.executed == [
        (session.number, iteration.cell) for session in run.plan.sessions for iteration in session.iterations
    ]
    for planned in run.plan.sessions:
        record = run.load_session(planned)
        assert record.state is SessionState.DONE
        assert len(record.boots) == 1
        assert (record.boots[0].ready_seconds, record.boots[0].facts) == (2.0, {"guest_kernel": "6.1"})
        assert record.boots[0].ended


def test_the_output_of_every_iteration_is_kept_with_its_hash(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    campaign(run, FakeLab())
    for planned in run.plan.sessions:
        for entry, iteration in zip(run.load_session(planned).iterations, planned.iterations, strict=True):
            assert entry.file
            path = run.session_directory(planned) / entry.file
            assert path.read_text() == fio_json(iteration.cell)
            assert entry.sha256 == sha256_of(path)
            assert entry.factors == iteration.cell.factors()


def test_whoever_watches_sees_everything_in_order(tmp_path: Path) -> None:
    run, events = new_run(tmp_path / "r", blocks=1), list[Event]()
    campaign(run, FakeLab(), emit=events.append)
    session: list[type[Event]] = [SessionStarted, SessionReady, IterationDone, IterationDone]
    assert kinds(events) == [RunStarted, *session, *session, RunEnded]
    assert events[0] == RunStarted(run.plan, 4)
    assert events[-1] == RunEnded("the plan is done")
    started = [event.session for event in events if isinstance(event, SessionStarted)]
    assert started == list(run.plan.sessions)
    done = [event.iteration.number for event in events if isinstance(event, IterationDone)]
    assert done == [0, 1, 2, 3]


def test_what_was_reported_as_done_is_on_disk_already(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")

    def emit(event: Event) -> None:
        if isinstance(event, IterationDone):
            again = RunDirectory.open(run.path).load_session(event.session)
            assert event.iteration.number in again.accepted()
        elif isinstance(event, RunEnded):
            assert run.record.stopped == event.stopped

    campaign(run, FakeLab(), emit=emit)
    assert len(accepted(run)) == 8


@pytest.mark.parametrize(
    ("exit_code", "stdout", "stderr", "words"),
    [
        (1, "", "fio: engine libaio not loadable\n", "fio ended with exit code 1: fio: engine libaio not"),
        (1, fio_json(Cell("randread", "4k", 1), error=28), "", "fio reports error 28 (ENOSPC)"),
        (0, fio_json(Cell("randread", "4k", 1), error=5), "", "fio reports error 5 (EIO)"),
        (0, fio_json(Cell("randread", "4k", 1), iops=0.0), "", "fio did no I/O"),
        (0, fio_json(Cell("randread", "4k", 1), runtime_ms=5000), "", "fio measured for 5.0 s, not for 1 s"),
        (0, fio_json(Cell("randread", "4k", 1))[:-9], "", ""),
        (137, "", "", "fio ended with exit code 137"),
        (0, "", "", ""),
    ],
)
def test_fio_that_fails_is_recorded_with_its_words_and_never_as_a_number(
    exit_code: int, stdout: str, stderr: str, words: str, tmp_path: Path
) -> None:
    def fail_once(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == 1:
            return Execution(exit_code, stdout, stderr, MOMENT, 0.1)
        return good(session, cell, count)

    run, events = new_run(tmp_path / "r"), list[Event]()
    outcome = campaign(run, FakeLab(fail_once), emit=events.append)
    planned = run.plan.sessions[0]
    entry = run.load_session(planned).iterations[0]
    assert (entry.state, entry.exit_code) == (IterationState.FAILED, exit_code)
    assert entry.reason
    assert words in entry.reason
    assert (outcome.state, run.record.state) == (RunState.FAILED, RunState.FAILED)
    assert outcome.failures == [f"session {planned.directory}, randread-4k-1: {entry.reason}"]
    # The others went on, and what fio printed is kept although it does not count.
    assert accepted(run) == list(range(1, 8))
    assert run.load_session(planned).state is SessionState.DONE
    kept = [path.read_text() for path in run.session_directory(planned).glob("00000-*")]
    assert kept == ([stdout] if stdout else [])
    reasons = [event.reason for event in events if isinstance(event, IterationDone)]
    assert reasons == [entry.reason] + [None] * 7


def test_a_failed_iteration_is_repeated_by_resume_and_its_output_kept(tmp_path: Path) -> None:
    def reject(_session: PlannedSession, cell: Cell, _count: int) -> Execution:
        return Execution(0, fio_json(cell, error=5), "", MOMENT, 1.0)

    run = new_run(tmp_path / "r", blocks=1)
    assert campaign(run, FakeLab(reject)).state is RunState.FAILED
    kept = {path: path.read_text() for path in run.path.rglob("0000*.json")}
    assert len(kept) == 4
    assert campaign(run, FakeLab()).state is RunState.FINISHED
    assert {path: path.read_text() for path in kept} == kept
    for planned in run.plan.sessions:
        entries = run.load_session(planned).iterations
        assert [entry.state for entry in entries] == [IterationState.FAILED] * 2 + [IterationState.OK] * 2
        assert [entry.boot for entry in entries] == [0, 0, 1, 1]
        assert len({entry.file for entry in entries}) == 4


def test_a_guest_that_dies_fails_its_session_and_the_run_goes_on(tmp_path: Path) -> None:
    def die(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == 2:
            raise GuestError("the guest stopped by itself; its console ends:\n\x1b[31mKernel panic")
        return good(session, cell, count)

    run, events = new_run(tmp_path / "r"), list[Event]()
    outcome = campaign(run, FakeLab(die), emit=events.append, protocol=Protocol(retries=0))
    first = run.plan.sessions[0]
    words = "the guest stopped by itself; its console ends:\n?[31mKernel panic"
    assert outcome.failures == [f"session {first.directory}: {words}"]
    assert outcome.state is RunState.FAILED
    assert accepted(run) == [0, 2, 3, 4, 5, 6, 7]
    assert [event for event in events if isinstance(event, SessionFailed)] == [SessionFailed(first, words)]
    record = run.load_session(first)
    assert (record.state, record.boots[0].failure) == (SessionState.FAILED, words)
    assert record.boots[0].ended
    again = FakeLab()
    assert campaign(run, again).state is RunState.FINISHED
    # Just what was missing, in a guest of its own.
    assert again.executed == [(0, first.iterations[1].cell)]
    assert sorted(accepted(run)) == list(range(8))
    assert run.load_session(first).state is SessionState.DONE


def die_of(variant: str, at: int = 2) -> Behaviour:
    """Return what has QEMU of a variant die in the n-th iteration of each of its sessions."""

    counts = Counter[int]()

    def behave(session: PlannedSession, cell: Cell, count: int) -> Execution:
        counts[session.number] += 1
        if session.variant == variant and counts[session.number] == at:
            raise qemu_died()
        return replace(good(session, cell, count), mappings=Mappings(1000 * counts[session.number], 1))

    return behave


def test_a_qemu_that_dies_is_kept_as_evidence_and_the_run_goes_on(tmp_path: Path) -> None:
    run, events = new_run(tmp_path / "r"), list[Event]()
    outcome = campaign(run, FakeLab(die_of("NEW")), emit=events.append)
    assert outcome.state is RunState.FAILED
    assert len(outcome.failures) == 2
    assert "QEMU died: SIGABRT (failed to set up stack guard page" in outcome.failures[0]
    for planned in run.plan.sessions:
        record = run.load_session(planned)
        if planned.variant == "OLD":
            assert record.state is SessionState.DONE
            continue
        assert record.state is SessionState.CRASHED
        first, second = record.iterations
        assert (first.state, second.state) == (IterationState.OK, IterationState.CRASHED)
        assert second.reason == "crashed: SIGABRT (failed to set up stack guard page: Cannot allocate memory)"
        crash = record.boots[0].crash
        assert crash
        assert (crash.signal, crash.iteration) == ("SIGABRT", planned.iterations[1].number)
        assert (crash.mappings, crash.console) == (Mappings(65000, 32000), ("init: up",))
    assert len([event for event in events if isinstance(event, SessionFailed)]) == 2


def test_where_iterations_are_rounds_a_qemu_that_dies_is_the_result(tmp_path: Path) -> None:
    run, events = new_run(tmp_path / "r", blocks=1, repeats=3), list[Event]()
    lab = FakeLab(die_of("OLD", at=4))
    outcome = campaign(run, lab, emit=events.append, rounds=True)
    assert outcome == Outcome(RunState.FINISHED, "the plan is done", [])
    crashed = [event for event in events if isinstance(event, SessionCrashed)]
    assert [event.session.variant for event in crashed] == ["OLD"]
    old = next(planned for planned in run.plan.sessions if planned.variant == "OLD")
    assert run.load_session(old).state is SessionState.CRASHED
    assert [entry.mappings.vmas for entry in run.load_session(old).iterations if entry.mappings] == [
        1000,
        2000,
        3000,
    ]
    # It is complete: nothing of it is run again.
    again = FakeLab()
    assert campaign(run, again, rounds=True).state is RunState.FINISHED
    assert again.booted == []


def test_rounds_that_were_interrupted_begin_anew(tmp_path: Path) -> None:
    """They build on one another: half a session's rounds in a fresh process would mean something else."""
    run = new_run(tmp_path / "r", blocks=1, repeats=2)
    assert campaign(run, FakeLab(raise_at(3, Interrupted)), rounds=True).state is RunState.INTERRUPTED
    again = FakeLab()
    assert campaign(run, again, rounds=True).state is RunState.FINISHED
    assert len([number for number, _cell in again.executed if number == 0]) == 4


def test_a_guest_of_rounds_that_never_answered_is_booted_once_more(tmp_path: Path) -> None:
    class SlowOnce(FakeLab):
        @contextmanager
        def session(self, planned: PlannedSession, directory: Path, *, boot: int = 0) -> Iterator[FakeGuest]:
            if boot == 0:
                raise GuestError("it did not answer within 180 s")
            with FakeLab.session(self, planned, directory, boot=boot) as guest:
                yield guest

    run = new_run(tmp_path / "r", blocks=1)
    assert campaign(run, SlowOnce(), rounds=True) == Outcome(RunState.FINISHED, "the plan is done", [])
    for planned in run.plan.sessions:
        record = run.load_session(planned)
        failures = [boot.failure for boot in record.boots]
        assert failures == ["it did not answer within 180 s", None], "marked, not replaced"
    # Twice in vain is a failure.
    gone = new_run(tmp_path / "gone", blocks=1)
    lab = FakeLab(unbootable=frozenset({"NEW"}))
    assert campaign(gone, lab, rounds=True).state is RunState.FAILED
    assert len([name for name in lab.booted if name.endswith("NEW")]) == 2


def test_a_guest_that_panics_is_no_answer_to_whether_qemu_survives(tmp_path: Path) -> None:
    def panic(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == 2:
            error = qemu_died()
            raise GuestDiedError("it panicked", replace(error.crash, qemu_failed=False, signal=None))
        return good(session, cell, count)

    run = new_run(tmp_path / "r", blocks=1)
    outcome = campaign(run, FakeLab(panic), rounds=True)
    assert outcome.state is RunState.FAILED
    assert run.load_session(run.plan.sessions[0]).state is SessionState.FAILED


def test_a_build_that_cannot_boot_stops_the_run(tmp_path: Path) -> None:
    run, lab = new_run(tmp_path / "r", blocks=10), FakeLab(unbootable=frozenset({"NEW"}))
    outcome = campaign(run, lab)
    assert outcome.state is RunState.FAILED
    assert "2 sessions of NEW in a row gave nothing (protocol.give_up_after): session " in outcome.stopped
    assert "the guest on NEW did not answer" in outcome.stopped
    # The first was tried again; once that had given nothing either, the next was not.
    assert len([name for name in lab.booted if name.endswith("NEW")]) == 3
    assert run.record.stopped == outcome.stopped
    # Mended, it goes on to the end.
    assert campaign(run, FakeLab()).state is RunState.FINISHED
    assert sorted(accepted(run)) == list(range(40))


def test_a_fio_that_always_fails_on_one_build_stops_the_run(tmp_path: Path) -> None:
    def broken(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if session.variant == "OLD":
            return Execution(1, "", "fio: no such engine", MOMENT, 0.1)
        return good(session, cell, count)

    outcome = campaign(new_run(tmp_path / "r", blocks=10), FakeLab(broken))
    assert "2 sessions of OLD in a row gave nothing" in outcome.stopped
    assert len(outcome.failures) == 4


def test_sessions_that_fail_now_and_then_do_not_stop_the_run(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r", blocks=6)
    unlucky = [session.number for session in run.plan.sessions if session.variant == "NEW"][::2]

    def behave(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if session.number in unlucky:
            raise GuestError("unlucky")
        return good(session, cell, count)

    outcome = campaign(run, FakeLab(behave))
    assert (outcome.state, outcome.stopped) == (RunState.FAILED, "the plan is done")
    assert len(outcome.failures) == 3


def test_an_interrupt_keeps_what_was_measured_and_says_so(tmp_path: Path) -> None:
    run, lab, events = new_run(tmp_path / "r"), FakeLab(raise_at(4, Interrupted)), list[Event]()
    outcome = campaign(run, lab, emit=events.append)
    assert (outcome.state, outcome.failures) == (RunState.INTERRUPTED, [])
    assert (run.record.state, run.record.stopped) == (RunState.INTERRUPTED, "interrupted by the user")
    assert accepted(run) == [0, 1, 2]
    assert run.load_session(run.plan.sessions[1]).state is SessionState.INTERRUPTED
    assert lab.running == 0
    assert events[-1] == RunEnded("interrupted by the user")


def test_a_wish_to_stop_starts_no_further_iteration_and_no_further_guest(tmp_path: Path) -> None:
    stop = FakeStop()

    def stopping_during(at: int) -> FakeLab:
        def behave(session: PlannedSession, cell: Cell, count: int) -> Execution:
            if count == at:
                stop.set()
            return good(session, cell, count)

        return FakeLab(behave)

    run, lab = new_run(tmp_path / "r"), stopping_during(1)
    assert campaign(run, lab, stop=stop).state is RunState.INTERRUPTED
    assert lab.count == 1
    assert accepted(run) == [0]
    stop.wanted = False
    lab = stopping_during(1)
    assert campaign(run, lab, stop=stop).state is RunState.INTERRUPTED
    assert lab.booted == [run.plan.sessions[0].directory]
    assert accepted(run) == [0, 1]


class PowerCutError(BaseException):
    """Nothing can react to it, as to SIGKILL."""


ENDS: dict[str, type[BaseException]] = {"user": Interrupted, "guest": GuestError, "power": PowerCutError}


@settings(max_examples=40)
@given(
    repeats=st.integers(1, 2),
    interrupts=st.lists(st.tuples(st.integers(1, 16), st.sampled_from(sorted(ENDS))), max_size=6),
)
def test_stopped_anywhere_and_resumed_nothing_is_lost_or_done_twice(
    repeats: int, interrupts: list[tuple[int, str]]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = new_run(Path(directory) / "r", repeats=repeats)
        planned = [
            (session.number, iteration.cell)
            for session in run.plan.sessions
            for iteration in session.iterations
        ]
        measured: list[tuple[int, Cell]] = []
        for at, how in interrupts:
            lab = FakeLab(raise_at(at, ENDS[how]))
            with contextlib.suppress(PowerCutError):
                campaign(run, lab)
            assert len(accepted(run)) == len(measured) + len(lab.executed)
            measured += lab.executed
        done = Counter(number for number, _cell in measured)
        missing = [
            (session.number, iteration.cell)
            for session in run.plan.sessions
            for iteration in session.iterations[done[session.number] :]
        ]
        last = FakeLab()
        assert campaign(run, last).state is RunState.FINISHED
        assert last.executed == missing
        assert sorted(accepted(run)) == list(range(len(planned)))
        assert Counter([*measured, *last.executed]) == Counter(planned)


class FillingDisk(RunDirectory):
    """A run directory on a disk that is full after some writes of session records."""

    def __init__(self, path: Path, left: int) -> None:
        super().__init__(path)
        self.left = left

    def save_session(self, planned: PlannedSession, record: SessionRecord) -> None:
        if self.left == 0:
            raise HarnessError("cannot write session.json: No space left on device", remedy="free some space")
        self.left -= 1
        super().save_session(planned, record)


@pytest.mark.parametrize("writes", range(12))
def test_a_full_disk_ends_the_run_and_keeps_what_was_measured(tmp_path: Path, writes: int) -> None:
    run, lab = new_run(tmp_path / "r"), FakeLab()
    with pytest.raises(HarnessError, match="No space left on device"):
        campaign(FillingDisk(run.path, writes), lab)
    assert lab.running == 0
    assert run.record.state is RunState.FAILED
    assert "No space left" in str(run.record.stopped)
    assert accepted(run) == list(range(len(accepted(run))))
    assert campaign(run, FakeLab()).state is RunState.FINISHED
    assert sorted(accepted(run)) == list(range(8))


def test_an_error_no_session_can_mend_is_raised_and_recorded(tmp_path: Path) -> None:
    def gone(_session: PlannedSession, _cell: Cell, _count: int) -> Execution:
        raise HarnessError("libvirt is gone")

    run, lab, events = new_run(tmp_path / "r"), FakeLab(gone), list[Event]()
    with pytest.raises(HarnessError, match="libvirt is gone"):
        campaign(run, lab, emit=events.append)
    assert (run.record.state, run.record.stopped) == (RunState.FAILED, "libvirt is gone")
    assert run.load_session(run.plan.sessions[0]).state is SessionState.INTERRUPTED
    assert len(lab.booted) == 1
    assert events[-1] == RunEnded("libvirt is gone")


class StuckGuestLab(FakeLab):
    """A lab whose guest cannot be ended."""

    @contextmanager
    def session(self, planned: PlannedSession, directory: Path, *, boot: int = 0) -> Iterator[FakeGuest]:
        with super().session(planned, directory, boot=boot) as guest:
            yield guest
        raise HarnessError("the guest could not be ended")


def test_a_guest_that_cannot_be_ended_stops_everything_and_keeps_its_results(tmp_path: Path) -> None:
    run, lab = new_run(tmp_path / "r"), StuckGuestLab()
    with pytest.raises(HarnessError, match="could not be ended"):
        campaign(run, lab)
    assert len(lab.booted) == 1
    assert accepted(run) == [0, 1]


def test_the_stopping_rule_is_asked_after_pairs_of_blocks_only(tmp_path: Path) -> None:
    run, asked = new_run(tmp_path / "r", blocks=7), list[tuple[int, int]]()

    def enough(blocks: int) -> str | None:
        asked.append((blocks, len(accepted(run))))
        return "narrow enough" if blocks == 6 else None

    def again() -> Outcome:
        return campaign(run, FakeLab(), enough=enough)

    outcome = again()
    assert asked == [(2, 8), (4, 16), (6, 24)]
    assert (outcome.state, outcome.stopped) == (RunState.FINISHED, "narrow enough")
    assert len(accepted(run)) == 6 * 2 * 2
    # Resumed, it stops at the same place.
    assert again().stopped == "narrow enough"
    assert len(accepted(run)) == 6 * 2 * 2


def test_a_finished_run_that_is_resumed_boots_nothing(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    campaign(run, FakeLab())
    before = {path: path.read_bytes() for path in run.path.glob("sessions/*/*")}
    lab, events = FakeLab(), list[Event]()
    assert campaign(run, lab, emit=events.append).state is RunState.FINISHED
    assert lab.booted == []
    assert events == [RunStarted(run.plan, 0), RunEnded("the plan is done")]
    assert {path: path.read_bytes() for path in run.path.glob("sessions/*/*")} == before


def test_a_bug_leaves_a_run_that_is_not_called_running(tmp_path: Path) -> None:
    def bug(_session: PlannedSession, _cell: Cell, _count: int) -> Execution:
        raise ZeroDivisionError

    run = new_run(tmp_path / "r")
    with pytest.raises(ZeroDivisionError):
        campaign(run, FakeLab(bug))
    assert (run.record.state, run.record.stopped) == (RunState.FAILED, "an unexpected error")


def test_wall_time_is_written_into_the_head(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    campaign(run, FakeLab())
    first = json.loads((run.path / "run.json").read_text())["wall_seconds"]
    assert first > 0
    campaign(run, FakeLab())
    assert run.record.wall_seconds > first


def test_a_clock_that_is_set_back_changes_no_order_and_no_duration(tmp_path: Path) -> None:
    run, clock = new_run(tmp_path / "r", blocks=2), FakeClock()

    def behave(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == len(run.plan.sessions[0].iterations) + 1:
            clock.set_back = timedelta(hours=1)
            raise qemu_died()
        return good(session, cell, count)

    campaign(run, FakeLab(behave), clock=clock)
    campaign(run, FakeLab())
    records = [run.load_session(planned) for planned in run.plan.sessions]
    assert [[boot.ordinal for boot in record.boots] for record in records] == [[0], [1, 4], [2], [3]]
    assert all(entry.seconds >= 0 for record in records for entry in record.iterations)
    assert all(record.boot_seconds(0) >= 0 for record in records)
    assert read_samples(run).ran == (0, 2, 3, 1), "the repeated one was the last to run"


def test_a_log_that_only_root_may_read_does_not_hide_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tmp_path / "r", blocks=1)
    first = run.plan.sessions[0]
    (run.session_directory(first) / "console.log").write_text("of libvirt's own daemon")
    # The tests may be root, who may read everything.
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != "console.log")
    campaign(run, FakeLab(raise_at(1, GuestError)))
    record = run.load_session(first)
    assert record.boots[0].failure == "now"
    assert "console.log" not in record.files
