"""One running guest, as libvirt sees it: its agent, its monitor, its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters.host.processes import head_of, still_runs
from harness.adapters.libvirt_api import libvirt, libvirt_qemu
from harness.adapters.libvirt_text import read_answer
from harness.adapters.process_handle import ProcessHandle
from harness.core.errors import HypervisorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.adapters.reaper import Reaper

KILLED_SECONDS = 5.0
"""For a process that was killed to be gone."""

_ENDING_SECONDS = 0.5
"""For QEMU to end by itself when it is told to, as it does in a hundredth of that unless it hangs."""

_NOTICED_SECONDS = 2.0
"""For libvirt to see by itself that a QEMU is gone; it takes 0.2 s."""

_TIDY_SECONDS = 15.0
"""For libvirt to tidy up after a QEMU that is gone."""


class Domain:
    """One running guest, as libvirt sees it.

    Args:
        connection: libvirt's connection.
        handle: libvirt's domain.
        log: where libvirt keeps QEMU's error output; None when that is on another host.
        reaper: sees the end of QEMU's process, where QEMU descends from this one.
        holds_files: whether it has disks or devices of the host, which libvirt gives back to their owner.

    Attributes:
        agent_connected: set when the guest agent is there.
        stopped: set when the guest is gone.
        failed: whether libvirt calls its end a failure.
    """

    def __init__(
        self,
        connection: Any,
        handle: Any,
        *,
        log: Path | None = None,
        reaper: Reaper | None = None,
        holds_files: bool = True,
    ) -> None:
        self._connection = connection
        self._handle = handle
        self._reaper = reaper
        self._holds_files = holds_files
        self.log = log
        self.name: str = handle.name()
        self.uuid: str = handle.UUIDString()
        self.pid = qemu_pid(self.uuid)
        self._process = None if self.pid is None else ProcessHandle(self.pid)
        head = None if self.pid is None else head_of(self.pid)
        self._began = head.began if head else None
        self.agent_connected = threading.Event()
        self.stopped = threading.Event()
        self.failed = False
        self._listeners: list[Callable[[], None]] = []
        self._tidying: threading.Thread | None = None
        self._log_is_kept = True
        self._callbacks = [
            connection.domainEventRegisterAny(
                handle, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._on_agent, None
            ),
            connection.domainEventRegisterAny(
                handle, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None
            ),
        ]

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call a function, in another thread, whenever the agent connects or the guest stops."""
        self._listeners.append(listener)
        if not self.is_running():
            self._tell(self.stopped)

    def is_running(self) -> bool:
        """Return whether the guest is still there."""
        try:
            return bool(self._handle.isActive())
        except libvirt.libvirtError:
            return False

    def agent(self, command: dict[str, Any], timeout: float) -> Any:
        """Send one command to the guest agent and return its answer's ``return``.

        Raises:
            HypervisorError: no answer in time, none that can be read, or the agent's own error.
        """
        try:
            answer = libvirt_qemu.qemuAgentCommand(
                self._handle, json.dumps(command), max(1, round(timeout)), 0
            )
        except libvirt.libvirtError as error:
            raise HypervisorError(f"guest agent: {error.get_error_message()}") from error
        return read_answer("guest agent", answer)

    def monitor(self, command: dict[str, Any]) -> Any:
        """Send one QMP command to QEMU and return its answer's ``return``.

        Raises:
            HypervisorError: QEMU refused it, or its answer cannot be read.
        """
        try:
            answer = libvirt_qemu.qemuMonitorCommand(self._handle, json.dumps(command), 0)
        except libvirt.libvirtError as error:
            raise HypervisorError(f"QMP: {error.get_error_message()}") from error
        return read_answer("QMP", answer)

    def exit_status(self, timeout: float = 2.0) -> int | None:
        """Return how QEMU's process ended: its exit code, or minus its signal; None when nobody saw it."""
        if self._reaper is None or self.pid is None:
            return None
        return self._reaper.wait(self.pid, timeout)

    def destroy(self, timeout: float = 30.0) -> None:
        """End the guest and wait until its process is gone; a guest that is gone already is fine.

        libvirt tidies up after it. Where that gives nothing back to the host, nobody waits for it: see
        `await_tidy`.

        Raises:
            HypervisorError: its process is still there after ``timeout`` seconds: nothing may be measured.
        """
        # libvirt asks QEMU to end likewise, but looks only every 200 ms whether it has.
        if self._process is not None:
            self._process.end(_ENDING_SECONDS)
            # A zombie looks alive to it.
            self.exit_status(_ENDING_SECONDS)
        # libvirt's own patience with a process that does not end is its own business: it may outlast ours.
        self._tidying = threading.Thread(target=self._tidy, name="tidying", daemon=True)
        self._tidying.start()
        if self._is_gone() and not self._holds_files:
            return
        self._tidying.join(timeout)
        if self.pid is None or self._is_gone():
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + KILLED_SECONDS
        while not self._is_gone():
            if time.monotonic() > deadline:
                raise HypervisorError(
                    f"QEMU (process {self.pid}) is still there {timeout:.0f} s after it was told to end, and "
                    "after SIGKILL: it waits in the kernel, probably for a disk",
                    remedy="nothing may be measured beside it: see to its disk, or restart the host; "
                    "then harness run --resume",
                )
            time.sleep(KILLED_SECONDS / 100)

    def _is_gone(self) -> bool:
        """Return whether QEMU's process is seen to be gone."""
        return self.pid is not None and not still_runs(self.pid, self._began)

    def _tidy(self) -> None:
        # It holds the guest's lock while it looks whether QEMU is gone. A call about the guest would wait for
        # that with the lock of the list of all guests, and the next guest's start for both.
        if self._is_gone():
            self.stopped.wait(_NOTICED_SECONDS)
        for callback in self._callbacks:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.domainEventDeregisterAny(callback)
        self._callbacks = []
        with contextlib.suppress(libvirt.libvirtError):
            self._handle.destroy()
        if not self._log_is_kept:
            self.forget_log()

    def is_known(self) -> bool:
        """Return whether libvirt may still know of it."""
        return self._tidying is None or self._tidying.is_alive()

    def await_tidy(self) -> None:
        """Wait until libvirt has tidied up after a guest that was destroyed, and knows its name no more.

        It looks every 200 ms whether a QEMU has gone whose monitor it saw close, and QEMU closes that first.
        """
        if self._tidying is not None:
            self._tidying.join(_TIDY_SECONDS)

    def kill(self) -> None:
        """End QEMU at once; whoever waits for the guest learns that it stopped."""
        with contextlib.suppress(libvirt.libvirtError):
            self._handle.destroy()
        self._tell(self.stopped)

    def forget_log(self) -> None:
        """Remove libvirt's log of this guest, where the driver is the harness's own."""
        # While it tidies up, libvirt writes a last line to it.
        self._log_is_kept = False
        if self._reaper is not None and self.log is not None:
            self.log.unlink(missing_ok=True)

    def _on_agent(self, _conn: object, _dom: object, state: int, _reason: int, _opaque: object) -> None:
        if state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED:
            self._tell(self.agent_connected)

    def _on_lifecycle(self, _conn: object, _dom: object, event: int, detail: int, _opaque: object) -> None:
        if event in {libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_CRASHED}:
            ill = {libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED}
            self.failed = event == libvirt.VIR_DOMAIN_EVENT_CRASHED or detail in ill
            self._tell(self.stopped)

    def _tell(self, event: threading.Event) -> None:
        event.set()
        for listener in self._listeners:
            listener()


def qemu_pid(uuid: str) -> int | None:
    """Return the process of a domain on this host, by the UUID on its command line; None when remote."""
    wanted = uuid.encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                argv = (entry / "cmdline").read_bytes().split(b"\0")
                if wanted in argv:
                    return int(entry.name)
    return None
