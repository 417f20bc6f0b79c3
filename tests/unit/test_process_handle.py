"""A process is ended by what holds it, not by a number that may have become another's."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.adapters import hypervisor
from harness.adapters.hypervisor import Domain
from harness.adapters.process_handle import ProcessHandle

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 30.0
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
    """libvirt's connection, without events."""

    def domainEventRegisterAny(self, *_arguments: object) -> int:  # noqa: N802
        return 1

    def domainEventDeregisterAny(self, _callback: int) -> None:  # noqa: N802
        """Forget it."""


def domain_of(pid: int, monkeypatch: pytest.MonkeyPatch) -> Domain:
    monkeypatch.setattr(hypervisor, "_qemu_pid", lambda _uuid: pid)
    monkeypatch.setattr(hypervisor, "_ENDING_SECONDS", 0.05)
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
