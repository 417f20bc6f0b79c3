"""valgrind's callgrind: runs a command so that every instruction of every thread is counted."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.adapters import process
from harness.adapters.files import tail
from harness.adapters.guestless.io_uring import IO_URING_ENTER, deny_io_uring
from harness.adapters.host.facts import read_setting
from harness.core.counting.failures import cause_of_death, cause_of_hang, own_lines
from harness.core.errors import HarnessError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.core.protocols import StopSignal

_OUTPUT = "callgrind.out"
_LOG = "output.log"
_LAST_WORDS = 200
_QUOTED_LINES = 3
_PAUSE_SECONDS = 0.001
_SAMPLE_SECONDS = 0.01
_STILL_SAMPLES = 4
_GRACE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Valgrind:
    """The valgrind of this host.

    Attributes:
        program: its path.
        version: what it says of itself.
    """

    program: str
    version: str

    @classmethod
    def find(cls) -> Valgrind:
        """Return the host's valgrind.

        Raises:
            HarnessError: there is none.
        """
        program = shutil.which("valgrind")
        if program is None:
            raise HarnessError(
                "valgrind is not installed: it counts the instructions",
                remedy="run `harness provision EXPERIMENT`, or install the package valgrind",
            )
        return cls(program, process.run([program, "--version"], timeout=60).stdout.strip())

    def command(self, argv: Sequence[str], directory: Path) -> list[str]:
        """Return the command that counts another one, with its outputs in a directory."""
        return [
            self.program,
            # Whatever the user's ~/.valgrindrc says: it must not change what is counted.
            "--command-line-only=yes",
            "--tool=callgrind",
            # No debugger is expected, and its pipes would stay in /tmp when a count is killed.
            "--vgdb=no",
            "--separate-threads=yes",
            # A launcher becomes the program itself; what remains is the output of the program.
            "--trace-children=yes",
            "--dump-line=no",
            f"--callgrind-out-file={directory / _OUTPUT}",
            *argv,
        ]


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread of the counted process, as the kernel has it.

    Attributes:
        name: what the process calls it.
        state: the kernel's letter; ``S`` sleeps.
        switches: how often it was scheduled: while that stays the same, it does nothing.
    """

    name: str
    state: str
    switches: tuple[int, int]


class Counted:
    """A process that is counted, under callgrind or strace.

    Args:
        running: the process.
        directory: where its outputs go.
        stop: the user's wish to end the run.
        timeout: seconds from now until it is given up.
    """

    def __init__(
        self, running: process.Background, directory: Path, stop: StopSignal, timeout: float
    ) -> None:
        self._running = running
        self._directory = directory
        self._stop = stop
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout

    def until(self, condition: Callable[[], bool], doing: str) -> None:
        """Wait until something holds.

        Args:
            condition: asked every millisecond.
            doing: what is waited for, for messages.

        Raises:
            HarnessError: the process ended, or time ran out.
            Interrupted: the user stopped the run.
        """
        while True:
            # First of all a pause: what just completed something still has to go to sleep.
            time.sleep(_PAUSE_SECONDS)
            if condition():
                return
            self._check(doing)

    def _check(self, doing: str) -> None:
        if self._stop.is_set():
            raise Interrupted("interrupted")
        if (code := self._running.ended()) is not None:
            cause = cause_of_death(self.said(), code)
            raise HarnessError(f"while {doing}: {cause.message}", remedy=cause.remedy)
        if time.monotonic() > self._deadline:
            cause = cause_of_hang(waits_in_io_uring=self._waits_in_io_uring())
            states = ", ".join(f"{thread.name} {thread.state}" for thread in self.threads())
            said = "".join(f"\n  {line}" for line in own_lines(self.said())[-_QUOTED_LINES:])
            raise HarnessError(
                f"no end after {self._timeout:g} s, while {doing}: {cause.message} (threads: {states}){said}",
                remedy=cause.remedy,
            )

    def _waits_in_io_uring(self) -> bool:
        calls = [
            read_setting(path) or "" for path in Path(f"/proc/{self._running.pid}/task").glob("*/syscall")
        ]
        return any(call.split()[:1] == [str(IO_URING_ENTER)] for call in calls)

    def settle(self, doing: str) -> None:
        """Wait until no thread but the first has anything to do.

        What is asked of a process that is still busy with something else costs other instructions: locks are
        contended, events come together. This is what makes counts repeatable.
        """
        # The main loop has timers that never end: it is left out.
        still, before = 0, self.threads()[1:]
        while still < _STILL_SAMPLES:
            self._check(doing)
            time.sleep(_SAMPLE_SECONDS)
            now = self.threads()[1:]
            resting = now == before and all(thread.state == "S" for thread in now)
            still, before = (still + 1 if resting else 0), now

    def threads(self) -> list[Thread]:
        """Return the threads in the order they were made, which is how callgrind numbers them."""
        found: list[Thread] = []
        with contextlib.suppress(OSError):
            # The kernel lists them in that order, whatever their ids.
            tasks = list(os.scandir(f"/proc/{self._running.pid}/task"))
            found = [_thread(Path(task.path)) for task in tasks]
        return found

    def end(self) -> None:
        """Have the process end by itself and callgrind write what it counted."""
        self._running.terminate()
        self.wait()

    def wait(self) -> int:
        """Wait for the process's own end; return its exit code.

        Raises:
            HarnessError: time ran out.
            Interrupted: the user stopped the run.
        """
        while (code := self._running.wait(0.05)) is None:
            self._check("ending")
        return code

    def linger(self, condition: Callable[[], bool]) -> None:
        """Wait a little, after the process's end, for what it or its tracer still has to write."""
        deadline = time.monotonic() + _GRACE_SECONDS
        while not condition() and time.monotonic() < deadline:
            if self._stop.is_set():
                raise Interrupted("interrupted")
            time.sleep(_SAMPLE_SECONDS)

    def expect_end(self, doing: str, why: HarnessError) -> NoReturn:
        """Raise why a process ended that seems to have ended, or else what made it seem so.

        Raises:
            HarnessError: always.
        """
        if self._running.wait(_GRACE_SECONDS) is not None:
            self._check(doing)
        raise why

    def said(self) -> str:
        """Return the end of what the process and valgrind said."""
        return tail(self._directory / _LOG, lines=_LAST_WORDS)

    def outputs(self) -> dict[int, Path]:
        """Return callgrind's output files by the number of their thread."""
        found = {}
        for path in self._directory.glob(f"{_OUTPUT}-*"):
            number = path.name.removeprefix(f"{_OUTPUT}-")
            if number.isdecimal() and path.stat().st_size:
                found[int(number)] = path
        return dict(sorted(found.items()))


def _thread(task: Path) -> Thread:
    status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line)
    switches = int(status["voluntary_ctxt_switches"]), int(status["nonvoluntary_ctxt_switches"])
    return Thread(status["Name"].strip(), status["State"].split()[0], switches)


@contextlib.contextmanager
def counting(argv: Sequence[str], directory: Path, *, stop: StopSignal, timeout: float) -> Iterator[Counted]:
    """Run a command, as `Valgrind.command` makes it, as long as the ``with`` block.

    Its environment is the same everywhere: what stands there takes a place in its memory, and counts.

    Args:
        argv: the command.
        directory: a fresh directory for its outputs.
        stop: the user's wish to end the run.
        timeout: seconds after which it is given up.
    """
    deny_io_uring()
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    with process.background(argv, output=directory / _LOG, env=environment) as running:
        yield Counted(running, directory, stop, timeout)
