"""QEMU's benchmarks of coroutines: how many iterations are counted and timed, and what the test prints."""

from __future__ import annotations

import re

from harness.core.model import CoroutineTest

VARIABLE = "HARNESS_ITERATIONS"
"""What a build's test-coroutine takes its number of iterations from (role qemu_source)."""

TIMED_REPEATS = 5
TIMED_ITERATIONS = {
    CoroutineTest.LIFECYCLE: 500_000,
    CoroutineTest.NESTING: 10,
    CoroutineTest.YIELD: 1_000_000,
    CoroutineTest.COST: 500_000,
}
"""Each takes about half a second on a machine of today."""

_WARM_UP = 400
_NESTING_WARM_UP = 4
_NESTED = 100
"""An iteration of nesting makes 1,000 coroutines: one stands for so many of the others."""

_SECONDS = re.compile(r"\b(\d+) iterations\D*?(?:of \d+ depth each: )?(\d+\.\d+) s\b")


def iteration_points(test: CoroutineTest, requests: int) -> tuple[int, int, int]:
    """Return three numbers of iterations to count at; the first and the last are ``requests`` apart.

    Of ``nesting`` they are a hundredth of it apart, and two at least.
    """
    nests = test is CoroutineTest.NESTING
    first = _NESTING_WARM_UP if nests else _WARM_UP
    half = max(1, -(-requests // (2 * _NESTED if nests else 2)))
    return first, first + half, first + 2 * half


def nanoseconds_each(said: str) -> float | None:
    """Return the time of an iteration as the test printed it; None where it printed none."""
    found = _SECONDS.search(said)
    return 1e9 * float(found[2]) / int(found[1]) if found and int(found[1]) else None
