"""Faults, done: to the harness, to QEMU, inside the guest, to the disk, to the clock."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fault_plan import IN_GUEST, Kind
from fault_world import MARK
from support import ROOT
from tiny import guests

if TYPE_CHECKING:
    from pathlib import Path

    from fault_world import Disk, World

_TO_HARNESS = {
    Kind.HARNESS_SIGINT: signal.SIGINT,
    Kind.HARNESS_SIGTERM: signal.SIGTERM,
    Kind.HARNESS_SIGHUP: signal.SIGHUP,
    Kind.HARNESS_SIGKILL: signal.SIGKILL,
}
_TO_QEMU = {
    Kind.QEMU_SIGKILL: signal.SIGKILL,
    Kind.QEMU_SIGSEGV: signal.SIGSEGV,
    Kind.QEMU_FROZEN: signal.SIGSTOP,
}
_COMMANDS = {
    # Between two iterations there is none for a moment.
    Kind.FIO_KILLED: "for i in $(seq 50); do killall -9 fio 2>/dev/null && break; sleep 0.1; done",
    Kind.GUEST_PANIC: "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger",
    Kind.AGENT_FROZEN: "killall -STOP qemu-ga",
}


@dataclass(slots=True)
class Started:
    """The harness, started in a trial's world.

    Attributes:
        world: the campaign's.
        disk: holds the run directory.
        directory: for what the trial's processes leave: their temporary directory.
        process: the harness, once it is started.
    """

    world: World
    disk: Disk
    directory: Path
    process: subprocess.Popen[str] = field(init=False)

    @property
    def _slow(self) -> Path:
        return self.directory / "slow"

    @property
    def _clock(self) -> Path:
        return self.directory / "clock"

    def start(self, *arguments: str, kinds: set[Kind]) -> None:
        """Start ``harness run`` in a way that allows the faults that are planned."""
        environment = os.environ | {MARK: self.directory.name, "TMPDIR": str(self.directory)}
        if kinds & {Kind.DISK_SLOW, Kind.CLOCK_SET_BACK}:
            environment |= {
                "LD_PRELOAD": str(self.world.preloaded),
                "SLOW_DISK": str(self._slow),
                "CLOCK_SET_BACK": str(self._clock),
            }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness", "run", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A signal is for the harness alone, not for whoever started it.
            start_new_session=True,
        )

    def ended(self) -> bool:
        """Return whether the harness has ended."""
        return self.process.poll() is not None

    def inject(self, kind: Kind) -> None:
        """Do it."""
        if kind in _TO_HARNESS:
            self.process.send_signal(_TO_HARNESS[kind])
        elif kind in _TO_QEMU:
            for pid in guests():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, _TO_QEMU[kind])
        elif kind in IN_GUEST:
            with contextlib.suppress(OSError):  # its guest has just ended
                self.world.in_guest(_COMMANDS[kind])
        elif kind is Kind.DISK_FULL:
            self.disk.fill()
        elif kind is Kind.DISK_READ_ONLY:
            self.disk.protect()
        elif kind is Kind.DISK_SLOW:
            self._slow.touch()
        else:
            self._clock.touch()

    def mend(self) -> None:
        """Take back what outlives the harness, and the harness where a trial could not be carried out."""
        if not self.ended():
            self.process.kill()
            self.process.communicate()
        self.disk.mend()
        self._slow.unlink(missing_ok=True)
        self._clock.unlink(missing_ok=True)
