"""A process is ended by what holds it, not by a number that may have become another's."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.adapters.domain import Domain
from harness.adapters.hypervisor import Hypervisor
from harness.adapters.libvirt_api import libvirt
from harness.adapters.process_handle import ProcessHandle
from harness.adapters.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG, SHORT = 30.0, 0.1
GONE = -1
"""What the kernel says instead of the number of a process that has ended and was waited for."""
IGNORES = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"


def handles_on(pid: int) -> list[str]:
    """The descriptors of this process that hold that one, whatever other files are opened meanwhile."""
    holding = []
    for path in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if f"\nPid:\t{pid}\n" in path.read_text():
                holding.append(path.name)
    return holding


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def deaf() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not hear SIGTERM."""
    with subprocess.Popen([sys.executable, "-c", IGNORES], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_it_ends_a_process_and_waits_until_it_has(sleeper: subprocess.Popen[bytes]) -> None:
    ProcessHandle(sleeper.pid).end(LONG)
    assert sleeper.poll() == -signal.SIGTERM


def test_it_does_not_wait_for_ever_and_asks_once(deaf: subprocess.Popen[bytes]) -> None:
    handle = ProcessHandle(deaf.pid)
    assert handles_on(deaf.pid)
    handle.end(0.01)
    assert deaf.poll() is None
    assert not handles_on(deaf.pid)
    handle.end(LONG)
    assert deaf.poll() is None


def test_it_kills_what_does_not_end_where_it_is_told_to(deaf: subprocess.Popen[bytes]) -> None:
    ProcessHandle(deaf.pid).end(0.05, kill=True)
    assert deaf.wait(LONG) == -signal.SIGKILL


def test_a_process_that_has_ended_meanwhile_is_fine_and_its_number_is_nobody(
    sleeper: subprocess.Popen[bytes],
) -> None:
    handle = ProcessHandle(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert handles_on(GONE)
    handle.end(LONG)
    assert not handles_on(GONE)
    # The number is free: whoever gets it next is none of ours.
    ProcessHandle(sleeper.pid).end(LONG)


class Handle:
    """libvirt's domain, as one that cannot end it."""

    def name(self) -> str:
        return "guest"

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return "no process has this"

    def destroy(self) -> None:
        """Leave it as it is."""


class Connection:
    """libvirt's connection; nobody but a test tells it what happens to a guest."""

    def __init__(self) -> None:
        self._on_lifecycle: Callable[..., None] | None = None

    def domainEventRegisterAny(  # noqa: N802
        self, _domain: Handle, event: int, callback: Callable[..., None], _opaque: object
    ) -> int:
        if event == libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE:
            self._on_lifecycle = callback
        return 1

    def see_the_end(self) -> None:
        """Tell whoever listens that the guest is gone."""
        assert self._on_lifecycle is not None
        self._on_lifecycle(
            self, None, libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, None
        )

    def domainEventDeregisterAny(self, _callback: int) -> None:  # noqa: N802
        """Forget it."""


def domain_of(pid: int, monkeypatch: pytest.MonkeyPatch) -> Domain:
    monkeypatch.setattr("harness.adapters.domain.qemu_pid", lambda _uuid: pid)
    monkeypatch.setattr("harness.adapters.domain._ENDING_SECONDS", 0.05)
    return Domain(Connection(), Handle())


def test_a_qemu_that_does_not_hear_is_killed(
    deaf: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    domain_of(deaf.pid, monkeypatch).destroy(timeout=1)
    assert deaf.wait(LONG) == -signal.SIGKILL


def test_who_has_the_number_of_a_qemu_by_now_is_left_alone(
    deaf: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "60"]) as qemu:
        domain = domain_of(qemu.pid, monkeypatch)
        qemu.kill()
    # As if the kernel had given the number to the next process.
    domain.pid = deaf.pid
    domain.destroy(timeout=1)
    assert deaf.poll() is None


class SlowHandle(Handle):
    """libvirt's domain, as one that takes its time to tidy up, and writes a last line to the log."""

    def __init__(self, log: Path) -> None:
        self.tidied = threading.Event()
        self._log = log

    def destroy(self) -> None:
        """Tidy up when it is told to."""
        assert self.tidied.wait(LONG)
        self._log.write_text("shutting down\n")


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SlowHandle]:
    handle = SlowHandle(tmp_path / "guest.log")
    yield handle
    handle.tidied.set()


class Starting(Connection):
    """libvirt's connection, as one that starts whatever it is given, and notes who is known when it does."""

    def __init__(self, handle: SlowHandle) -> None:
        super().__init__()
        self.forgotten_at_start: list[bool] = []
        self._handle = handle

    def createXML(self, _xml: str, _flags: int) -> Handle:  # noqa: N802
        self.forgotten_at_start.append(self._handle.tidied.is_set())
        return self._handle if len(self.forgotten_at_start) == 1 else Handle()

    def close(self) -> None:
        """Hang up."""


@pytest.fixture
def qemu(sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[bytes]:
    """The QEMU of every guest that starts."""
    monkeypatch.setattr("harness.adapters.domain.qemu_pid", lambda _uuid: sleeper.pid)
    monkeypatch.setattr("harness.adapters.domain._NOTICED_SECONDS", 0.0)
    return sleeper


@contextlib.contextmanager
def tidied_soon(handle: SlowHandle) -> Iterator[None]:
    """Have libvirt tidy up a tenth of a second from now."""
    timer = threading.Timer(0.1, handle.tidied.set)
    timer.start()
    yield
    timer.join()


@pytest.fixture
def started(
    slow: SlowHandle, tmp_path: Path, qemu: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Hypervisor, Domain, Starting]]:
    """A guest that was destroyed, whose QEMU is gone, and after which libvirt still tidies up."""
    connection = Starting(slow)
    monkeypatch.setattr("libvirt.open", lambda _uri: connection)
    with Hypervisor("test:///default", tmp_path) as opened:
        domain = opened.start("<domain><name>guest</name></domain>")
        qemu.kill()
        qemu.wait()
        domain.destroy()
        assert domain.is_known()
        yield opened, domain, connection
        slow.tidied.set()


def test_nobody_waits_for_libvirt_to_tidy_up_after_a_qemu_that_is_gone(
    started: tuple[Hypervisor, Domain, Starting], slow: SlowHandle, tmp_path: Path
) -> None:
    opened, domain, connection = started
    opened.start("<domain><name>another</name></domain>")
    assert connection.forgotten_at_start == [False, False]
    slow.tidied.set()
    domain.await_tidy()
    assert not domain.is_known()
    assert (tmp_path / "guest.log").exists()


class AskedHandle(Handle):
    """libvirt's domain, as one that notes that it is asked to end."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def destroy(self) -> None:
        self.asked.set()


def test_libvirt_is_asked_nothing_about_a_guest_before_it_has_seen_its_end(
    qemu: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.adapters.domain._NOTICED_SECONDS", LONG)
    connection, handle = Connection(), AskedHandle()
    domain = Domain(connection, handle, holds_files=False)
    qemu.kill()
    qemu.wait()
    domain.destroy()
    # The call would wait for the guest's lock, and the next guest's start for the call.
    assert not handle.asked.wait(SHORT)
    connection.see_the_end()
    assert handle.asked.wait(LONG)


def test_libvirt_is_asked_to_end_a_guest_whose_end_it_does_not_see(qemu: subprocess.Popen[bytes]) -> None:
    handle = AskedHandle()
    domain = Domain(Connection(), handle, holds_files=False)
    qemu.kill()
    qemu.wait()
    domain.destroy()
    assert handle.asked.wait(LONG)


class Reaped(Reaper):
    """A reaper that has seen every end."""

    def wait(self, pid: int, timeout: float) -> int | None:  # noqa: ARG002 - as the real one has it
        return 0


def test_a_log_that_is_not_kept_does_not_come_back_with_libvirts_last_line(
    slow: SlowHandle, tmp_path: Path, qemu: subprocess.Popen[bytes]
) -> None:
    log = tmp_path / "guest.log"
    domain = Domain(Connection(), slow, log=log, reaper=Reaped(), holds_files=False)
    qemu.kill()
    qemu.wait()
    domain.destroy()
    domain.forget_log()
    slow.tidied.set()
    domain.await_tidy()
    assert not log.exists()


def test_a_name_is_used_again_once_libvirt_has_forgotten_it(
    started: tuple[Hypervisor, Domain, Starting], slow: SlowHandle
) -> None:
    opened, _domain, connection = started
    with tidied_soon(slow):
        opened.start("<domain><name>guest</name></domain>")
    assert connection.forgotten_at_start == [False, True]


@pytest.mark.parametrize("device", ["<disk/>", "<hostdev/>"])
def test_what_a_guest_held_of_the_host_is_given_back_when_it_has_ended(
    slow: SlowHandle,
    tmp_path: Path,
    qemu: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
) -> None:
    monkeypatch.setattr("libvirt.open", lambda _uri: Starting(slow))
    with Hypervisor("test:///default", tmp_path) as opened:
        domain = opened.start(f"<domain><name>guest</name><devices>{device}</devices></domain>")
        qemu.kill()
        qemu.wait()
        with tidied_soon(slow):
            domain.destroy()
            assert slow.tidied.is_set()


def test_libvirt_is_asked_to_start_even_what_is_no_xml(
    started: tuple[Hypervisor, Domain, Starting],
) -> None:
    opened, _domain, connection = started
    opened.start("<domain>")
    assert len(connection.forgotten_at_start) == 2
