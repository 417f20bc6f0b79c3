"""Stand-ins for the outside worlds: for orders of events only, never for the real run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from harness.adapters.results.store import RunDirectory
from harness.core.errors import GuestDiedError, GuestError
from harness.core.mappings import Mappings
from harness.core.model import Cell
from harness.core.planning import PlannedIteration, PlannedSession, make_plan
from harness.core.protocols import Execution
from harness.core.records import FORMAT_VERSION, CrashRecord, RunRecord, RunState
from harness.shell.campaign import Campaign, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from harness.core.protocols import Clock, Lab, StopSignal
    from harness.core.telemetry import TelemetryRecord
    from harness.shell.events import Event


def fio_json(cell: Cell, iops: float = 1000.0, *, error: int = 0, runtime_ms: int = 1000) -> str:
    """Return what fio prints for a cell, as far as the harness reads it."""
    ios = round(iops * runtime_ms / 1000)
    read = {"io_bytes": ios * 4096, "bw_bytes": round(iops * 4096), "iops": iops, "runtime": runtime_ms}
    options = {"rw": cell.rw, "bs": cell.bs, "iodepth": str(cell.iodepth), "ioengine": cell.ioengine}
    job = {"jobname": "fio", "groupid": 0, "error": error, "job options": options}
    return json.dumps({"fio version": "fio-3.33", "jobs": [{**job, "read": {**read, "total_ios": ios}}]})


EXPERIMENT = """\
name: test
builds: {OLD: {path: /old}, NEW: {path: /new}}
baseline: OLD
matrix: {rw: randread, bs: 4k, iodepth: [1, 8]}
protocol: {blocks: BLOCKS, iterations: REPEATS, runtime: 1s, ramp: 0s, seed: 1}
"""
"""What `new_run` runs."""


def new_run(
    path: Path,
    *,
    blocks: int = 2,
    repeats: int = 1,
    variants: tuple[str, ...] = ("OLD", "NEW"),
    **record: Any,
) -> RunDirectory:
    """Return a run directory of OLD and NEW, or others, with two cells; keywords go into its head."""
    plan = make_plan(
        variants=list(variants),
        cells=[Cell("randread", "4k", 1), Cell("randread", "4k", 8)],
        guests=[()],
        blocks=blocks,
        repeats=repeats,
        runtime=1.0,
        ramp=0.0,
        seed=1,
    )
    text = EXPERIMENT.replace("BLOCKS", str(blocks)).replace("REPEATS", str(repeats))
    builds = ", ".join(f'"{name}": {{path: /{name.lower()}}}' for name in variants)
    text = re.sub(r"builds: .*\nbaseline: .*", f'builds: {{{builds}}}\nbaseline: "{variants[0]}"', text)
    environment = {"host": {"name": "here", "kernel": "6.1", "cpu": {"model": "x", "count": 2}}}
    return RunDirectory.create(
        path, record=head(variants, **record), experiment=text, plan=plan, environment=environment
    )


def head(variants: Iterable[str], **record: Any) -> RunRecord:
    """Return the head of a run that has just begun; keywords go into it."""
    usual: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "run_id": "r",
        "name": "test",
        "state": RunState.RUNNING,
        "created": "2026",
        "harness_version": "0",
        "accel": "tcg",
        "accel_reason": "a test",
        "builds": {name: {"version": f"QEMU of {name}", "sha256": name * 20} for name in variants},
        "guest_image": {"kernel_version": "6.1", "fio_version": "fio-3.33"},
    }
    return RunRecord(**(usual | record))


class FakeClock:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.set_back = timedelta()

    def now(self) -> datetime:
        self.seconds += 1.0
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds) - self.set_back

    def monotonic(self) -> float:
        self.seconds += 1.0
        return self.seconds


class FakeStop:
    def __init__(self) -> None:
        self.wanted = False

    def is_set(self) -> bool:
        return self.wanted

    def set(self) -> None:
        self.wanted = True

    def listen(self, listener: Callable[[], None]) -> None:
        """Nobody waits in a fake."""

    def forget(self, listener: Callable[[], None]) -> None:
        """Nobody waits in a fake."""


Behaviour = Callable[[PlannedSession, Cell, int], Execution]
"""What the n-th fio run of the whole campaign does in a session; may raise."""


def good(_session: PlannedSession, cell: Cell, _count: int) -> Execution:
    return Execution(0, fio_json(cell), "", datetime(2026, 1, 1, tzinfo=UTC), 1.0)


def qemu_died(message: str = "failed to set up stack guard page: Cannot allocate memory") -> GuestDiedError:
    """Return what the lab raises when QEMU aborted."""
    crash = CrashRecord("SIGABRT", None, message, (message,), ("init: up",), Mappings(65000, 32000))
    return GuestDiedError(f"the guest stopped by itself: QEMU died: {crash.cause}", crash)


def raise_at(at: int, error: type[BaseException]) -> Behaviour:
    """Return what goes well but for the n-th fio run of a campaign."""

    def behave(session: PlannedSession, cell: Cell, count: int) -> Execution:
        if count == at:
            raise error("now")
        return good(session, cell, count)

    return behave


@dataclass
class FakeGuest:
    lab: FakeLab
    planned: PlannedSession
    ready_seconds: float = 2.0
    facts: dict[str, Any] = field(default_factory=lambda: {"guest_kernel": "6.1"})
    telemetry: TelemetryRecord | None = None

    def run(self, iteration: PlannedIteration, *, runtime: float, ramp: float) -> Execution:
        assert (runtime, ramp) == (1.0, 0.0)
        self.lab.count += 1
        execution = self.lab.behave(self.planned, iteration.cell, self.lab.count)
        self.lab.executed.append((self.planned.number, iteration.cell))
        return execution


@dataclass
class FakeLab:
    behave: Behaviour = good
    unbootable: frozenset[str] = frozenset()
    count: int = 0
    booted: list[str] = field(default_factory=list)
    executed: list[tuple[int, Cell]] = field(default_factory=list)
    running: int = 0

    @contextmanager
    def session(self, planned: PlannedSession, directory: Path, *, boot: int = 0) -> Iterator[FakeGuest]:
        assert boot >= 0
        assert directory.is_dir()
        assert self.running == 0, "a measurement must be alone"
        self.booted.append(planned.directory)
        if planned.variant in self.unbootable:
            raise GuestError(f"the guest on {planned.variant} did not answer")
        self.running += 1
        try:
            yield FakeGuest(self, planned)
        finally:
            self.running -= 1


def campaign(
    run: RunDirectory,
    lab: Lab,
    *,
    emit: Callable[[Event], None] = lambda _event: None,
    clock: Clock | None = None,
    stop: StopSignal | None = None,
    **options: Any,
) -> Outcome:
    """Run what is missing of a run; where none is given, by a clock that only counts, and without a stop."""
    return Campaign(
        plan=run.plan,
        store=run,
        lab=lab,
        clock=clock or FakeClock(),
        stop=stop or FakeStop(),
        emit=emit,
        **options,
    ).run()
