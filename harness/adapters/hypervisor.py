"""libvirt: transient domains, and nothing that is not this project's. The only module that imports it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

# libvirt reads this when it is loaded, and chats on stderr unless told not to.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")

import libvirt
import libvirt_qemu

from harness.adapters import embedded
from harness.adapters.host.processes import head_of, still_runs
from harness.adapters.libvirt_text import log_directory, name_and_files, read_answer
from harness.adapters.process_handle import ProcessHandle
from harness.adapters.reaper import Reaper
from harness.core.errors import HypervisorError

if TYPE_CHECKING:
    from collections.abc import Callable

_KILLED_SECONDS = 5.0
"""For a process that was killed to be gone."""

_ENDING_SECONDS = 0.5
"""For QEMU to end by itself when it is told to, as it does in a hundredth of that unless it hangs."""

_TIDY_SECONDS = 15.0
"""For libvirt to tidy up after a QEMU that is gone; it takes 0.2 s."""


def _quiet(_context: object, _error: object) -> None:
    """Take libvirt's messages off stderr; every one of them also arrives as an exception."""


class _EventLoop:
    """libvirt's own event loop in a thread; there is one a process, and it has to exist before any open."""

    _started = threading.Lock()
    _running = False

    @classmethod
    def ensure(cls) -> None:
        with cls._started:
            if cls._running:
                return
            libvirt.registerErrorHandler(_quiet, None)
            libvirt.virEventRegisterDefaultImpl()
            threading.Thread(target=cls._run, name="libvirt-events", daemon=True).start()
            cls._running = True

    @staticmethod
    def _run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()


@dataclass(frozen=True, slots=True)
class LibvirtVersion:
    """A version of libvirt, ordered."""

    major: int
    minor: int
    release: int

    @classmethod
    def from_number(cls, number: int) -> LibvirtVersion:
        """Return the version from libvirt's own number (9000000 is 9.0.0)."""
        return cls(number // 1_000_000, number // 1_000 % 1_000, number % 1_000)

    @property
    def parts(self) -> tuple[int, int, int]:
        """The three numbers."""
        return (self.major, self.minor, self.release)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.release}"


class Hypervisor:
    """A connection to libvirt's QEMU driver.

    ``qemu:///embed`` runs the driver inside this process, below a directory of its own: no daemon, nothing
    to configure. Use as a context manager.

    Args:
        uri: ``qemu:///embed``, ``qemu:///system``, ``qemu:///session`` or any other QEMU URI.
        embed_root: the directory of the embedded driver; short, since it holds UNIX sockets.
    """

    def __init__(self, uri: str, embed_root: Path) -> None:
        self.uri = uri
        self._logs = log_directory(uri, embed_root)
        self._reaper: Reaper | None = None
        self._started: list[Domain] = []
        if uri.startswith("qemu:///embed"):
            embedded.prepare_root(embed_root)
            self._reaper = Reaper.running()
            uri = f"qemu:///embed?root={embed_root}"
        _EventLoop.ensure()
        try:
            self._connection = libvirt.open(uri)
        except libvirt.libvirtError as error:
            if "Failed to acquire pid file" in str(error):
                raise HypervisorError(
                    f"the embedded libvirt below {embed_root} is in use by another process",
                    remedy="a run is probably going on: try again when it has ended",
                ) from error
            raise HypervisorError(
                f"cannot connect to {self.uri}: {_first_line(error)}",
                remedy="qemu:///embed needs no daemon; for the others, start virtqemud or libvirtd",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for domain in self._started:
            domain.await_tidy()
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()

    @property
    def version(self) -> LibvirtVersion:
        """The version of the libvirt that drives QEMU."""
        return LibvirtVersion.from_number(self._connection.getLibVersion())

    def start(self, xml: str) -> Domain:
        """Create a transient domain; it runs when this returns.

        Raises:
            HypervisorError: libvirt or QEMU refused; the message is theirs.
        """
        name, holds_files = name_and_files(xml)
        self._await_name(name)
        try:
            handle = self._connection.createXML(xml, 0)
        except libvirt.libvirtError as error:
            raise HypervisorError(f"the guest could not be started: {error.get_error_message()}") from error
        log = None if self._logs is None else self._logs / f"{handle.name()}.log"
        domain = Domain(self._connection, handle, log=log, reaper=self._reaper, holds_files=holds_files)
        self._started.append(domain)
        return domain

    def _await_name(self, name: str) -> None:
        """Wait until libvirt has forgotten the guest that had the same name before."""
        self._started = [domain for domain in self._started if domain.is_known()]
        for domain in self._started:
            if domain.name == name:
                domain.await_tidy()

    def domains(self, prefix: str) -> list[str]:
        """Return the names of the running domains that start with a prefix."""
        names = (domain.name() for domain in self._connection.listAllDomains(0))
        return sorted(name for name in names if name.startswith(prefix))

    def destroy(self, name: str) -> None:
        """Destroy a domain by name; one that is gone already is fine.

        Raises:
            HypervisorError: libvirt could not destroy it.
        """
        try:
            handle = self._connection.lookupByName(name)
        except libvirt.libvirtError:
            return
        # One whose start was cut off holds libvirt's lock on the domain for as long as it lives.
        if (pid := _qemu_pid(handle.UUIDString())) is not None:
            ProcessHandle(pid).end(_KILLED_SECONDS, kill=True)
        try:
            handle.destroy()
        except libvirt.libvirtError as error:
            if name in self.domains(name):
                raise HypervisorError(
                    f"{name} could not be ended: {_first_line(error)}",
                    remedy="if libvirt says that it is locked, restart virtqemud or libvirtd, and try again",
                ) from error


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
        self.pid = _qemu_pid(self.uuid)
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
        for callback in self._callbacks:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.domainEventDeregisterAny(callback)
        self._callbacks = []
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
        deadline = time.monotonic() + _KILLED_SECONDS
        while not self._is_gone():
            if time.monotonic() > deadline:
                raise HypervisorError(
                    f"QEMU (process {self.pid}) is still there {timeout:.0f} s after it was told to end, and "
                    "after SIGKILL: it waits in the kernel, probably for a disk",
                    remedy="nothing may be measured beside it: see to its disk, or restart the host; "
                    "then harness run --resume",
                )
            time.sleep(_KILLED_SECONDS / 100)

    def _is_gone(self) -> bool:
        """Return whether QEMU's process is seen to be gone."""
        return self.pid is not None and not still_runs(self.pid, self._began)

    def _tidy(self) -> None:
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


def _qemu_pid(uuid: str) -> int | None:
    """Return the process of a domain on this host, by the UUID on its command line; None when remote."""
    wanted = uuid.encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                argv = (entry / "cmdline").read_bytes().split(b"\0")
                if wanted in argv:
                    return int(entry.name)
    return None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
