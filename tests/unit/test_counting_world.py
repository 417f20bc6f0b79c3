"""The edges of the counted world: processes beside the harness, io_uring denied, causes of death, threads."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from harness.adapters import process
from harness.adapters.guestless.bench import identified
from harness.adapters.guestless.callgrind import Counted, Thread, Valgrind, counting
from harness.adapters.guestless.io_uring import deny_io_uring
from harness.adapters.guestless.qtest import ConnectionLostError, QtestSocket
from harness.adapters.guestless.virtio_load import LoadResult
from harness.adapters.scratch import scratch, sweep
from harness.adapters.waiting import Stop
from harness.core.counting.failures import cause_of_death, cause_of_hang
from harness.core.counting.rig import Rig, RigFiles, arguments
from harness.core.errors import HarnessError, InputError, Interrupted
from harness.core.experiment import load_experiment
from harness.shell.counting import check_io_uring, io_uring_users

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = "name: t\nworkload: instructions\nbuilds: {OLD: {path: /old}, NEW: {path: /new}}\nbaseline: OLD\n"
SETUP = "import ctypes\nprint(ctypes.CDLL(None, use_errno=True).syscall(425, 4, None), ctypes.get_errno())"


def test_io_uring_is_denied_to_what_a_thread_starts_and_to_nobody_else() -> None:
    found: list[str] = []

    def start() -> None:
        deny_io_uring()
        deny_io_uring()
        found.append(process.run([sys.executable, "-c", SETUP]).stdout)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert found == [f"-1 {errno.ENOSYS}\n"]
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(425, 4, None) == -1
    here = ctypes.get_errno()
    without = subprocess.run([sys.executable, "-c", SETUP], capture_output=True, text=True, check=True)
    assert without.stdout == f"-1 {here}\n", "this thread is as it was"


def state_of(pid: int) -> str | None:
    """Return the kernel's letter for what a process does; None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_what_is_left_of_a_process_is_killed_with_its_children(tmp_path: Path) -> None:
    script = "sleep 600 & echo $!; wait"
    with process.background(["sh", "-c", script], output=tmp_path / "log") as running:
        assert running.ended() is None
        assert running.wait(0.01) is None
        wait_until(lambda: bool((tmp_path / "log").read_text().strip()))
        child = int((tmp_path / "log").read_text())
    assert running.ended() == -9
    wait_until(lambda: state_of(child) in {None, "Z"})


def test_a_process_has_the_environment_it_is_given_and_no_other(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "A": "b"}
    with process.background(["env"], output=tmp_path / "log", env=environment) as running:
        assert running.wait(10) == 0
    assert set((tmp_path / "log").read_text().splitlines()) == {f"PATH={os.environ['PATH']}", "A=b"}


