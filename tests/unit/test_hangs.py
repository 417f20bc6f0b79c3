"""What hangs is noticed, said and ended: playbooks, calls into libvirt, what a playbook left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fakes import FakeStop
from harness.adapters import starting
from harness.adapters.leftovers import MARK, end_marked
from harness.adapters.progress import Progress
from harness.adapters.starting import Call, start_domain
from harness.adapters.waiting import Stop
from harness.core.errors import GuestError, HypervisorError, Interrupted
from harness.core.experiment import load_experiment
from harness.core.model import BuildRecord
from harness.shell.provisioning import task_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_playbook_that_does_something_is_not_stuck() -> None:
    clock = Clock()
    progress = Progress(10, clock)
    for _step in range(5):
        clock.now += 9
        assert not progress.is_stuck()
        progress.step()
    clock.now += 11
    assert progress.is_stuck()


def test_a_stuck_playbook_is_named_by_its_task_with_the_last_that_ended() -> None:
    progress = Progress(1800, Clock())
    assert progress.words() == "the playbook, before its first task, made no progress for 30 min 00 s"
    for number in range(7):
        progress.begins(f"host : Task {number}")
        progress.ends(f"host : Task {number} on localhost", "ok")
    progress.begins("host : Install")
    first, *last = progress.words().splitlines()
    assert first == "task 'host : Install' made no progress for 30 min 00 s; the last that ended:"
    assert last == [f"  ok host : Task {number} on localhost" for number in range(2, 7)]


EXPERIMENT = """\
name: x
builds: {{OLD: {{path: /old}}, NEW: {new}}}
baseline: OLD
matrix: {{rw: randread, bs: 4k, iodepth: 1}}
{more}
"""


@pytest.mark.parametrize(
    ("new", "more", "seconds"),
    [
        ("{package: qemu-system-x86}", "", 1800),
        ("{git: /src/qemu}", "", 4 * 3600),
        ("{git: /src/qemu}", "timeouts: {task: 90m}", 5400),
    ],
)
def test_a_task_may_take_what_the_experiment_has_to_do(new: str, more: str, seconds: float) -> None:
    assert task_seconds(load_experiment(EXPERIMENT.format(new=new, more=more), "x.yml")) == seconds


def test_a_count_may_take_what_its_requests_take() -> None:
    text = EXPERIMENT.format(new="{path: /new}", more="workload: instructions")
    assert load_experiment(text, "x.yml").instructions.count_seconds == pytest.approx(123.2)
    more = f"{text}instructions: {{requests: 1000000}}\n"
    assert load_experiment(more, "x.yml").instructions.count_seconds == pytest.approx(4120)


STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
)


def test_what_a_playbook_left_behind_is_killed_where_asking_does_not_help() -> None:
    environment = {**os.environ, MARK: "test-hangs"}
    argv = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        waiting = threading.Thread(target=process.wait)
        waiting.start()
        assert end_marked("test-hangs") == 1
        waiting.join()
        assert process.returncode == -signal.SIGKILL
    assert end_marked("test-hangs") == 0


def test_a_call_gives_what_it_returned_or_raised() -> None:
    def fail() -> None:
        raise ValueError("no")

    ended: list[int] = []
    good = Call(lambda: 5, lambda: ended.append(1))
    assert good.wait(10)
    assert (good.ended(), good.result(), ended) == (True, 5, [1])
    bad = Call(fail)
    assert bad.wait(10)
    with pytest.raises(ValueError, match="no"):
        bad.result()


class HangingLibvirt:
    """A libvirt whose start does not return before the process that it waits for is dead."""

    def __init__(self, emulator: str, *, returns: bool = True) -> None:
        self.emulator, self.returns = emulator, returns
        self.started = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.over = threading.Event()

    def start(self, _xml: str) -> None:
        self.process = subprocess.Popen([self.emulator, "60"])
        self.started.set()
        self.process.wait()
        if not self.returns:
            self.over.wait(60)
        raise HypervisorError("internal error: process exited while connecting to monitor")


@pytest.fixture
def build(tmp_path: Path) -> BuildRecord:
    emulator = tmp_path / "qemu"
    emulator.symlink_to("/bin/sleep")
    return BuildRecord("OLD", "path", str(emulator), str(tmp_path / "none"), "ab", "QEMU")


def start(libvirt: HangingLibvirt, build: BuildRecord, stop: Stop | FakeStop) -> None:
    start_domain(libvirt, "<domain/>", build, timeout=0.5, stop=stop)  # type: ignore[arg-type]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_LEAST_SECONDS", 0.5)
    monkeypatch.setattr(starting, "_GRACE_SECONDS", 2.0)


@pytest.mark.usefixtures("impatient")
def test_a_qemu_that_hangs_at_its_start_is_killed_and_its_session_fails(build: BuildRecord) -> None:
    libvirt = HangingLibvirt(build.emulator)
    with pytest.raises(GuestError, match="OLD: QEMU did not come up within 0 s: it hangs while") as caught:
        start(libvirt, build, FakeStop())
    assert build.emulator in str(caught.value.remedy)
    assert libvirt.process
    assert libvirt.process.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("impatient")
def test_a_libvirt_that_does_not_come_back_ends_the_run(build: BuildRecord) -> None:
    libvirt = HangingLibvirt(build.emulator, returns=False)
    with pytest.raises(HypervisorError, match="libvirt does not come back from starting a guest on OLD"):
        start(libvirt, build, FakeStop())
    libvirt.over.set()


def test_a_start_that_hangs_can_be_interrupted(build: BuildRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_LEAST_SECONDS", 60.0)
    libvirt, stop = HangingLibvirt(build.emulator), Stop()

    def interrupt() -> None:
        libvirt.started.wait(10)
        # Its name is its own only after its exec.
        time.sleep(0.2)
        stop.set()

    threading.Thread(target=interrupt).start()
    with pytest.raises(Interrupted):
        start(libvirt, build, stop)
    assert libvirt.process
    assert libvirt.process.returncode == -signal.SIGKILL


FOREIGN = """
import subprocess, sys
# Or whoever reads this one's output waits for its end.
nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
print(subprocess.Popen([sys.argv[1], "60"], start_new_session=True, **nowhere).pid)
"""


@pytest.fixture
def no_orphans() -> Iterator[None]:
    """Let orphans go to whom the system gives them, also where a test before had this process adopt them."""
    process = ctypes.CDLL(None, use_errno=True)
    adopts = ctypes.c_int()
    assert process.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts), 0, 0, 0) == 0
    assert process.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0
    yield
    process.prctl(PR_SET_CHILD_SUBREAPER, adopts.value, 0, 0, 0)


@pytest.mark.usefixtures("impatient", "no_orphans")
def test_nobody_elses_process_of_that_build_is_touched(build: BuildRecord) -> None:
    """Those of other people who run the same QEMU are no descendants of this process."""
    argv = [sys.executable, "-c", FOREIGN, build.emulator]
    # Its parent ends at once: it becomes a child of whoever adopts orphans.
    pid = int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    try:
        with pytest.raises(GuestError):
            start(HangingLibvirt(build.emulator), build, FakeStop())
        os.kill(pid, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
