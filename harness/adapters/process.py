"""The one gateway for subprocesses: argv lists, no shell, errors that name the command."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO

SHOWN_LINES = 5
"""How many of the last lines of stderr an error shows."""

_LOOK_SECONDS = 0.5
"""How often is looked whether a command should end; long, since it looks while others measure."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command left behind.

    Attributes:
        returncode: its exit code; negative for the signal that ended it.
        stdout: its output; bytes that are no UTF-8 are replaced.
        stderr: its error output, likewise.
    """

    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    input: bytes | None = None,  # noqa: A002 - as subprocess.run calls it
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> Completed:
    """Run a command to its end.

    Args:
        argv: the program and its arguments.
        input: what it reads on stdin; nothing if absent.
        timeout: seconds after which it is killed.
        env: variables set for it beside the harness's own environment.
        check: whether an exit code other than 0 is an error.

    Returns:
        Exit code and output.

    Raises:
        HarnessError: the program is missing, ran too long or, with ``check``, failed.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this is the gateway
            list(argv),
            input=b"" if input is None else input,
            capture_output=True,
            timeout=timeout,
            env=None if env is None else {**os.environ, **env},
            check=False,
        )
    except FileNotFoundError:
        raise HarnessError(
            f"the program {argv[0]} is not there", remedy="install it, or put it in PATH"
        ) from None
    except OSError as error:
        raise HarnessError(f"cannot start {argv[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"no end after {timeout:g} s: {shlex.join(argv)}{_tail(error.stderr)}") from None
    if check and done.returncode != 0:
        ended = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise HarnessError(f"{ended}: {shlex.join(argv)}{_tail(done.stderr)}")
    return Completed(done.returncode, _text(done.stdout), _text(done.stderr))


def copy_seconds(size_bytes: int) -> float:
    """Return how long a copy may take, in seconds: even a slow disk writes 5 MB each."""
    return 120 + size_bytes / 5e6


class Guard:
    """A process that outlives this one by a moment: its standard input ends when this one does.

    In a session of its own, so that a Ctrl-C does not reach it.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen

    @classmethod
    def start(cls, argv: Sequence[str]) -> Guard:
        """Start it.

        Raises:
            HarnessError: it cannot be started.
        """
        try:
            return cls(
                subprocess.Popen(  # noqa: S603 - this is the gateway
                    list(argv),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        except OSError as error:
            raise HarnessError(f"cannot start {argv[0]}: {error.strerror}") from error

    def dismiss(self, word: str) -> None:
        """Tell it that it is not needed any more, and wait for its end."""
        self._popen.communicate(f"{word}\n".encode())


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _tail(raw: bytes | None) -> str:
    """Return the last lines of an error output, ready to be appended to a message."""
    lines = _text(raw or b"").strip().splitlines()[-SHOWN_LINES:]
    return "".join(f"\n  {line}" for line in lines)


@dataclass(frozen=True, slots=True)
class Background:
    """A process that runs beside the harness, in a session of its own: a Ctrl-C does not reach it."""

    _process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ended(self) -> int | None:
        """Return its exit code (negative for a signal), or None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float) -> int | None:
        """Return its exit code, or None when it has not ended after ``timeout`` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()


@contextlib.contextmanager
def background(
    argv: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None
) -> Iterator[Background]:
    """Run a process as long as the ``with`` block; what is left of it afterwards is killed.

    Args:
        argv: the program and its arguments.
        output: the file that takes stdout and stderr.
        env: its whole environment; the harness's own if absent.

    Raises:
        HarnessError: the program is missing or cannot be started.
    """
    with output.open("wb") as stream:
        try:
            process = subprocess.Popen(  # noqa: S603 - this is the gateway
                _guarded(argv),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            raise HarnessError(f"cannot start {argv[0]}: {error.strerror}") from error
    try:
        yield Background(process)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _guarded(argv: Sequence[str]) -> list[str]:
    """Return a command that the kernel ends with the harness, should that be killed.

    Raises:
        HarnessError: the program is missing; the guard would start all the same, and say so to nobody.
    """
    if shutil.which(argv[0]) is None:
        raise HarnessError(f"the program {argv[0]} is not there", remedy="install it, or put it in PATH")
    return [*(["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []), *argv]


class Gathered:
    """A process whose output is gathered, up to a limit, while somebody else waits for its end.

    In a session of its own, so that a Ctrl-C does not reach it. Use as a context manager: what is left of
    the process afterwards is killed.

    Args:
        argv: the program and its arguments.
        input: what it reads on stdin.
        limit_bytes: of each stream; a process that writes more is killed.
        on_end: called, in another thread, when it has ended.

    Raises:
        HarnessError: the program is missing or cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        input: bytes,  # noqa: A002 - as subprocess.run calls it
        limit_bytes: int,
        on_end: Callable[[], None],
    ) -> None:
        self._limit = limit_bytes
        self._on_end = on_end
        self._ended = threading.Event()
        self.overflowed = False
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this is the gateway
                _guarded(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise HarnessError(f"cannot start {argv[0]}: {error.strerror}") from error
        assert self._process.stdin and self._process.stdout and self._process.stderr  # noqa: S101, PT018
        self._out, self._err = bytearray(), bytearray()
        self._threads = [
            threading.Thread(target=self._feed, args=(self._process.stdin, input), daemon=True),
            threading.Thread(target=self._gather, args=(self._process.stdout, self._out), daemon=True),
            threading.Thread(target=self._gather, args=(self._process.stderr, self._err), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._wait, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._kill()
        # Not for the end of its output: another process may have been handed the pipes (an ssh that shares
        # a connection does that), and holds them for as long as it likes.
        self._process.wait()

    def ended(self) -> bool:
        """Return whether it has ended, and its output is whole."""
        return self._ended.is_set()

    def result(self) -> Completed:
        """Return what it left behind, once it has ended."""
        return Completed(self._process.returncode, _text(bytes(self._out)), _text(bytes(self._err)))

    def _feed(self, stream: IO[bytes], data: bytes) -> None:
        with contextlib.suppress(OSError), stream:
            stream.write(data)

    def _gather(self, stream: IO[bytes], into: bytearray) -> None:
        with stream:
            while data := stream.read1(2**16):  # type: ignore[attr-defined]
                if len(into) + len(data) > self._limit:
                    self.overflowed = True
                    self._kill()
                    return
                into += data

    def _wait(self) -> None:
        self._process.wait()
        for thread in self._threads:
            thread.join()
        self._ended.set()
        self._on_end()

    def _kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


def attached(argv: Sequence[str], *, stopped: Callable[[], bool], timeout: float, grace: float) -> int | None:
    """Run a command that writes where this process writes, and end it when it is time.

    Args:
        argv: the program and its arguments.
        stopped: whether it is to end before its time.
        timeout: seconds after which it is asked to end.
        grace: seconds it then has, before it is killed.

    Returns:
        Its exit code (negative for a signal); None when its time was up.

    Raises:
        HarnessError: it cannot be started.
    """
    try:
        # In a session of its own: a Ctrl-C reaches it through this process, once.
        process = subprocess.Popen(  # noqa: S603 - this is the gateway
            list(argv), stdin=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise HarnessError(f"cannot start {argv[0]}: {error.strerror}") from error
    deadline = time.monotonic() + timeout
    while process.poll() is None and not stopped() and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_SECONDS)
    if process.poll() is not None:
        return process.returncode
    process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode if stopped() else None