def in_a_thread(directory: Path, argv: list[str], stop: Stop, timeout: float) -> Exception:
    """Run a command as a count does, in a thread of its own: io_uring stays denied in it."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            with counting(argv, directory, stop=stop, timeout=timeout) as counted:
                counted.until(lambda: False, "waiting for nothing")
        except HarnessError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0]


def test_why_a_counted_process_ended_is_said(tmp_path: Path) -> None:
    error = in_a_thread(tmp_path, ["sh", "-c", "echo no such device; exit 3"], Stop(), 60)
    assert str(error) == "while waiting for nothing: it ended early (exit code 3)\n  no such device"


def test_a_counted_process_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    error = in_a_thread(tmp_path, ["sleep", "600"], Stop(), 2)
    assert "no end after 2 s, while waiting for nothing" in str(error)
    assert "(threads: sleep S)" in str(error)
    assert isinstance(error, HarnessError)
    assert error.remedy
    assert "instructions.timeout" in error.remedy


def test_an_interrupt_ends_a_count(tmp_path: Path) -> None:
    stop = Stop()
    stop.set()
    assert isinstance(in_a_thread(tmp_path, ["sleep", "600"], stop, 60), Interrupted)


def test_no_valgrind_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HarnessError, match="valgrind is not installed") as caught:
        Valgrind.find()
    assert caught.value.remedy
    assert "harness provision" in caught.value.remedy


@pytest.mark.parametrize(
    ("said", "code", "message", "remedy"),
    [
        ("==7== \nqemu: -qtest: invalid option", 1, "no -qtest option", "softmmu"),
        (
            "vex amd64->IR: unhandled\n==7== valgrind: unrecognised instruction at 0x1",
            -4,
            "instruction",
            "march",
        ),
        ("", -4, "does not know an instruction", "baseline CPU"),
        ("qemu: failed to init linux io_uring ring: Function not implemented", 1, "io_uring", "aio: native"),
        ("qemu-img: Command not found: bench", 1, "no `bench`", "qemu-img 2.6"),
        ("x: error while loading shared libraries: libaio.so.1: cannot open", 127, "library", "install"),
        ("invalid accelerator tcg", 1, "no TCG", "--enable-tcg"),
    ],
)
def test_causes_of_death(said: str, code: int, message: str, remedy: str) -> None:
    cause = cause_of_death(said, code)
    assert message in cause.message
    assert cause.remedy
    assert remedy in cause.remedy


def test_a_thread_that_waits_in_io_uring_is_named_as_the_cause() -> None:
    hang = cause_of_hang(waits_in_io_uring=True)
    assert "io_uring" in hang.message
    assert hang.remedy
    assert "--disable-linux-io-uring" in hang.remedy


# -- which thread is which -----------------------------------------------------------------------------------


def threads(*names: str) -> list[Thread]:
    return [Thread(name, "S", (1, 1)) for name in names]


def outputs(directory: Path, *texts: str) -> dict[int, Path]:
    found = {}
    for number, text in enumerate(texts, 1):
        found[number] = directory / f"callgrind.out-{number:02d}"
        found[number].write_text(text)
    return found


def test_the_iothread_is_found_by_name_and_by_what_it_did(tmp_path: Path) -> None:
    files = outputs(tmp_path, "main", "rcu", "fn=(1) virtqueue_pop", "cpu", "worker")
    result = LoadResult(threads("qemu", "qemu", "IO io0", "CPU 0/TCG"), files, [])
    found = identified(result, ("io0",))
    assert [(thread.name, thread.counted) for thread in found] == [
        ("main", False), ("thread 2", False), ("IO io0", True), ("CPU 0/TCG", False), ("worker 5", False)
    ]  # fmt: skip
    assert [thread.counted for thread in identified(result, ("io0",))] == [False, False, True, False, False]


def test_threads_whose_order_contradicts_what_they_did_are_not_trusted(tmp_path: Path) -> None:
    files = outputs(tmp_path, "main", "fn=(1) virtqueue_pop", "nothing")
    result = LoadResult(threads("qemu", "qemu", "IO io0"), files, [])
    with pytest.raises(HarnessError, match="cannot be trusted"):
        identified(result, ("io0",))
    with pytest.raises(HarnessError, match="no thread is called IO io1"):
        identified(result, ("io1",))


def test_the_main_loop_is_counted_where_there_is_no_iothread(tmp_path: Path) -> None:
    files = outputs(tmp_path, "fn=(1) virtqueue_pop", "cpu")
    found = identified(LoadResult(threads("qemu", "CPU 0/TCG"), files, []), ())
    assert [(thread.name, thread.counted) for thread in found] == [("main", True), ("CPU 0/TCG", False)]


# -- the qtest socket ----------------------------------------------------------------------------------------


def test_interrupts_between_answers_are_passed_over() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"IRQ raise 11\nOK 0x")
        there.sendall(b"1f\nOK\n")
        qtest = QtestSocket(here)
        assert qtest.read_port(4, 0xCFC) == 0x1F
        qtest.write_memory(2, 0xE0003000, 0)
        assert there.recv(100) == b"inl 0xcfc\nwritew 0xe0003000 0x0\n"


def test_a_refusal_and_a_closed_socket_are_errors_with_the_command() -> None:
    here, there = socket.socketpair()
    with here:
        there.sendall(b"FAIL Unknown command 'outl'\n")
        with pytest.raises(HarnessError, match=r"outl 0xcf8 0x0.*FAIL Unknown command"):
            QtestSocket(here).write_port(4, 0xCF8, 0)
        there.close()
        with pytest.raises(ConnectionLostError, match="inl 0xcfc"):
            QtestSocket(here).read_port(4, 0xCFC)


# -- QEMU's arguments ----------------------------------------------------------------------------------------


def rig_arguments(text: str) -> str:
    experiment = load_experiment(HEAD + text, "t.yml")
    rig = Rig("q35", experiment.disk, "/d,isk.raw", disks=experiment.instructions.disks, packed=True)
    return " ".join(arguments(rig, RigFiles("bios", "memory", "qtest"), memory=64 * 2**20))


def test_disks_share_an_iothread_and_have_slots_of_their_own() -> None:
    argv = rig_arguments("instructions: {disks: 2}\ndisk: {queues: 4}")
    # QEMU before 6.2 takes no JSON here.
    assert argv.count("-device virtio-blk-pci,id=") == 2
    assert argv.count(",iothread=io0") == 2
    assert argv.count(",num-queues=4,") == 2
    assert ",addr=0x4,packed=on" in argv
    assert ",addr=0x5,packed=on" in argv
    assert "iothread,id=io0,poll-max-ns=0" in argv


def test_several_disks_take_the_iothreads_in_turn() -> None:
    argv = rig_arguments("instructions: {disks: 3}\ndisk: {iothreads: 2}")
    assert re.findall(r"iothread=(io\d)", argv) == ["io0", "io1", "io0"]
    with pytest.raises(InputError, match="4 IOThreads, of which a disk"):
        rig_arguments("instructions: {disks: 3}\ndisk: {iothreads: 4}")


def test_queues_that_are_spread_over_iothreads_are_said_in_json() -> None:
    argv = rig_arguments("disk: {iothreads: 2, iothread_mapping: true, queues: 2}")
    assert '"iothread-vq-mapping": [{"iothread": "io0"}, {"iothread": "io1"}]' in argv
    assert '"packed": true' in argv


def test_a_file_is_opened_as_the_experiment_says() -> None:
    argv = rig_arguments("disk: {backend: file, format: qcow2, cache: writeback, aio: threads, iothreads: 0}")
    assert '"driver": "qcow2"' in argv
    assert '"filename": "/d,isk.raw"' in argv
    assert '"direct": false' in argv
    assert "iothread" not in argv.replace("iothreads", "")


def test_a_process_that_ends_just_after_it_was_looked_at_ended_by_itself(tmp_path: Path) -> None:
    class Slow:
        """Ends in the moment after the first look."""

        pid, looks = 0, 0

        def wait(self, _seconds: float) -> int | None:
            self.looks += 1
            return None if self.looks == 1 else 0

        def ended(self) -> int | None:
            return 0

    assert Counted(cast("process.Background", Slow()), tmp_path, Stop(), 60).wait() == 0


def test_nothing_is_waited_for_that_is_there(tmp_path: Path) -> None:
    with process.background(["sleep", "600"], output=tmp_path / "output.log") as running:
        counted = Counted(running, tmp_path, Stop(), 60)
        counted.until(lambda: True, "nothing")
        counted.settle("nothing")
        assert [thread.name for thread in counted.threads()][-1] in {"sleep", "setpriv"}


# -- scratch directories -------------------------------------------------------------------------------------


def test_scratch_of_killed_counts_is_swept_and_that_of_others_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "import os, signal, tempfile; from harness.adapters.scratch import scratch\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "with scratch() as directory:\n"
        "    (directory / 'memory').touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    with scratch() as mine:
        sweep()
        assert list(tmp_path.iterdir()) == [mine]
    assert list(tmp_path.iterdir()) == []


def test_traps_in_the_shared_directory_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    victim, trap = tmp_path / "victim", tmp_path / "ab-scratch-trap"
    trap.mkdir()
    (trap / "lock").symlink_to(victim)
    with monkeypatch.context() as another_user:
        another_user.setattr(os, "geteuid", lambda: 12345)
        sweep()
    assert trap.exists()
    # Nor is a link followed in a directory that is this user's.
    sweep()
    assert not victim.exists()


# -- what valgrind is asked for ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "knows"),
    [("valgrind-3.19.0", False), ("valgrind-3.24.0", True), ("valgrind-4.0", True), ("nothing known", False)],
)
def test_which_valgrind_counts_io_uring(version: str, *, knows: bool) -> None:
    assert Valgrind("valgrind", version).knows_io_uring is knows


@pytest.mark.parametrize(
    ("text", "users"),
    [
        ("disk: {backend: file, aio: io_uring}", 1),
        ("disk: {backend: file}\nmatrix: {aio: [native, io_uring]}", 1),
        ("disk: {backend: file, aio: native}", 0),
        ("disk: {backend: null-co, aio: io_uring}", 0),
    ],
)
def test_io_uring_is_refused_by_an_older_valgrind_before_anything_is_counted(text: str, users: int) -> None:
    experiment = load_experiment(HEAD + text, "t.yml")
    assert len(io_uring_users(experiment)) == users
    check_io_uring(experiment, Valgrind("valgrind", "valgrind-3.24.0"))
    if users:
        with pytest.raises(
            InputError, match=r"aio: io_uring cannot be counted by valgrind-3\.19\.0"
        ) as caught:
            check_io_uring(experiment, Valgrind("valgrind", "valgrind-3.19.0"))
        assert "3.24" in (caught.value.problems[0].remedy or "")
    else:
        check_io_uring(experiment, Valgrind("valgrind", "valgrind-3.19.0"))


def test_caches_are_the_same_everywhere_and_simulated_only_where_asked_for(tmp_path: Path) -> None:
    plain = Valgrind("valgrind", "3").command(["qemu"], tmp_path)
    simulated = Valgrind("valgrind", "3", simulates=True).command(["qemu"], tmp_path)
    added = [argument for argument in simulated if argument not in plain]
    assert "--cache-sim=yes" in added
    assert {argument.partition("=")[0] for argument in added} >= {"--I1", "--D1", "--LL"}
    assert simulated[-1] == "qemu"


@pytest.mark.parametrize(("hard", "raised"), [(resource.RLIM_INFINITY, True), (8 * 2**20, False)])
def test_stacks_are_put_high_where_the_host_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard: int, *, raised: bool
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _limit: (8 * 2**20, hard))
    argv = Valgrind("valgrind", "3").command(["qemu"], tmp_path)
    assert (argv[0] == "prlimit") is raised
    assert "valgrind" in argv
