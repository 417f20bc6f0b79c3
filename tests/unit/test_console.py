"""What people see: plain lines where there is no terminal, and nothing that commands one."""

from __future__ import annotations

import errno
import io
import os
import pty
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pytest

from fakes import FakeLab, campaign, good, new_run, qemu_died
from harness.adapters.lab import console_tail
from harness.adapters.playbook_events import TaskEvent, TaskStatus
from harness.core.errors import GuestError, HarnessError, InputError, Problem
from harness.core.experiment.protocol import Protocol
from harness.core.mappings import Mappings
from harness.core.protocols import Execution
from harness.core.records import RunState
from harness.shell.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.core.model import Cell
    from harness.core.planning import PlannedSession

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def evil(session: PlannedSession, cell: Cell, count: int) -> Execution:
    """Fail with words that command a terminal, once in fio and once as the guest's end."""
    if count == 2:
        return Execution(1, "", "fio: \x1b]0;owned\x07\x1b[2J\x9b31m failed\n", MOMENT, 0.1)
    if count == 4:
        raise GuestError("the guest stopped by itself; its console ends:\nKernel \x1b[31mpanic\r")
    return good(session, cell, count)


def shown(
    tmp_path: Path, lab: FakeLab, *, quiet: bool = False, stream: io.StringIO | None = None
) -> tuple[str, list[str]]:
    """Return what a run prints, and the failures it ends with."""
    stream = stream or io.StringIO()
    run = new_run(tmp_path / "r")
    with Console(stream, quiet=quiet).progress() as progress:
        outcome = campaign(run, lab, emit=progress.emit, protocol=Protocol(retries=0))
    return stream.getvalue(), outcome.failures


def pipe_without_reader() -> TextIO:
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


def full_disk() -> TextIO:
    return Path("/dev/full").open("w")


def closed_terminal() -> TextIO:
    ours, theirs = pty.openpty()
    stream = os.fdopen(theirs, "w")
    os.close(ours)
    return stream


@pytest.mark.parametrize("log", [pipe_without_reader, full_disk, closed_terminal])
def test_a_run_goes_on_when_nobody_can_read_what_it_says(tmp_path: Path, log: Callable[[], TextIO]) -> None:
    run = new_run(tmp_path / "r")
    with log() as stream:
        with Console(stream).progress() as progress:
            outcome = campaign(run, FakeLab(), emit=progress.emit)
        # As at the end of the command: what was left unwritten fails no more.
        stream.flush()
    assert (outcome.state, outcome.stopped) == (RunState.FINISHED, "the plan is done")


class LostTerminal(Terminal):
    def write(self, text: str) -> int:
        raise OSError(errno.EIO, f"cannot show {text!r}")


def test_a_bar_goes_on_when_its_terminal_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    run = new_run(tmp_path / "r")
    with Console(LostTerminal()).progress() as progress:
        outcome = campaign(run, FakeLab(), emit=progress.emit)
    assert outcome.state is RunState.FINISHED


def test_elsewhere_than_on_a_terminal_there_is_a_plain_line_a_session(tmp_path: Path) -> None:
    text, _ = shown(tmp_path, FakeLab())
    lines = text.splitlines()
    assert lines[0] == "harness: 4 sessions in 2 blocks, 8 of 8 iterations to do"
    assert lines[-1] == "harness: ended: the plan is done"
    sessions = lines[1:-1]
    assert len(sessions) == 4
    assert re.fullmatch(r"harness: block 1/2, session 1/4 (OLD|NEW): up in 2\.0 s, left \?", sessions[0])
    # 2 s of booting for each session so far and 1 s an iteration: 2 of 8 are done, 6 to go.
    assert sessions[1].endswith("left 18 s")
    assert "\x1b" not in text


