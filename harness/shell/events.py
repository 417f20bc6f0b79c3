"""What happens during a run, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.mappings import Mappings
    from harness.core.planning import Plan, PlannedIteration, PlannedSession
    from harness.core.records import CrashRecord


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run begins, or goes on.

    Attributes:
        remaining: iterations still to do.
    """

    plan: Plan
    remaining: int


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A guest is being booted."""

    session: PlannedSession


@dataclass(frozen=True, slots=True)
class SessionReady:
    """The guest answers."""

    session: PlannedSession
    seconds: float


@dataclass(frozen=True, slots=True)
class IterationDone:
    """One fio invocation ended.

    Attributes:
        reason: why it does not count; None when it does.
        round: the mappings of QEMU after it, where iterations are rounds (pool-growth); None elsewhere.
    """

    session: PlannedSession
    iteration: PlannedIteration
    seconds: float
    reason: str | None
    round: Mappings | None = None


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """A session ended before its last iteration.

    Attributes:
        again: whether it is tried again at once.
    """

    session: PlannedSession
    reason: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class SessionCrashed:
    """QEMU died in a session of a workload that wants to know whether it does: a result.

    Attributes:
        cause: in words.
    """

    session: PlannedSession
    crash: CrashRecord
    cause: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run is over."""

    stopped: str


Event = RunStarted | SessionStarted | SessionReady | IterationDone | SessionFailed | SessionCrashed | RunEnded
