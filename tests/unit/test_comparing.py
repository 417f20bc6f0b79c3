"""From run directories to a comparison: what is left out, what gives no verdict, what is said about it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from fakes import Behaviour, FakeClock, FakeLab, campaign, fio_json, new_run, qemu_died
from fio_writer import text as fio_text
from harness.adapters.results.store import RunDirectory
from harness.analysis.tables import render
from harness.core.errors import GuestError, InputError
from harness.core.model import Cell
from harness.core.protocols import Execution
from harness.core.records import RunState
from harness.shell.comparing import compare_run
from harness.shell.comparing_two import compare_two
from harness.shell.judging import TCG_NOTICE, Judgement
from resealed import rewrite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.core.planning import PlannedSession

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
SAME = {name: {"version": "QEMU 7.2", "sha256": "5" * 64} for name in ("OLD", "NEW")}


def speeds(iops: Mapping[str, float]) -> Behaviour:
    """Return what measures these IOPS by variant, a little more in every session."""

    def behave(session: PlannedSession, cell: Cell, _count: int) -> Execution:
        value = iops[session.variant] * (1 + session.number / 10_000)
        return Execution(0, fio_json(cell, value), "", MOMENT, 1.0)

    return behave


def measure(run: RunDirectory, behave: Behaviour, clock: FakeClock | None = None) -> None:
    campaign(run, FakeLab(behave), clock=clock)


def a_run(path: Path, *, old: float = 1000.0, new: float = 1100.0, blocks: int = 8, **head: Any) -> Path:
    run = new_run(path, blocks=blocks, **head)
    measure(run, speeds({"OLD": old, "NEW": new}))
    return path


def test_a_run_gives_its_table_with_verdicts(tmp_path: Path) -> None:
    comparison = compare_run(a_run(tmp_path / "r"), Judgement())
    frame = comparison.frames["NEW"]
    assert list(frame["iodepth"]) == [1, 8]
    assert list(frame["change"].round(3)) == [0.1, 0.1]
    assert set(frame["verdict"]) == {"faster"}
    assert comparison.no_verdict is None
    assert render(comparison, "commit") == (
        "      RW BLKSIZE IODEPTH  OLD  NEW CHANGE\n"
        "randread      4k       1 1001 1101 +10.0%\n"
        "randread      4k       8 1001 1101 +10.0%\n"
    )


def test_what_a_reader_must_know_stands_below_the_table(tmp_path: Path) -> None:
    footer = compare_run(a_run(tmp_path / "r"), Judgement()).footer
    assert footer[0].startswith("16 sessions in 8 interleaved blocks (seed 1), fio 32 s, wall ")
    assert footer[0].endswith("the plan is done.")
    assert footer[1:3] == ("OLD: QEMU of OLD", "NEW: QEMU of NEW")
    assert footer[3] == f"{TCG_NOTICE} Why: a test."
    assert len(compare_run(a_run(tmp_path / "kvm", accel="kvm"), Judgement()).footer) == 3


def test_the_experiments_margin_counts_unless_another_is_given(tmp_path: Path) -> None:
    path = a_run(tmp_path / "r", new=1000.0)
    assert set(compare_run(path, Judgement()).frames["NEW"]["verdict"]) == {"same"}
    assert set(compare_run(path, Judgement(margin=1e-6)).frames["NEW"]["verdict"]) == {"unclear"}


def test_a_build_without_any_number_leaves_nothing_to_compare(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")

    def only_old(session: PlannedSession, cell: Cell, _count: int) -> Execution:
        if session.variant == "NEW":
            raise GuestError("never up")
        return Execution(0, fio_json(cell), "", MOMENT, 1.0)

    measure(run, only_old)
    with pytest.raises(InputError, match="only OLD gave numbers so far") as caught:
        compare_run(run.path, Judgement())
    assert "--resume" in str(caught.value.problems[0].remedy)


def test_a_run_that_was_cut_off_says_so_below_its_table(tmp_path: Path) -> None:
    """Killed, or its disk full: run.json still says that it runs, and nobody writes it any more."""
    run = RunDirectory.open(a_run(tmp_path / "r", blocks=2))
    record = run.record
    record.state, record.stopped, record.wall_seconds = RunState.RUNNING, None, 0.0
    rewrite(run.path, "run.json", asdict(record))
    known = sum(run.load_session(planned).boot_seconds(0) for planned in run.plan.sessions)
    assert known > 8
    first = compare_run(run.path, Judgement()).footer[0]
    said = f"fio 8 s, wall {known:.0f} s; cut off: it was killed, or could not write how it ended."
    assert first.endswith(said)


def test_a_run_that_goes_on_shows_no_change_before_its_end(tmp_path: Path) -> None:
    run = RunDirectory.open(a_run(tmp_path / "r", blocks=2))
    other = a_run(tmp_path / "other", blocks=2)
    run.set_state(RunState.RUNNING, stopped=None, wall_seconds=0.0)
    with run.writing():
        with pytest.raises(InputError, match="is still being measured") as caught:
            compare_run(run.path, Judgement())
        with pytest.raises(InputError, match="is still being measured"):
            compare_two(other, run.path, Judgement())
    assert f"harness show {run.path}" in str(caught.value.problems[0].remedy)


def test_a_run_that_measured_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no accepted iteration yet") as caught:
        compare_run(new_run(tmp_path / "r").path, Judgement())
    assert caught.value.problems[0].remedy == f"finish it: harness run --resume {tmp_path / 'r'}"


def test_failed_iterations_are_named_and_never_counted(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r", blocks=8)
    fine = speeds({"OLD": 1000.0, "NEW": 1100.0})

    def sometimes(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == 3:
            return Execution(1, fio_json(cell, 0.0, error=5), "", MOMENT, 1.0)
        return fine(session, cell, count)

    measure(run, sometimes)
    comparison = compare_run(run.path, Judgement())
    assert list(comparison.frames["NEW"]["change"].round(3)) == [0.1, 0.1]
    named = [warning for warning in comparison.warnings if "fio reports error 5 (EIO)" in warning]
    assert len(named) == 1
    assert named[0].startswith(f"session {run.plan.sessions[1].directory}: ")


def repeated_later(path: Path, numbers: set[int], blocks: int) -> Path:
    """Return a run some sessions of which failed at first and were measured a day later."""
    run, fine = new_run(path, blocks=blocks), speeds({"OLD": 1000.0, "NEW": 1100.0})

    def unlucky(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if session.number in numbers:
            raise GuestError("died")
        return fine(session, cell, count)

    measure(run, unlucky)
    clock = FakeClock()
    clock.seconds = 86_400
    measure(run, fine, clock)
    return path


def test_a_block_whose_sessions_were_not_side_by_side_is_left_out_and_named(tmp_path: Path) -> None:
    comparison = compare_run(repeated_later(tmp_path / "r", {3}, 8), Judgement())
    assert "left out, since its sessions were not side by side: block 1" in comparison.warnings
    assert list(comparison.frames["NEW"]["n_blocks"]) == [7, 7]
    assert comparison.footer[0].startswith("14 sessions in 7 interleaved blocks")


def test_with_no_block_side_by_side_there_are_estimates_and_no_verdict(tmp_path: Path) -> None:
    # One session of each block was measured a day after the other.
    comparison = compare_run(repeated_later(tmp_path / "r", {1, 3}, 2), Judgement())
    assert comparison.verdicts() == {None}
    assert "did not run next to each other" in str(comparison.no_verdict)
    assert list(comparison.frames["NEW"]["change"].round(2)) == [0.1, 0.1]


def test_sessions_that_differ_in_more_than_the_build_give_no_verdict(tmp_path: Path) -> None:
    run = RunDirectory(a_run(tmp_path / "r"))
    planned = run.plan.sessions[0]
    record = run.load_session(planned)
    record.boots[0].facts = {"guest_kernel": "6.12"}
    run.save_session(planned, record)
    comparison = compare_run(run.path, Judgement())
    assert comparison.verdicts() == {None}
    assert "guest_kernel differs: 6.12 in session 000-OLD, 6.1 in session" in str(comparison.no_verdict)
    assert "--accept-differences" in str(comparison.no_verdict)


def test_differences_that_are_accepted_are_named_beside_the_verdicts(tmp_path: Path) -> None:
    run = RunDirectory(a_run(tmp_path / "r"))
    judgement = Judgement(accept_differences=True)
    assert not [w for w in compare_run(run.path, judgement).warnings if "accepted" in w]
    for planned in run.plan.sessions[:5]:
        record = run.load_session(planned)
        record.boots[0].facts |= {"host": {"ksm": str(planned.number)}, "guest_fio": str(planned.number)}
        run.save_session(planned, record)
    assert compare_run(run.path, Judgement()).verdicts() == {None}
    comparison = compare_run(run.path, judgement)
    assert set(comparison.frames["NEW"]["verdict"]) == {"faster"}
    (named,) = [warning for warning in comparison.warnings if "accepted" in warning]
    assert "host.ksm differs: 0 in session 000-OLD" in named
    assert "guest_fio differs" in named


def test_a_domain_that_differs_gives_no_verdict_until_it_is_accepted(tmp_path: Path) -> None:
    run = RunDirectory(a_run(tmp_path / "r"))
    for planned in run.plan.sessions:
        vcpus = 2 if planned.number == 3 else 1
        path = run.session_directory(planned) / "domain.xml"
        path.write_text(f"<domain><name>{planned.number}</name><vcpu>{vcpus}</vcpu></domain>")
    comparison = compare_run(run.path, Judgement())
    assert comparison.verdicts() == {None}
    assert "domain setting domain/vcpu differs: 1 in session 000-OLD, 2 in" in str(comparison.no_verdict)
    assert set(compare_run(run.path, Judgement(accept_differences=True)).frames["NEW"]["verdict"]) == {
        "faster"
    }


def test_a_hand_edited_result_is_refused_by_name(tmp_path: Path) -> None:
    path = a_run(tmp_path / "r", blocks=2)
    result = min(path.rglob("0000*.json"))
    result.write_text(result.read_text().replace("4096", "4097"))
    with pytest.raises(InputError, match=result.name):
        compare_run(path, Judgement())


def test_a_noise_floor_of_this_host_is_shown_beside_the_results(tmp_path: Path) -> None:
    floor = a_run(tmp_path / "aa", new=1000.0, builds=SAME)
    assert any(
        "A/A: both variants are the same build" in line for line in compare_run(floor, Judgement()).footer
    )
    path = a_run(tmp_path / "r", noise_floor=str(floor))
    recorded, chosen = compare_run(path, Judgement()), compare_run(path, Judgement(), floor)
    assert set(recorded.noise_floor) == {("randread", "4k", 1), ("randread", "4k", 8)}
    assert recorded.noise_floor == chosen.noise_floor
    assert all(0 <= value < 0.01 for value in recorded.noise_floor.values())


def test_a_build_called_faster_than_itself_is_named_a_false_alarm(tmp_path: Path) -> None:
    alarm = (
        "one build called faster than itself: a false alarm; chance alone does that in up to 5% of A/A runs"
    )
    called = compare_run(a_run(tmp_path / "aa", new=1100.0, builds=SAME), Judgement())
    assert called.warnings[0].startswith(alarm)
    still = compare_run(a_run(tmp_path / "still", new=1000.0, builds=SAME), Judgement())
    builds = compare_run(a_run(tmp_path / "r", new=1100.0), Judgement())
    assert not any("false alarm" in warning for warning in (*still.warnings, *builds.warnings))


def test_a_noise_floor_that_is_none_or_of_another_host_is_refused(tmp_path: Path) -> None:
    path, other = a_run(tmp_path / "r"), a_run(tmp_path / "other")
    with pytest.raises(InputError, match="is no A/A run: its variants are different builds"):
        compare_run(path, Judgement(), other)
    floor = RunDirectory(a_run(tmp_path / "aa", builds=SAME))
    host = floor.environment["host"]
    rewrite(floor.path, "environment.json", {"host": host | {"name": "elsewhere"}})
    with pytest.raises(InputError, match="of another host: host is elsewhere there and here here"):
        compare_run(path, Judgement(), floor.path)


def test_a_run_can_be_read_where_its_noise_floor_did_not_come_along(tmp_path: Path) -> None:
    floor = a_run(tmp_path / "aa", builds=SAME)
    path = a_run(tmp_path / "r", noise_floor=str(floor))
    shutil.rmtree(floor)
    comparison = compare_run(path, Judgement())
    assert comparison.noise_floor == {}
    assert f"the noise floor is not shown: its run directory {floor} is not here" in comparison.warnings
    # One that was asked for is another matter.
    with pytest.raises(InputError, match="does not exist"):
        compare_run(path, Judgement(), floor)


def test_two_runs_are_compared_without_a_verdict(tmp_path: Path) -> None:
    first, second = a_run(tmp_path / "1", old=1000.0), a_run(tmp_path / "2", old=1.0, new=1200.0)
    comparison = compare_two(first, second, Judgement())
    assert list(comparison.frames["NEW"]["change"].round(2)) == [0.2, 0.2]
    assert comparison.verdicts() == {None}
    assert f"NEW is NEW of {second}" in comparison.warnings


def test_a_run_and_a_csv_are_compared_without_a_verdict(tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text("rw,bs,iodepth,iops\nrandread,4k,1,2000\nrandread,4k,8,2000\n")
    comparison = compare_two(a_run(tmp_path / "r"), table, Judgement())
    assert list(comparison.frames["NEW"]["change"].round(1)) == [1.0, 1.0]
    assert comparison.verdicts() == {None}


def test_a_run_and_a_tree_of_fio_json_are_compared_without_a_verdict(tmp_path: Path) -> None:
    for depth in (1, 8):
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree" / f"{depth}.json").write_text(fio_text(iops=2000.0, iodepth=depth))
    comparison = compare_two(a_run(tmp_path / "r"), tmp_path / "tree", Judgement())
    assert list(comparison.frames["NEW"]["change"].round(1)) == [1.0, 1.0]
    assert comparison.factors == ()
    assert comparison.verdicts() == {None}


def test_a_number_stands_beside_a_crash_in_another_session(tmp_path: Path) -> None:
    def behave(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if (session.variant, session.block) == ("OLD", 2):
            raise qemu_died()
        return speeds({"OLD": 1000, "NEW": 1000})(session, cell, count)

    run = new_run(tmp_path / "r", blocks=8)
    measure(run, behave)
    text = render(compare_run(run.path, Judgement()), "text")
    row = next(line for line in text.splitlines() if "OLD crashed 1x" in line)
    assert row.split()[3].isdecimal()


def test_a_cell_in_which_qemu_died_says_crashed(tmp_path: Path) -> None:
    fatal = Cell("randread", "4k", 8)

    def behave(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if session.variant == "NEW" and cell == fatal:
            raise qemu_died()
        return speeds({"OLD": 1000, "NEW": 1000})(session, cell, count)

    run = new_run(tmp_path / "r", blocks=8)
    measure(run, behave)
    comparison = compare_run(run.path, Judgement())
    text = render(comparison, "text")
    rows = {line.split()[2]: line for line in text.splitlines() if line.startswith("randread")}
    assert "NEW crashed 8x" in rows["8"]
    assert rows["8"].split()[4] == "crashed"
    # Where it ran before the fatal one, there are numbers.
    assert rows["1"].split()[4].isdecimal()
    assert "session 001-NEW: the guest stopped by itself: QEMU died: SIGABRT" in text
    cells = {row["iodepth"]: row for row in json.loads(render(comparison, "json"))["cells"]}
    assert (cells[8]["crashed_baseline"], cells[8]["crashed_contender"]) == (0, 8)
    assert cells[8]["contender"] is None
