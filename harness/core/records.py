"""What a run directory records: what really happened, and when.

Times are ISO 8601 in UTC; durations are seconds. Paths are relative to the session's directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from harness.core.mappings import Mappings  # noqa: TC001 - pydantic reads these annotations
from harness.core.model import FactorValue  # noqa: TC001 - likewise
from harness.core.telemetry import TelemetryRecord  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from harness.core.planning import PlannedSession

FORMAT_VERSION = 2
"""The run directory's format; readers accept this and older ones, and refuse newer ones."""

SEALED_SINCE = 2
"""The first format whose records all carry a checksum."""


def boot_file(name: str, boot: int) -> str:
    """Return what a file is called that each boot of a session leaves: ``domain.xml``, ``domain-boot1.xml``.

    Args:
        name: of the first boot's.
        boot: which of the session's boots, from 0.
    """
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}-boot{boot}{dot}{suffix}" if boot else name


class RunState(StrEnum):
    """How far a run has come."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class SessionState(StrEnum):
    """How far a session has come."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"


class IterationState(StrEnum):
    """Whether an iteration counts."""

    OK = "ok"
    FAILED = "failed"
    CRASHED = "crashed"
    """QEMU died while it ran."""


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """How a session's QEMU process came to end by itself.

    Attributes:
        signal: the signal that ended it (``SIGABRT``); None when it exited or nobody saw its end.
        exit_code: its exit code; None likewise.
        message: QEMU's own last words; None when it said nothing.
        stderr: the last lines of its error output.
        console: the last lines of the guest's console.
        mappings: its mappings as last seen alive.
        iteration: the iteration in the plan that was running; None when none was.
        qemu_failed: whether QEMU failed, rather than ended in good order because its guest shut down,
            reset itself or panicked.
    """

    signal: str | None
    exit_code: int | None
    message: str | None
    stderr: tuple[str, ...] = ()
    console: tuple[str, ...] = ()
    mappings: Mappings | None = None
    iteration: int | None = None
    qemu_failed: bool = True

    @property
    def cause(self) -> str:
        """How it ended, in words: ``SIGABRT (failed to set up stack guard page: ...)``."""
        if not self.qemu_failed:
            return "its guest shut down, reset itself or panicked"
        how = self.signal or ("ended" if self.exit_code is None else f"exit code {self.exit_code}")
        return f"{how} ({self.message})" if self.message else how


@dataclass(slots=True)
class IterationRecord:
    """One fio invocation that took place.

    Attributes:
        number: its number in the plan.
        boot: which of the session's boots it ran in, from 0.
        reason: why it does not count; None when it does.
        file: fio's untouched output; None when there was none.
        sha256: of that file.
        mappings: of the QEMU process, right after it; None when they could not be read.
    """

    number: int
    repeat: int
    factors: dict[str, FactorValue]
    boot: int
    started: str
    seconds: float
    state: IterationState
    exit_code: int | None = None
    reason: str | None = None
    file: str | None = None
    sha256: str | None = None
    mappings: Mappings | None = None


class BootCause(StrEnum):
    """Why a session's guest was booted."""

    FIRST = "first"
    RESUMED = "resumed"
    """The run was interrupted, or something of the session did not count or was damaged."""
    REPEATED = "repeated"
    """The boot before it failed for a reason of the host."""


@dataclass(slots=True)
class BootRecord:
    """One boot of a session's guest; more than one when the session was resumed or repeated.

    Attributes:
        ready_seconds: from create to the agent's first answer; None when it never came.
        facts: the emulator's pid, sha256 and argv, the guest's kernel and fio.
        failure: why it ended early; None when it did not.
        crash: how QEMU died, when it did.
        telemetry: the file of its telemetry; None when the guest was never up, or the harness was killed.
        ordinal: how many boots of the run came before it: a clock that is set back leaves this alone. None
            in runs of older harnesses.
        cause: why it took place; None of format 1, which did not record it.
    """

    started: str
    ended: str | None = None
    ready_seconds: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    crash: CrashRecord | None = None
    telemetry: TelemetryRecord | None = None
    cause: BootCause | None = None
    ordinal: int | None = None

    @property
    def turn(self) -> tuple[bool, int, str]:
        """What boots of one run are sorted by, so that they stand in the order in which they took place."""
        return (self.ordinal is not None, self.ordinal or 0, self.started)