def test_a_run_that_goes_on_says_what_is_left_of_it(tmp_path: Path) -> None:
    def dies(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == 2:
            raise GuestError("gone")
        return good(session, cell, count)

    run, stream = new_run(tmp_path / "r"), io.StringIO()
    for lab in (FakeLab(dies), FakeLab()):
        with Console(stream).progress() as progress:
            campaign(run, lab, emit=progress.emit, protocol=Protocol(retries=0))
    assert "harness: 4 sessions in 2 blocks, 1 of 8 iterations to do" in stream.getvalue()
    assert f"harness: session {run.plan.sessions[0].directory} FAILED: gone" in stream.getvalue()


def test_rounds_say_how_far_the_pool_has_grown(tmp_path: Path) -> None:
    def grows(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == 3:
            raise qemu_died("failed to set up stack guard page")
        return replace(good(session, cell, count), mappings=Mappings(10_000 * count, 5_000 * count))

    run, stream = new_run(tmp_path / "r", blocks=1), io.StringIO()
    with Console(stream).progress() as progress:
        campaign(run, FakeLab(grows), emit=progress.emit, rounds=True)
    first, second = run.plan.sessions
    lines = stream.getvalue().splitlines()
    assert f"harness: {first.variant} round 1: 5,000 coroutines, 10,000 VMAs" in lines
    died = "QEMU died: SIGABRT (failed to set up stack guard page)"
    assert f"harness: session {second.directory}: {died}" in lines


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["file", "terminal"])
def test_nothing_from_a_guest_commands_the_terminal(
    tmp_path: Path, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text, failures = shown(tmp_path, FakeLab(evil), stream=stream)
    for line in [*text.splitlines(), *failures]:
        if "FAILED" in line or "Kernel" in line:
            # A line of its own: the bar's colours are the only escape sequences anywhere.
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", line.removeprefix("\x1b[2K")), repr(line)
    assert "fio: ?]0;owned??[2J?31m failed" in text
    assert "]0;owned\x07" not in text
    assert "Kernel ?[31mpanic?" in text
    assert len(failures) == 2


def test_the_console_of_a_guest_is_quoted_without_its_commands(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_bytes(b"\x1bc\x1b[?7lSeaBIOS\r\nKernel panic\n")
    assert console_tail(tmp_path / "console.log") == "; its console ends:\n?c?[?7lSeaBIOS\nKernel panic"
    assert console_tail(tmp_path / "absent") == "; its console is empty"


def shown_on(terminal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a good run writes to a terminal of that name."""
    monkeypatch.setenv("TERM", terminal)
    return shown(tmp_path, FakeLab(), stream=Terminal())[0]


def test_on_a_terminal_there_is_a_bar_with_block_cell_and_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown_on("xterm", tmp_path, monkeypatch)
    assert "block 1/2" in text
    assert "randread-4k-8" in text
    assert "8/8" in text
    assert "booting" in text


def test_a_terminal_that_cannot_draw_a_bar_gets_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown_on("dumb", tmp_path, monkeypatch)
    assert "block 1/2, session 1/4" in text
    assert "\x1b" not in text


def test_quiet_means_failures_and_nothing_else(tmp_path: Path) -> None:
    text, _ = shown(tmp_path, FakeLab(evil), quiet=True)
    assert [" FAILED: " in line for line in text.splitlines()] == [True, True, False]
    good_run, _ = shown(tmp_path / "good", FakeLab(), quiet=True)
    assert good_run == ""


def test_every_problem_of_an_input_has_its_remedy_below_it() -> None:
    stream = io.StringIO()
    problems = [Problem("x.yml: bs", "4q is no size", "write 4k"), Problem("x.yml: rw", "is \x1b[1mwrong")]
    Console(stream, quiet=True).error(InputError(problems))
    assert stream.getvalue().splitlines() == [
        "error: x.yml: bs: 4q is no size",
        "  remedy: write 4k",
        "error: x.yml: rw: is ?[1mwrong",
    ]


def test_an_error_is_its_cause_and_then_its_remedy() -> None:
    stream = io.StringIO()
    Console(stream).error(HarnessError("first\nsecond\x07", remedy="do this"))
    assert stream.getvalue().splitlines() == ["error: first", "second?", "  remedy: do this"]


def test_provisioning_shows_what_begins_and_what_changed() -> None:
    stream = io.StringIO()
    console = Console(stream)
    steps: list[tuple[TaskStatus, str]] = [
        (TaskStatus.STARTED, "Install packages"),
        (TaskStatus.OK, "Install packages"),
        (TaskStatus.CHANGED, "Build the image"),
        (TaskStatus.STARTED, "Validating arguments against arg spec 'main'"),
    ]
    for status, task in steps:
        console.task(TaskEvent("localhost", "host", task, status))
    assert stream.getvalue().splitlines() == [
        "harness: host: Install packages",
        "harness: changed [localhost] Build the image",
    ]
