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

MOST_SECONDS = 30.0
"""By the clock: only what waits, as for the other end of a pipe, takes so long."""


class Hang(BaseException):
    """An input took too long."""


def _on_signal(number: int, _frame: object) -> None:
    raise Hang("too much CPU time" if number == signal.SIGPROF else "still waiting")


@contextlib.contextmanager
def watched(
    *, most_seconds: float = MOST_SECONDS, most_cpu_seconds: float = MOST_CPU_SECONDS
) -> Iterator[None]:
    """Raise `Hang` in the block when it takes too long. Main thread only."""
    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, most_cpu_seconds),
        (signal.ITIMER_REAL, signal.SIGALRM, most_seconds),
    )
    before = [signal.signal(number, _on_signal) for _timer, number, _limit in timers]
    try:
        for timer, _number, limit in timers:
            signal.setitimer(timer, limit)
        yield
    finally:
        for timer, _number, _limit in timers:
            signal.setitimer(timer, 0)
        for (_timer, number, _limit), handler in zip(timers, before, strict=True):
            signal.signal(number, handler)