@dataclass(slots=True)
class SessionRecord:
    """One session of the plan as it happened.

    Attributes:
        files: SHA-256 of what its boots left beside it (domain XML, logs), by name; of the boot that runs
            there is nothing yet.
        replaces: what became of the record in whose place the session is measured again; None where there was
            none before.
    """

    number: int
    block: int
    variant: str
    guest: dict[str, FactorValue]
    state: SessionState
    boots: list[BootRecord] = field(default_factory=list)
    iterations: list[IterationRecord] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    replaces: str | None = None

    def accepted(self) -> set[int]:
        """Return the numbers of the iterations that count."""
        return {record.number for record in self.iterations if record.state is IterationState.OK}

    def telling_boots(self) -> list[int]:
        """Return the boots whose iterations count; all of them where none does."""
        counted = {entry.boot for entry in self.iterations if entry.state is IterationState.OK}
        return sorted(counted) or list(range(len(self.boots)))

    def boot_seconds(self, boot: int) -> float:
        """Return how long a boot lasted; of one that was cut off, up to the end of its last iteration.

        By the wall clock: nothing, if that was set back meanwhile.

        Raises:
            ValueError: what was recorded is no moment.
        """
        record = self.boots[boot]
        start = datetime.fromisoformat(record.started)
        if record.ended is not None:
            return max(0.0, (datetime.fromisoformat(record.ended) - start).total_seconds())
        ends = [
            datetime.fromisoformat(i.started) + timedelta(seconds=i.seconds)
            for i in self.iterations
            if i.boot == boot
        ]
        known = max(ends, default=start + timedelta(seconds=record.ready_seconds or 0.0))
        return max(0.0, (known - start).total_seconds())


def why_not_planned(record: SessionRecord, planned: PlannedSession) -> tuple[str, str] | None:
    """Say what a session's record has that its plan has not: no number may go into another cell.

    Returns:
        The key, and what is wrong with it; None when they agree.
    """
    for key in ("number", "block", "variant"):
        if getattr(record, key) != getattr(planned, key):
            return key, f"it is of another session than {planned.directory}"
    if record.guest != dict(planned.guest):
        return "guest", f"it is of another guest than {planned.directory}"
    return _wrong_iteration(record, planned)


def _wrong_iteration(record: SessionRecord, planned: PlannedSession) -> tuple[str, str] | None:
    expected = _expected(planned)
    # Rounds that were interrupted begin anew: they count in every boot, and the last one is looked at.
    counted: set[tuple[int, int]] = set()
    for index, entry in enumerate(record.iterations):
        if expected.get(entry.number) != (entry.repeat, entry.factors):
            return f"iterations.{index}", f"the plan of {planned.directory} has no such iteration"
        if not 0 <= entry.boot < len(record.boots):
            return f"iterations.{index}.boot", f"there was no boot {entry.boot}"
        if (entry.file is None) != (entry.sha256 is None):
            what = "an output and its checksum are kept together, and one of them is missing"
            return f"iterations.{index}", what
        if entry.state is IterationState.OK:
            if (entry.boot, entry.number) in counted:
                return f"iterations.{index}", f"iteration {entry.number} counts twice"
            counted.add((entry.boot, entry.number))
    return None


def _expected(planned: PlannedSession) -> dict[int, tuple[int, dict[str, FactorValue]]]:
    """Return which pass, and which factors, a session's iterations have, by their numbers."""
    factors: dict[int, dict[str, FactorValue]] = {}
    for iteration in planned.iterations:
        if id(iteration.cell) not in factors:
            factors[id(iteration.cell)] = iteration.cell.factors()
    return {one.number: (one.repeat, factors[id(one.cell)]) for one in planned.iterations}


@dataclass(slots=True)
class RunRecord:
    """The head of a run directory (``run.json``).

    Attributes:
        accel: ``kvm`` or ``tcg``, as used.
        accel_reason: why, in plain words.
        stopped: why the run ended, in plain words; None while it runs.
        builds: a variant's provisioned build.
        guest_image: the provisioned guest.
        noise_floor: the A/A run directory of this host that the run points at.
        max_map_count: what --max-map-count asked for; None leaves the host's.
        files: SHA-256 of the files beside it that never change, by name.
        begun: the directories of the sessions that have a record: one that is gone is missed.
        host_log: the checksum in the last line of ``host.jsonl`` when the run last began or ended.
    """

    format_version: int
    run_id: str
    name: str
    state: RunState
    created: str
    harness_version: str
    accel: str
    accel_reason: str
    builds: dict[str, dict[str, Any]]
    guest_image: dict[str, Any]
    ended: str | None = None
    stopped: str | None = None
    wall_seconds: float = 0.0
    noise_floor: str | None = None
    max_map_count: int | None = None
    files: dict[str, str] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    host_log: str | None = None
