"""What a run directory records of counts: what was started, which thread is which, where its output is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.core.model import FactorValue  # noqa: TC001 - pydantic reads these annotations
from harness.core.records import IterationState, RunState  # noqa: TC001


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


@dataclass(slots=True)
class CountingRun:
    """The head of a run directory of counts (``run.json``).

    Attributes:
        workload: ``instructions``: what tells such a run from others.
        counted_with: valgrind's version line.
        stopped: why the run ended, in plain words; None while it runs.
        builds: a variant's provisioned build.
        files: SHA-256 of the files beside it that never change, by name.
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
