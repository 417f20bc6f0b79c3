"""What a run directory records of counts: what was started, which thread is which, where its output is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.model import Counter, FactorValue
from harness.core.records import IterationState, RunState

if TYPE_CHECKING:
    from harness.core.counting.planning import PlannedCount


@dataclass(slots=True)
class ThreadRecord:
    """One thread of a counted process.

    Attributes:
        number: callgrind's number of it, from 1.
        name: what it is: ``main``, ``IO io0``, ...
        counted: whether its instructions are what the run is about.
        file: callgrind's untouched output for it.
        sha256: of that file.
    """

    number: int
    name: str
    counted: bool
    file: str
    sha256: str


@dataclass(slots=True)
class CountRecord:
    """One count that took place (``counts/NNN-VARIANT/count.json``).

    Attributes:
        number: its number in the plan.
        requests: how many it served.
        reason: why it does not count; None when it does.
        threads: empty when it failed, or system calls were counted.
        argv: the command that was counted.
        calls: how often QEMU made each system call, from its start to its end; None where instructions were
            counted, or it failed.
    """

    number: int
    variant: str
    repeat: int
    factors: dict[str, FactorValue]
    requests: int
    started: str
    seconds: float
    state: IterationState
    reason: str | None = None
    threads: list[ThreadRecord] = field(default_factory=list)
    argv: list[str] = field(default_factory=list)
    calls: dict[str, int] | None = None


def why_not_planned(record: CountRecord, planned: PlannedCount) -> tuple[str, str] | None:
    """Say what a count's record has that its plan has not.

    Returns:
        The key, and what is wrong with it; None when they agree.
    """
    for key in ("number", "variant", "repeat", "requests"):
        if getattr(record, key) != getattr(planned, key):
            return key, f"it is of another count than {planned.directory}"
    if record.factors != planned.cell.factors():
        return "factors", f"it is of another cell than {planned.directory}"
    traced = planned.counter is Counter.STRACE
    if record.state is IterationState.OK and (record.calls is not None) is not traced:
        return "calls", f"it is of another counter than {planned.directory}"
    numbers = [thread.number for thread in record.threads]
    if len(set(numbers)) < len(numbers):
        return "threads", "one thread is there twice"
    return None


@dataclass(slots=True)
class TimeRecord:
    """How long an iteration of a benchmark took, by its own clock and without callgrind (in ``times.json``).

    Attributes:
        nanoseconds: of an iteration, a number a repeat.
    """

    variant: str
    factors: dict[str, FactorValue]
    nanoseconds: list[float]


@dataclass(slots=True)
class CountingRun:
    """The head of a run directory of counts (``run.json``).

    Attributes:
        workload: ``instructions``: what tells such a run from others.
        counted_with: valgrind's version line.
        stopped: why the run ended, in plain words; None while it runs.
        builds: a variant's provisioned build.
        files: SHA-256 of the files beside it that never change, by name.
        begun: the directories of the counts that have a record: one that is gone is missed.
    """

    format_version: int
    workload: str
    run_id: str
    name: str
    state: RunState
    created: str
    harness_version: str
    counted_with: str
    builds: dict[str, dict[str, Any]]
    ended: str | None = None
    stopped: str | None = None
    wall_seconds: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
