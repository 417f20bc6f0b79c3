"""Counts a command that does its work and ends by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.guestless.callgrind import counting
from harness.adapters.guestless.virtio_load import LoadResult
from harness.core.counting.failures import cause_of_death
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.adapters.guestless.callgrind import Valgrind
    from harness.core.protocols import StopSignal


def count_to_end(
    argv: Sequence[str],
    valgrind: Valgrind,
    directory: Path,
    *,
    stop: StopSignal,
    timeout: float,
    extra: Mapping[str, str] | None = None,
    io_uring: bool = False,
) -> LoadResult:
    """Run a command under callgrind to its end.

    Args:
        argv: the command; the file name of its program stands in messages.
        valgrind: the host's.
        directory: a fresh directory for its outputs.
        stop: the user's wish to end the run.
        timeout: seconds after which it is given up.
        extra: variables of its environment beside those that all have.
        io_uring: whether it may use io_uring.

    Raises:
        HarnessError: it failed, or took too long.
        Interrupted: the user stopped the run.
    """
    command = valgrind.command(argv, directory)
    with counting(command, directory, stop=stop, timeout=timeout, extra=extra, io_uring=io_uring) as counted:
        code = counted.wait()
        if code:
            cause = cause_of_death(counted.said(), code)
            raise HarnessError(f"{argv[0].rpartition('/')[2]}: {cause.message}", remedy=cause.remedy)
        return LoadResult([], counted.outputs(), list(argv))
