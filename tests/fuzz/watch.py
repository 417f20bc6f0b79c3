"""A watchdog: an input may use one second of CPU time, and may not wait for anything.

CPU time, not the clock: on a busy host an innocent input takes as long as it takes.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_CPU_SECONDS = 1.0
INSTRUMENTED_CPU_SECONDS = 15.0
"""Where every branch is counted, which takes ten times as long; the slowest is tried again without."""

MOST_SECONDS = 15.0
"""By the clock, twice: only what waits, as for the other end of a pipe, takes so long.

Once is not enough: a process that was stopped, or a host that slept, finds its time over when it goes on.
"""


class Hang(BaseException):
    """An input took too long."""


@contextlib.contextmanager
def watched(
    *, most_seconds: float = MOST_SECONDS, most_cpu_seconds: float = MOST_CPU_SECONDS
) -> Iterator[None]:
    """Raise `Hang` in the block when it takes too long. Main thread only."""
    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, most_cpu_seconds),
        (signal.ITIMER_REAL, signal.SIGALRM, most_seconds),
    )
    is_second = False

    def on_signal(number: int, _frame: object) -> None:
        nonlocal is_second
        if number == signal.SIGPROF:
            raise Hang("too much CPU time")
        if is_second:
            raise Hang("still waiting")
        is_second = True
        signal.setitimer(signal.ITIMER_REAL, most_seconds)

    before = [signal.signal(number, on_signal) for _timer, number, _limit in timers]
    try:
        for timer, _number, limit in timers:
            signal.setitimer(timer, limit)
        yield
    finally:
        for timer, _number, _limit in timers:
            signal.setitimer(timer, 0)
        for (_timer, number, _limit), handler in zip(timers, before, strict=True):
            signal.signal(number, handler)
