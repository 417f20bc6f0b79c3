"""Why a counted process ended early, from what it said: the cause, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SHOWN_LINES = 3
_VALGRIND = re.compile(r"(==|--)\d+(==|--)")
_ILLEGAL_SIGNAL = -4


@dataclass(frozen=True, slots=True)
class Cause:
    """What ended a process.

    Attributes:
        message: what happened.
        remedy: what to do; None where nothing is known.
    """

    message: str
    remedy: str | None = None


_KNOWN = (
    (
        re.compile(r"unrecognised instruction|Illegal (instruction|opcode)", re.IGNORECASE),
        Cause(
            "valgrind does not know an instruction of this build",
            "build it for the baseline CPU (configure --extra-cflags=-march=x86-64 --disable-avx512bw), "
            "or install a newer valgrind",
        ),
    ),
    (
        re.compile(r"-qtest(-log)?: invalid option|invalid option.*-qtest"),
        Cause("this QEMU has no -qtest option", "use an emulator built with softmmu targets and TCG"),
    ),
    (
        re.compile(r"(invalid accelerator|unknown accelerator|Unsupported accel\w*) '?tcg", re.IGNORECASE),
        Cause("this QEMU has no TCG", "build it with --enable-tcg (or install the package's TCG modules)"),
    ),
    (
        re.compile(r"(unable to use|failed to init).*io_uring", re.IGNORECASE),
        Cause(
            "this QEMU cannot use io_uring", "write aio: native or threads, or see kernel.io_uring_disabled"
        ),
    ),
    (
        re.compile(r"bench.*(Command not found|unknown command)|Command not found: bench", re.IGNORECASE),
        Cause("this qemu-img has no `bench`", "use qemu-img 2.6 or newer"),
    ),
    (
        re.compile(r"error while loading shared libraries: (\S+)"),
        Cause("a library is missing", "install it, or take another build"),
    ),
)


def cause_of_death(said: str, exit_code: int) -> Cause:
    """Return why a process ended too early.

    Args:
        said: its output, valgrind's included.
        exit_code: negative for a signal.
    """
    ended = f"exit code {exit_code}" if exit_code >= 0 else f"signal {-exit_code}"
    quoted = "".join(f"\n  {line}" for line in own_lines(said)[-_SHOWN_LINES:])
    for pattern, cause in _KNOWN:
        if pattern.search(said):
            return Cause(f"{cause.message} ({ended}){quoted}", cause.remedy)
    if exit_code == _ILLEGAL_SIGNAL:
        return Cause(f"{_KNOWN[0][1].message} ({ended}){quoted}", _KNOWN[0][1].remedy)
    return Cause(f"it ended early ({ended}){quoted}")


def cause_of_hang(*, waits_in_io_uring: bool) -> Cause:
    """Return why a process does not go on.

    Args:
        waits_in_io_uring: whether one of its threads is in io_uring_enter.
    """
    if waits_in_io_uring:
        return Cause(
            "a thread waits in io_uring, which stops all others under an older valgrind",
            "build it with --disable-linux-io-uring, or install valgrind 3.24 or newer",
        )
    return Cause(
        "the host is too busy, or this build hangs", "raise instructions.timeout, or ask for fewer requests"
    )


def own_lines(said: str) -> list[str]:
    """Return what a process said itself, without valgrind's lines."""
    lines = (line.strip() for line in said.splitlines())
    return [line for line in lines if line and not _VALGRIND.match(line)]
