"""A session that the host failed is tried again: so often, marked, never where that would hide a crash."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fakes import FakeGuest, FakeLab, campaign, fio_json, good, new_run, qemu_died
from harness.adapters.files import sha256_of
from harness.adapters.results.samples import read_samples
from harness.core.errors import GuestError
from harness.core.experiment.protocol import Protocol
from harness.core.records import BootCause, IterationState, RunState, SessionState, boot_file
from harness.shell.campaign import Outcome
from harness.shell.cli.main import run_cli
from harness.shell.events import Event, SessionFailed
from harness.shell.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fakes import Behaviour
    from harness.core.model import Cell
    from harness.core.planning import PlannedSession
    from harness.core.protocols import Execution

SILENT = "the agent did not answer within 10 s; its console ends:\nlogin:"


def silent(session: int, times: int, at: int = 2) -> Behaviour:
    """Return what has one session's guest fall silent, in the n-th iteration of so many of its boots."""
    iterations, left = Counter[int](), [times]

    def behave(planned: PlannedSession, cell: Cell, count: int) -> Execution:
        iterations[planned.number] += 1
        if planned.number == session and left[0] and iterations[session] == at:
            left[0] -= 1
            iterations[session] -= 1
            raise GuestError(SILENT)
        return good(planned, cell, count)

    return behave


def test_what_is_missing_of_a_session_is_run_in_a_second_boot_and_the_first_stays_on_record(
    tmp_path: Path,
) -> None:
    run, lab, events = new_run(tmp_path / "r"), FakeLab(silent(1, times=1)), list[Event]()
    assert campaign(run, lab, emit=events.append) == Outcome(RunState.FINISHED, "the plan is done", [])
    planned = run.plan.sessions[1]
    record = run.load_session(planned)
    assert [(boot.cause, boot.failure) for boot in record.boots] == [
        (BootCause.FIRST, SILENT),
        (BootCause.REPEATED, None),
    ]
    assert [(entry.boot, entry.state) for entry in record.iterations] == [
        (0, IterationState.OK),
        (1, IterationState.OK),
    ]
    assert [cell for number, cell in lab.executed if number == 1] == [i.cell for i in planned.iterations]
    assert [event for event in events if isinstance(event, SessionFailed)] == [
        SessionFailed(planned, SILENT, again=True)
    ]


def test_whoever_reads_the_run_is_told_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = new_run(tmp_path / "r")
    campaign(run, FakeLab(silent(2, times=1)))
    name = run.plan.sessions[2].directory
    warnings = read_samples(run).warnings
    assert f"session {name}: the agent did not answer within 10 s" in warnings
    assert f"session {name} was repeated: its cells ran in 2 boots" in warnings
    assert f"1 session was repeated, after the host had failed it: {name}" in warnings
    assert [session["repeated"] for session in summarise(run)["sessions"]] == [0, 0, 1, 0]
    assert run_cli(["show", str(run.path)]) == 0
    assert f"repeated  {name}, after the host had failed it" in capsys.readouterr().out
    assert run_cli(["compare", str(run.path)]) == 0
    assert f"warning: 1 session was repeated, after the host had failed it: {name}" in capsys.readouterr().out


class LeavingLab(FakeLab):
    """Each boot leaves what a guest leaves; from the second boot on the domain has a virtual CPU more."""

    @contextmanager
    def session(self, planned: PlannedSession, directory: Path, *, boot: int = 0) -> Iterator[FakeGuest]:
        vcpus = 2 if boot else 1
        domain = f"<domain><name>{planned.directory}</name><vcpu>{vcpus}</vcpu></domain>"
        (directory / boot_file("domain.xml", boot)).write_text(domain)
        (directory / boot_file("console.log", boot)).write_text(f"boot {boot}\n")
        with super().session(planned, directory, boot=boot) as guest:
            yield guest


