"""The load ``test-coroutine``: QEMU's own benchmarks of its coroutines, counted under callgrind and timed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters import process
from harness.adapters.guestless.to_end import count_to_end
from harness.core.counting.coroutines import VARIABLE, nanoseconds_each
from harness.core.counting.failures import own_lines
from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from harness.adapters.guestless.callgrind import Valgrind
    from harness.adapters.guestless.virtio_load import LoadResult
    from harness.core.model import CoroutineTest
    from harness.core.protocols import StopSignal

_DIGITS = 12


def _program(emulator: str) -> str:
    program = Path(emulator).parent / "test-coroutine"
    if not program.is_file():
        raise HarnessError(
            f"{program} is not there: load test-coroutine counts that of each build",
            remedy="run `harness provision EXPERIMENT` again",
        )
    return str(program)


def _arguments(emulator: str, test: CoroutineTest) -> list[str]:
    return [_program(emulator), "-m", "perf", "-p", f"/perf/{test}"]


def _environment(iterations: int) -> dict[str, str]:
    # Always as long: what stands in the environment takes a place in the memory of what is counted.
    return {VARIABLE: f"{iterations:0{_DIGITS}}"}


def run_counted(
    test: CoroutineTest,
    iterations: int,
    emulator: str,
    valgrind: Valgrind,
    directory: Path,
    *,
    stop: StopSignal,
    timeout: float,
) -> LoadResult:
    """Run a benchmark under callgrind to its end.

    Args:
        test: which one.
        iterations: of it.
        emulator: of the build whose test-coroutine lies beside it.
        valgrind: the host's.
        directory: a fresh directory for its outputs.
        stop: the user's wish to end the run.
        timeout: seconds after which it is given up.

    Raises:
        HarnessError: it failed, or took too long.
        Interrupted: the user stopped the run.
    """
    return count_to_end(
        _arguments(emulator, test),
        valgrind,
        directory,
        stop=stop,
        timeout=timeout,
        extra=_environment(iterations),
    )


def run_timed(test: CoroutineTest, iterations: int, emulator: str, *, timeout: float) -> float:
    """Run a benchmark as it is; return the nanoseconds of an iteration, by its own clock.

    Raises:
        HarnessError: it failed, took too long, or did not say how long it took.
    """
    done = process.run(_arguments(emulator, test), env=_environment(iterations), timeout=timeout)
    found = nanoseconds_each(done.stdout)
    if found is None:
        said = " / ".join(own_lines(done.stdout)[-3:])
        raise HarnessError(f"test-coroutine did not say how long it took: {said}")
    return found
