"""Starts a guest without waiting for ever: libvirt's own call cannot be told to end.

A QEMU that hangs while libvirt asks what it can do, or before its monitor answers, holds the call up for
good. So the call is made in a thread; when its time is over, what it waits for is killed, and it returns.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from harness.adapters.host.processes import every_pid, head_of
from harness.adapters.waiting import Waiter
from harness.core.errors import GuestError, HarnessError, HypervisorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.adapters.domain import Domain
    from harness.adapters.hypervisor import Hypervisor
    from harness.core.model import BuildRecord
    from harness.core.protocols import StopSignal

_T = TypeVar("_T")

_LEAST_SECONDS = 60.0
"""For libvirt to ask a QEMU that it does not know what it can do, whatever a guest may take to boot."""

_GRACE_SECONDS = 15.0
"""For libvirt to notice that what it waited for is dead, and to clean up."""


class Call(Generic[_T]):
    """A call that blocks, made in a thread of its own.

    Args:
        function: what is called.
        on_end: called, in that thread, when it has ended.
    """

    def __init__(self, function: Callable[[], _T], on_end: Callable[[], None] = lambda: None) -> None:
        self._function, self._on_end = function, on_end
        self._result: list[_T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="call", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self._function())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self._error = error
        self._on_end()

    def ended(self) -> bool:
        """Return whether it has ended."""
        return bool(self._result) or self._error is not None

    def wait(self, seconds: float) -> bool:
        """Wait for its end; return False when it did not come in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> _T:
        """Return what the call returned, or raise what it raised, once it has ended."""
        if self._error is not None:
            raise self._error
        return self._result[0]


def start_domain(
    hypervisor: Hypervisor, xml: str, build: BuildRecord, *, timeout: float, stop: StopSignal
) -> Domain:
    """Start a guest; it runs when this returns.

    Args:
        hypervisor: the libvirt.
        xml: of the domain.
        build: whose QEMU it starts.
        timeout: seconds; raised to a minute where it is less.
        stop: the user's wish to end.

    Raises:
        GuestError: it was refused, or did not come up in time.
        HypervisorError: libvirt does not answer any more.
        Interrupted: the user stopped it.
    """
    timeout = max(timeout, _LEAST_SECONDS)
    waiter = Waiter(stop, threading.Event(), lambda: GuestError("the guest stopped"))
    call = Call(lambda: hypervisor.start(xml), waiter.wake)
    try:
        in_time = waiter.until(call.ended, timeout)
    except HarnessError:
        _give_up(call, build)
        raise
    finally:
        waiter.close()
    if not in_time:
        _give_up(call, build)
        raise GuestError(
            f"{build.name}: QEMU did not come up within {timeout:.0f} s: it hangs while libvirt asks what it "
            "can do, or before its monitor answers",
            remedy=f"try it by hand: {build.emulator} -S -machine none -nographic -monitor stdio",
        )
    try:
        return call.result()
    except HypervisorError as error:
        raise GuestError(f"{build.name}: {error.message}") from error


def _give_up(call: Call[Domain], build: BuildRecord) -> None:
    """End a start that is under way: no guest is left behind, and libvirt goes on.

    Raises:
        HypervisorError: libvirt does not return from it.
    """
    for pid in _processes_of(build):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    if not call.wait(_GRACE_SECONDS):
        raise HypervisorError(
            f"libvirt does not come back from starting a guest on {build.name}",
            remedy="look for processes that hang (ps -eo pid,stat,wchan:20,args); with qemu:///system, "
            "restart virtqemud or libvirtd",
        )
    with contextlib.suppress(HarnessError):
        call.result().destroy()


def _processes_of(build: BuildRecord) -> list[int]:
    """Return the processes of a build among this process's descendants."""
    parents, found = _parents(), []
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid() and pid != ancestor and _runs(pid, build):
            found.append(pid)
    return found


def _runs(pid: int, build: BuildRecord) -> bool:
    with contextlib.suppress(OSError):
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        program = os.path.realpath(f"/proc/{pid}/exe")
        # A launcher that has not got to its exec yet has its own path there.
        return build.emulator in argv or program == os.path.realpath(build.binary)
    return False


def _parents() -> dict[int, int]:
    """Return the parent of every process."""
    heads = {pid: head_of(pid) for pid in every_pid()}
    return {pid: head.parent for pid, head in heads.items() if head is not None}
