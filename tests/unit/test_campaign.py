"""The campaign, with fakes for every order, crash and resume; the run directory is a real one."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock, FakeLab, FakeStop, fio_json, good, interrupt_at
from harness.adapters.store import RunDirectory
from harness.core.errors import GuestError, HarnessError, InputError
from harness.core.model import Cell
from harness.core.planning import PlannedSession, make_plan
from harness.core.protocols import Execution
from harness.core.records import (
    FORMAT_VERSION,
    IterationState,
    RunRecord,
    RunState,
    SessionState,
)
from harness.shell.campaign import Campaign, Outcome
from harness.shell.events import Event, IterationDone, RunEnded, SessionFailed, SessionStarted

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def new_run(path: Path, *, blocks: int = 2) -> RunDirectory:
    plan = make_plan(
        variants=["OLD", "NEW"],
        cells=[Cell("randread", "4k", 1), Cell("randread", "4k", 8)],
        guests=[()],
        blocks=blocks,
        repeats=1,
        runtime=1.0,
        ramp=0.0,
        seed=1,
    )
    record = RunRecord(
        FORMAT_VERSION, "r", "test", RunState.RUNNING, "2026", "0", "tcg", "a test", builds={}, guest_image={}
    )
    return RunDirectory.create(path, record=record, experiment="name: x\n", plan=plan, environment={})


def campaign(run: RunDirectory, lab: FakeLab, events: list[Event] | None = None) -> Outcome:
    sink = [] if events is None else events
    return Campaign(
        plan=run.plan, store=run, lab=lab, clock=FakeClock(), stop=FakeStop(), emit=sink.append
    ).run()


def accepted(run: RunDirectory) -> list[int]:
    return [
        entry.number
        for planned in run.plan.sessions
        for entry in run.load_session(planned).iterations
        if entry.state is IterationState.OK
    ]


def test_a_good_run_is_finished_with_every_iteration_in_order(tmp_path: Path) -> None:
    run, lab, events = new_run(tmp_path / "r"), FakeLab(), list[Event]()
    assert campaign(run, lab, events).state is RunState.FINISHED
    assert run.record.state is RunState.FINISHED
    assert accepted(run) == list(range(8))
    assert len([event for event in events if isinstance(event, IterationDone)]) == 8
    assert isinstance(events[-1], RunEnded)


def test_fio_that_fails_is_recorded_with_its_words_and_never_as_a_number(tmp_path: Path) -> None:
    def fail_once(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == 2:
            return Execution(1, "", "fio: engine libaio not loadable\n", MOMENT, 0.1)
        return good(session, cell, count)

    run = new_run(tmp_path / "r")
    outcome = campaign(run, FakeLab(fail_once))
    assert outcome.state is RunState.FAILED
    assert "not loadable" in outcome.failures[0]
    assert len(accepted(run)) == 7
    first = run.load_session(run.plan.sessions[0])
    assert [entry.state for entry in first.iterations] == [IterationState.OK, IterationState.FAILED]


def test_an_error_in_fios_json_does_not_count(tmp_path: Path) -> None:
    def broken(_session: PlannedSession, cell: Cell, _count: int) -> Execution:
        return Execution(0, fio_json(cell, error=28), "", MOMENT, 1.0)

    run = new_run(tmp_path / "r")
    assert campaign(run, FakeLab(broken)).state is RunState.FAILED
    assert accepted(run) == []


def test_a_guest_that_dies_fails_its_session_and_the_run_goes_on(tmp_path: Path) -> None:
    def die(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == 2:
            raise GuestError("the guest stopped by itself")
        return good(session, cell, count)

    run, events = new_run(tmp_path / "r"), list[Event]()
    outcome = campaign(run, FakeLab(die), events)
    assert outcome.state is RunState.FAILED
    assert accepted(run) == [0, 2, 3, 4, 5, 6, 7]
    assert [event.reason for event in events if isinstance(event, SessionFailed)] == [
        "the guest stopped by itself"
    ]
    again = FakeLab()
    assert campaign(run, again).state is RunState.FINISHED
    assert again.booted == [run.plan.sessions[0].directory]
    assert sorted(accepted(run)) == list(range(8))


def test_a_build_that_cannot_boot_stops_the_run(tmp_path: Path) -> None:
    run, lab = new_run(tmp_path / "r", blocks=10), FakeLab(unbootable=frozenset({"NEW"}))
    outcome = campaign(run, lab)
    assert outcome.state is RunState.FAILED
    assert "2 sessions of NEW in a row gave nothing" in outcome.stopped
    assert len([name for name in lab.booted if name.endswith("NEW")]) == 2


@given(st.lists(st.integers(1, 8), min_size=1, max_size=6))
def test_interrupted_anywhere_and_resumed_nothing_is_lost_or_done_twice(interrupts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = new_run(Path(directory) / "r")
        reported: list[int] = []
        for at in interrupts:
            events: list[Event] = []
            outcome = campaign(run, FakeLab(interrupt_at({at})), events)
            done = [event.iteration.number for event in events if isinstance(event, IterationDone)]
            reported += done
            assert set(reported) <= set(accepted(run))
            if outcome.state is RunState.FINISHED:
                break
            assert run.record.state is RunState.INTERRUPTED
        assert campaign(run, FakeLab()).state is RunState.FINISHED
        assert accepted(run) == list(range(8))


def test_an_error_no_session_can_mend_is_raised_and_recorded(tmp_path: Path) -> None:
    def full(_session: PlannedSession, _cell: Cell, _count: int) -> Execution:
        raise HarnessError("No space left on device")

    run = new_run(tmp_path / "r")
    with pytest.raises(HarnessError, match="No space"):
        campaign(run, FakeLab(full))
    assert run.record.state is RunState.FAILED
    assert run.record.stopped == "No space left on device"
    assert run.load_session(run.plan.sessions[0]).state is SessionState.INTERRUPTED


def test_the_stopping_rule_is_asked_after_pairs_of_blocks_only(tmp_path: Path) -> None:
    run, asked = new_run(tmp_path / "r", blocks=6), list[int]()

    def enough(blocks: int) -> str | None:
        asked.append(blocks)
        return "narrow enough" if blocks == 4 else None

    outcome = Campaign(
        plan=run.plan,
        store=run,
        lab=FakeLab(),
        clock=FakeClock(),
        stop=FakeStop(),
        emit=lambda _event: None,
        enough=enough,
    ).run()
    assert asked == [2, 4]
    assert (outcome.state, outcome.stopped) == (RunState.FINISHED, "narrow enough")
    assert len(accepted(run)) == 4 * 2 * 2


def test_what_an_earlier_boot_printed_is_not_overwritten(tmp_path: Path) -> None:
    def reject(_session: PlannedSession, cell: Cell, _count: int) -> Execution:
        return Execution(0, fio_json(cell, error=5), "", MOMENT, 1.0)

    run = new_run(tmp_path / "r", blocks=1)
    campaign(run, FakeLab(reject))
    campaign(run, FakeLab())
    for planned in run.plan.sessions:
        files = [entry.file for entry in run.load_session(planned).iterations]
        assert len(files) == len(set(files)) == 4
        assert all((run.session_directory(planned) / str(file)).exists() for file in files)


def test_progress_names_the_sessions_as_they_start(tmp_path: Path) -> None:
    run, events = new_run(tmp_path / "r"), list[Event]()
    campaign(run, FakeLab(), events)
    started = [event.session for event in events if isinstance(event, SessionStarted)]
    assert started == list(run.plan.sessions)


def test_a_hand_edited_result_is_found_and_named(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    campaign(run, FakeLab())
    planned = run.plan.sessions[0]
    entry = run.load_session(planned).iterations[0]
    assert entry.file
    assert entry.sha256
    path = run.session_directory(planned) / entry.file
    path.write_text(path.read_text().replace("1000", "9000"))
    with pytest.raises(InputError, match=entry.file):
        run.read_output(planned, entry.file, entry.sha256)


def test_a_run_directory_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    head = run.path / "run.json"
    head.write_text(head.read_text().replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(InputError, match="format version 99"):
        RunDirectory.open(run.path)


def test_a_damaged_session_record_is_named(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    campaign(run, FakeLab())
    planned = run.plan.sessions[0]
    record = run.session_directory(planned) / "session.json"
    record.write_text(record.read_text()[:-20])
    with pytest.raises(InputError, match=r"session\.json: is not whole JSON"):
        run.load_session(planned)


def test_a_directory_in_use_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "precious").write_text("data")
    with pytest.raises(InputError, match="not empty"):
        new_run(tmp_path / "r")
    assert (tmp_path / "r" / "precious").read_text() == "data"
