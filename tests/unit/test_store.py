"""The run directory: whole or refused; what was measured is read back as it was, or named."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import new_run
from harness.adapters.results.store import CUT_OFF, RunDirectory, is_run_directory
from harness.core.errors import BusyError, HarnessError, InputError
from harness.core.model import Cell
from harness.core.planning import Plan, PlannedSession, make_plan
from harness.core.records import (
    FORMAT_VERSION,
    BootRecord,
    IterationRecord,
    IterationState,
    RunRecord,
    RunState,
    SessionRecord,
    SessionState,
)
from resealed import rewrite, write_sealed

ENVIRONMENT: dict[str, Any] = {"host": {"name": "here", "cpu": {"count": 2}}}
OUTPUT = 'note: queue depth will be capped at 1\r\n{"jobs": [1.50, "ü"]}\n'


def a_plan() -> Plan:
    return make_plan(
        variants=["OLD", "NEW"],
        cells=[
            Cell("randread", "4k", 1, guest=(("queues", 2),)),
            Cell("read", "1m", 8, guest=(("queues", 2),)),
        ],
        guests=[(("queues", 2),)],
        blocks=2,
        repeats=2,
        runtime=1.5,
        ramp=0.5,
        seed=3,
    )


def a_record() -> RunRecord:
    return RunRecord(
        format_version=FORMAT_VERSION,
        run_id="quick-1",
        name="quick",
        state=RunState.RUNNING,
        created="2026-01-01T00:00:00+00:00",
        harness_version="0",
        accel="tcg",
        accel_reason="a test",
        builds={"OLD": {"version": "QEMU 7.2", "sha256": "aa"}},
        guest_image={"kernel": "/k"},
        noise_floor="/runs/aa",
    )


def create(path: Path) -> RunDirectory:
    return RunDirectory.create(
        path, record=a_record(), experiment="name: quick\n", plan=a_plan(), environment=ENVIRONMENT
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create(tmp_path / "r")


def test_what_was_written_is_read_again(run: RunDirectory) -> None:
    opened = RunDirectory.open(run.path)
    assert opened.record == replace(a_record(), files=opened.record.files)
    assert opened.plan == a_plan()
    assert opened.experiment == "name: quick\n"
    assert opened.environment == ENVIRONMENT


def test_a_directory_in_use_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(InputError, match="is not empty") as caught:
        create(tmp_path)
    assert "--resume" in str(caught.value.problems[0].remedy)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_what_a_start_left_that_was_killed_before_its_run_json_does_not_stand_in_the_way(
    tmp_path: Path,
) -> None:
    create(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    half = tmp_path / "run" / ".run.json.77.tmp"
    half.write_text("{")
    assert create(tmp_path / "run").record.run_id == "quick-1"
    assert not half.exists()


def test_half_written_files_go_when_the_run_goes_on(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    half, notes = run.path / "sessions" / ".session.json.77.tmp", run.path / "notes.tmp"
    (run.path / "mine").mkdir()
    others = run.path / "mine" / ".notes.77.tmp"
    half.write_text("{")
    notes.write_text("mine")
    others.write_text("of an editor that is open, or of a run that goes on")
    with run.writing():
        assert not half.exists()
        assert notes.exists()
        assert others.exists()


def test_an_empty_directory_may_be_used(tmp_path: Path) -> None:
    assert create(tmp_path).record.run_id == "quick-1"


def test_a_file_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("data")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"{path}: {tmp_path}/file is not a directory"):
            create(path)
    assert (tmp_path / "file").read_text() == "data"


def test_a_place_that_is_not_writable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(InputError, match=f"{tmp_path}/a/b: {tmp_path} is not writable for this user"):
        create(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_creation_that_fails_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def full_at_last(descriptor: int) -> None:
        calls.append(descriptor)
        # Two directories are put on disk, and a file and its directory each: three files are there by now.
        if len(calls) > 8:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_at_last)
    with pytest.raises(HarnessError, match=r"run\.json: No space left"):
        create(tmp_path / "r")
    assert not is_run_directory(tmp_path / "r")
    with pytest.raises(InputError, match="is not a run directory"):
        RunDirectory.open(tmp_path / "r")


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/etc/passwd")):
        with pytest.raises(InputError, match=r"is not a run directory \(no run\.json"):
            RunDirectory.open(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format_version": 99}', "has format version 99; this harness reads up to 2"),
        ('{"format_version": "1"}', "has no format_version"),
        ("{}", "has no format_version"),
        ("[]", "has no format_version"),
        ('{"format_version": 1', "is not whole JSON"),
        ("", "is not whole JSON"),
    ],
)
def test_a_head_that_cannot_be_understood_is_refused(run: RunDirectory, content: str, words: str) -> None:
    (run.path / "run.json").write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        RunDirectory.open(run.path)
    assert caught.value.problems[0].where == f"{run.path}/run.json"
    assert caught.value.problems[0].remedy


def test_a_session_that_never_began_is_an_empty_record(run: RunDirectory) -> None:
    planned = run.plan.sessions[1]
    record = run.load_session(planned)
    assert (record.number, record.variant, record.guest) == (1, planned.variant, {"queues": 2})
    assert (record.boots, record.iterations, record.accepted()) == ([], [], set())


def test_a_session_is_read_again_as_it_was(run: RunDirectory) -> None:
    planned = run.plan.sessions[0]
    record = SessionRecord(0, 0, planned.variant, {"queues": 2}, SessionState.FAILED)
    record.boots.append(BootRecord("t0", "t1", 2.5, {"argv": ["qemu", "-S"], "pid": 7}, "Kernel panic"))
    factors, others = (iteration.cell.factors() for iteration in planned.iterations[:2])
    record.iterations += [
        IterationRecord(0, 0, factors, 0, "t0", 1.25, IterationState.OK, 0, None, "f.json", "ab"),
        IterationRecord(1, 0, others, 0, "t1", 0.5, IterationState.FAILED, 1, "fio failed"),
    ]
    run.save_session(planned, record)
    again = RunDirectory.open(run.path).load_session(planned)
    assert again == record
    assert again.accepted() == {0}


@pytest.mark.parametrize(
    ("damage", "key"),
    [
        ({"state": "unheard-of"}, "state"),
        ({"number": "x"}, "number"),
        ({"iterations": [{"number": 0}]}, r"iterations\.0\.repeat"),
        ({"boots": 5}, "boots"),
    ],
)
def test_a_damaged_session_record_is_named_with_the_key(
    run: RunDirectory, damage: dict[str, Any], key: str
) -> None:
    planned = run.plan.sessions[0]
    run.save_session(planned, run.load_session(planned))
    path = run.session_directory(planned) / "session.json"
    write_sealed(path, json.loads(path.read_text()) | damage)
    with pytest.raises(InputError, match=f"is damaged at {key}: ") as caught:
        run.load_session(planned)
    assert caught.value.problems[0].where == str(path)


def test_a_torn_session_record_is_named(run: RunDirectory) -> None:
    planned = run.plan.sessions[0]
    run.save_session(planned, run.load_session(planned))
    path = run.session_directory(planned) / "session.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"session\.json: is not whole JSON"):
        run.load_session(planned)


@pytest.mark.parametrize("content", ["[]", "{}", '{"seed": 1'])
def test_a_damaged_plan_is_named(run: RunDirectory, content: str) -> None:
    rewrite(run.path, "plan.json", content)
    with pytest.raises(InputError, match=r"plan\.json: (not a plan|is not whole JSON)"):
        _ = run.plan


def test_a_damaged_environment_is_named(run: RunDirectory) -> None:
    rewrite(run.path, "environment.json", "[]")
    with pytest.raises(InputError, match=r"environment\.json: is damaged at its top"):
        _ = run.environment


def test_fios_output_is_kept_to_the_byte(run: RunDirectory) -> None:
    planned = run.plan.sessions[0]
    file, sha256 = run.save_output(planned, planned.iterations[0], OUTPUT, boot=0)
    assert (run.session_directory(planned) / file).read_bytes() == OUTPUT.encode()
    assert RunDirectory.open(run.path).read_output(planned, file, sha256) == OUTPUT


def test_a_hand_edited_output_is_found_and_named(run: RunDirectory) -> None:
    planned = run.plan.sessions[0]
    file, sha256 = run.save_output(planned, planned.iterations[0], OUTPUT, boot=0)
    path = run.session_directory(planned) / file
    path.write_bytes(path.read_bytes().replace(b"1.50", b"2.50"))
    with pytest.raises(InputError, match="is not what fio printed: its SHA-256 differs") as caught:
        run.read_output(planned, file, sha256)
    assert caught.value.problems[0].where == str(path)
    path.unlink()
    with pytest.raises(InputError, match=f"{file}: does not exist"):
        run.read_output(planned, file, sha256)


def test_no_two_outputs_share_a_file(run: RunDirectory) -> None:
    files = [
        (planned.directory, run.save_output(planned, iteration, OUTPUT, boot=boot)[0])
        for planned in run.plan.sessions
        for boot in range(2)
        for iteration in planned.iterations
    ]
    assert len(set(files)) == len(files) == 4 * 2 * 4


def test_a_state_that_cannot_be_written_leaves_the_old_one(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(HarnessError, match="No space left"):
            run.set_state(RunState.FINISHED, stopped="done", wall_seconds=1.0)
    assert RunDirectory.open(run.path).record == replace(a_record(), files=run.record.files)


def test_wall_time_adds_up_over_the_parts_of_a_run(run: RunDirectory) -> None:
    run.set_state(RunState.INTERRUPTED, stopped="interrupted by the user", wall_seconds=10.0)
    assert RunDirectory.open(run.path).record.ended
    run.set_state(RunState.RUNNING, stopped=None, wall_seconds=0.0)
    again = RunDirectory.open(run.path).record
    assert again.ended is None
    assert again.stopped is None
    run.set_state(RunState.FINISHED, stopped="the plan is done", wall_seconds=5.0)
    assert (run.record.state, run.record.wall_seconds) == (RunState.FINISHED, 15.0)


def test_a_run_directory_has_one_writer(run: RunDirectory) -> None:
    with (
        run.writing(),
        pytest.raises(BusyError, match=f"the run directory .* process {os.getpid()}"),
        RunDirectory.open(run.path).writing(),
    ):
        pass
    with run.writing():
        assert run.record.run_id == "quick-1"


def test_a_run_that_nobody_writes_is_not_running(run: RunDirectory) -> None:
    """A process that is killed, or whose disk is full, cannot write how it ended."""
    assert run.record.state is RunState.RUNNING
    assert (run.present.state, run.present.stopped) == (RunState.INTERRUPTED, CUT_OFF)
    with run.writing():
        seen = RunDirectory.open(run.path).present
        assert (seen.state, seen.stopped) == (RunState.RUNNING, None)
    run.set_state(RunState.FINISHED, stopped="the plan is done", wall_seconds=5.0)
    assert run.present == run.record


def test_what_a_run_that_was_cut_off_took_is_what_its_sessions_are_known_to_have_taken(
    run: RunDirectory,
) -> None:
    whole, halfway, booting = run.plan.sessions[:3]

    def keep(planned: PlannedSession, boot: BootRecord, seconds: list[float]) -> None:
        record = run.load_session(planned)
        record.boots.append(boot)
        record.iterations += [
            IterationRecord(
                planned.iterations[index].number,
                planned.iterations[index].repeat,
                planned.iterations[index].cell.factors(),
                0,
                f"2026-01-01T00:00:{10 * (index + 1):02d}+00:00",
                s,
                IterationState.OK,
            )
            for index, s in enumerate(seconds)
        ]
        run.save_session(planned, record)

    start = "2026-01-01T00:00:00+00:00"
    keep(whole, BootRecord(start, ended="2026-01-01T00:01:00+00:00", ready_seconds=4.0), [5.0])
    keep(halfway, BootRecord(start, ready_seconds=4.0), [5.0, 5.5])
    keep(booting, BootRecord(start, ready_seconds=4.0), [])
    assert run.present.wall_seconds == 60 + 25.5 + 4
    run.set_state(RunState.RUNNING, stopped=None, wall_seconds=500.0)
    assert run.present.wall_seconds == 500, "what earlier parts wrote counts where it is more"


def test_what_the_host_reached_is_kept_and_may_be_absent(run: RunDirectory) -> None:
    assert run.read_ceilings() == []
    run.write_ceilings([{"rw": "randread", "bs": "4k", "iodepth": 1, "iops": 5.5}])
    assert run.read_ceilings() == [{"rw": "randread", "bs": "4k", "iodepth": 1, "iops": 5.5}]


def test_the_time_of_a_run_that_was_cut_off_outlives_its_resumption(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r", wall_seconds=3.0)
    planned = run.plan.sessions[0]
    record = run.load_session(planned)
    start, end = "2026-01-01T00:00:00.000+00:00", "2026-01-01T00:00:10.000+00:00"
    record.boots.append(BootRecord(started=start, ended=end))
    run.save_session(planned, record)
    present = run.present
    assert present.state is RunState.INTERRUPTED
    with run.writing():
        run.keep_lost_time(present)
        assert run.record.wall_seconds == present.wall_seconds > 3.0
        # One that was not cut off is left as it is.
        run.keep_lost_time(run.record)
    assert run.record.wall_seconds == present.wall_seconds


def test_a_run_directory_is_this_users_own(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((run.path / "sessions").stat().st_mode) == 0o700
