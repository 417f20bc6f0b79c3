"""What the campaign needs from the outside worlds; the adapters provide it, tests fake it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from harness.core.mappings import Mappings
    from harness.core.planning import PlannedIteration, PlannedSession
    from harness.core.records import RunState, SessionRecord
    from harness.core.telemetry import TelemetryRecord


@dataclass(frozen=True, slots=True)
class Execution:
    """A program that ended in the guest.

    Attributes:
        exit_code: the program's; a signal is 128 + its number, as a shell has it.
        started: when.
        seconds: until the harness had its output.
        mappings: of the QEMU process, right after it; None when they could not be read.
    """

    exit_code: int
    stdout: str
    stderr: str
    started: datetime
    seconds: float
    mappings: Mappings | None = None


class GuestSession(Protocol):
    """A booted guest that takes iterations."""

    @property
    def ready_seconds(self) -> float:
        """Seconds from create to the agent's first answer."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a reader needs to believe the session: emulator, its hash and argv, guest kernel, fio."""

    @property
    def telemetry(self) -> TelemetryRecord | None:
        """What is kept of its telemetry, once the session has ended."""

    def run(self, iteration: PlannedIteration, *, runtime: float, ramp: float) -> Execution:
        """Run one iteration: fio once, on its cell.

        Raises:
            GuestDiedError: QEMU ended.
            GuestError: the guest did not answer in time.
            Interrupted: the user stopped the run.
        """


class Lab(Protocol):
    """Where guests are booted."""

    def session(
        self, planned: PlannedSession, directory: Path, *, boot: int = 0
    ) -> AbstractContextManager[GuestSession]:
        """Boot a guest for a session; it is gone when the ``with`` block is left, whatever happened.

        Args:
            planned: the session.
            directory: where what the boot leaves behind is kept.
            boot: which of the session's boots this is, from 0.

        Raises:
            GuestError: it did not boot.
            Interrupted: the user stopped the run.
        """


class Store(Protocol):
    """Where a run is kept."""

    def session_directory(self, planned: PlannedSession) -> Path:
        """Return the session's directory, made."""

    def load_session(self, planned: PlannedSession) -> SessionRecord:
        """Return what is kept of a session; an empty record when it never started."""

    def save_session(self, planned: PlannedSession, record: SessionRecord) -> None:
        """Put a session's record on disk before returning."""

    def left_beside(self, planned: PlannedSession, *, boot: int) -> dict[str, str]:
        """Return the SHA-256 of what a boot that ended left beside its session's record, by name."""

    def save_output(
        self, planned: PlannedSession, iteration: PlannedIteration, output: str, *, boot: int
    ) -> tuple[str, str]:
        """Put fio's untouched output on disk; return its file name and SHA-256."""

    def set_state(self, state: RunState, *, stopped: str | None, wall_seconds: float) -> None:
        """Put the run's state on disk; ``wall_seconds`` are added to what earlier parts took."""


class Clock(Protocol):
    """Time, so that tests can own it."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""


class StopSignal(Protocol):
    """Whether the user wants the run to end."""

    def is_set(self) -> bool:
        """Return whether the user does."""

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function as soon as the user does."""

    def forget(self, listener: Callable[[], None]) -> None:
        """Stop calling a function."""