def test_what_the_first_boot_left_is_kept_and_the_second_boots_domain_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run(tmp_path / "r")
    campaign(run, LeavingLab(silent(2, times=1)))
    planned = run.plan.sessions[2]
    directory, files = run.session_directory(planned), run.load_session(planned).files
    assert sorted(files) == ["console-boot1.log", "console.log", "domain-boot1.xml", "domain.xml"]
    assert (directory / "console.log").read_text() == "boot 0\n"
    assert (directory / "console-boot1.log").read_text() == "boot 1\n"
    assert run_cli(["compare", str(run.path)]) == 0
    said = capsys.readouterr().out
    assert f"domain setting domain/vcpu differs: 1 in session {run.plan.sessions[0].directory}" in said
    assert f"2 in session {planned.directory} (boot 2)" in said

    # Each is held against its own checksum; only what gave numbers is read.
    second = directory / "domain-boot1.xml"
    second.write_text(second.read_text().replace("2", "1", 1))
    assert run_cli(["compare", str(run.path)]) == 2
    assert f"error: {second}: is not what was written" in capsys.readouterr().err
    second.unlink()
    assert run_cli(["compare", str(run.path)]) == 2
    assert f"error: {second}: does not exist" in capsys.readouterr().err
    assert len(list(run.mend())) == 1


def test_an_older_run_kept_only_the_domain_of_a_sessions_last_boot(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    campaign(run, LeavingLab(silent(2, times=1)))
    planned = run.plan.sessions[2]
    directory, record = run.session_directory(planned), run.load_session(planned)
    (directory / "domain-boot1.xml").replace(directory / "domain.xml")
    record.files = {"domain.xml": sha256_of(directory / "domain.xml")}
    run.save_session(planned, record)
    assert "<vcpu>2</vcpu>" in (run.read_domain_xml(planned, record, 1) or "")


@pytest.mark.parametrize(("retries", "boots"), [(0, 1), (1, 2), (3, 4)])
def test_it_is_tried_as_often_as_the_experiment_says_and_then_fails(
    tmp_path: Path, retries: int, boots: int
) -> None:
    run = new_run(tmp_path / "r")
    outcome = campaign(run, FakeLab(silent(0, times=99)), protocol=Protocol(retries=retries))
    assert (outcome.state, outcome.stopped) == (RunState.FAILED, "the plan is done")
    (failure,) = outcome.failures
    assert SILENT in failure
    record = run.load_session(run.plan.sessions[0])
    assert (record.state, len(record.boots)) == (SessionState.FAILED, boots)
    # A later run goes on with what is missing, and that is no repeat.
    assert campaign(run, FakeLab()).state is RunState.FINISHED
    assert run.load_session(run.plan.sessions[0]).boots[-1].cause is BootCause.RESUMED


def test_a_qemu_that_dies_is_never_tried_again(tmp_path: Path) -> None:
    def dies(planned: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == 2:
            raise qemu_died()
        return good(planned, cell, count)

    run = new_run(tmp_path / "r")
    assert campaign(run, FakeLab(dies), protocol=Protocol(retries=5)).state is RunState.FAILED
    assert len(run.load_session(run.plan.sessions[0]).boots) == 1


def test_fio_that_fails_is_not_tried_again_either(tmp_path: Path) -> None:
    def broken(planned: PlannedSession, cell: Cell, count: int) -> Execution:
        execution = good(planned, cell, count)
        if count == 1:
            return type(execution)(0, fio_json(cell, error=5), "", execution.started, 1.0)
        return execution

    run = new_run(tmp_path / "r")
    assert campaign(run, FakeLab(broken), protocol=Protocol(retries=5)).state is RunState.FAILED
    assert len(run.load_session(run.plan.sessions[0]).boots) == 1


@pytest.mark.parametrize("give_up_after", [1, 2, 4])
def test_a_build_that_never_boots_ends_the_run_after_the_stated_number_of_sessions(
    tmp_path: Path, give_up_after: int
) -> None:
    run, lab = new_run(tmp_path / "r", blocks=10), FakeLab(unbootable=frozenset({"OLD"}))
    protocol = Protocol(retries=2, give_up_after=give_up_after)
    outcome = campaign(run, lab, protocol=protocol)
    assert (
        f"{give_up_after} sessions of OLD in a row gave nothing (protocol.give_up_after): " in outcome.stopped
    )
    old = [name for name in lab.booted if name.endswith("OLD")]
    assert len(set(old)) == give_up_after
    # Only the first of them was tried again.
    assert len(old) == give_up_after + 2


def test_rounds_are_tried_again_only_where_nothing_was_seen_yet(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r", blocks=1)
    outcome = campaign(run, FakeLab(silent(0, times=1)), rounds=True)
    assert outcome.state is RunState.FAILED
    assert len(run.load_session(run.plan.sessions[0]).boots) == 1
