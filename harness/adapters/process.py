"""The one gateway for subprocesses: argv lists, no shell, errors that name the command."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN_LINES = 5
"""How many of the last lines of stderr an error shows."""


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
