"""Counts what a plan asks for, several at a time, into a run directory that can be gone on with."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness import __version__
from harness.adapters.disk_guard import DiskGuard
from harness.adapters.disks import prepare_disks
from harness.adapters.files import printable_lines
from harness.adapters.guestless.bench import CountBench
from harness.adapters.guestless.callgrind import Valgrind
from harness.adapters.guestless.store import CountDirectory
from harness.adapters.guestless.strace import Strace
from harness.adapters.host.facts import environment
from harness.adapters.host.locks import IMPATIENT, Patience, host_shared
from harness.adapters.scratch import sweep
from harness.core.counting.coroutines import TIMED_REPEATS
from harness.core.counting.planning import CountPlan, PlannedCount, make_count_plan, make_pool_plan
from harness.core.counting.records import CountingRun, TimeRecord
from harness.core.errors import HarnessError, InputError, Interrupted
from harness.core.experiment import Experiment, load_experiment
from harness.core.model import BuildRecord, CountLoad, Workload
from harness.core.records import FORMAT_VERSION, IterationState, RunState
from harness.shell.beginning import check_unchanged
from harness.shell.campaign import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from harness.adapters.manifest import Manifest
    from harness.adapters.waiting import Stop
    from harness.adapters.workspace import Workspace
    from harness.core.counting.records import CountRecord
    from harness.core.model import Cell, GuestConfig
    from harness.shell.declare import Declared

MAX_FAILURES = 2
"""Counts of one variant that may fail before the others of it are left out."""

_SECONDS_EACH = 2.6
"""Of one count on one core, measured on a small virtual machine."""


def count_plan_of(experiment: Experiment, only: tuple[str, ...] | None = None) -> CountPlan:
    """Return the plan of an experiment with the workload ``instructions``, as this host can count it.

    Args:
        experiment: it.
        only: of these variants.
    """
    variants = only or experiment.variants
    if experiment.instructions.load is CountLoad.COROUTINE_POOL:
        return make_pool_plan(
            variants=variants,
            cells=experiment.cells(),
            repeats=experiment.instructions.repeats,
            calls=Strace.find() is not None,
        )
    return make_count_plan(
        variants=variants,
        cells=experiment.cells(),
        requests=experiment.instructions.requests,
        repeats=experiment.instructions.repeats,
    )


def _tracer(experiment: Experiment) -> dict[str, str | None]:
    """Return what counts system calls, where that is asked for."""
    if experiment.instructions.load is not CountLoad.COROUTINE_POOL:
        return {}
    strace = Strace.find()
    return {"strace": strace.version if strace else None}


def expected_seconds(plan: CountPlan, *, cycles: bool = False) -> float:
    """Return about how long a plan takes on this host: most of a count is QEMU's start under callgrind.

    Args:
        plan: of the counts.
        cycles: whether caches and branches are simulated too.
    """
    return len(plan.counts) * _SECONDS_EACH * (1 + cycles) / (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class CountProgress:
    """How far a run of counts is.

    Attributes:
        last: the count that just ended; None at the start.
        done: counts on disk.
        total: of the plan.
    """

    last: CountRecord | None
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class CountRunner:
    """Counts on this host.

    Attributes:
        emit: told after each count.
        say: told, in a sentence, what happens beside that.
        patience: how long to wait while somebody else measures here.
    """

    workspace: Workspace
    stop: Stop
    emit: Callable[[CountProgress], None]
    say: Callable[[str], None] = lambda _sentence: None
    patience: Patience = IMPATIENT

    def start(
        self,
        declared: Declared,
        provisioned: Manifest,
        directory: Path,
        *,
        only: tuple[str, ...] | None = None,
    ) -> tuple[CountDirectory, Outcome]:
        """Count an experiment into a new run directory.

        Args:
            declared: the experiment.
            provisioned: its builds.
            directory: the new directory.
            only: the variants to count; None for all.

        Raises:
            HarnessError: it could not begin; the directory keeps what was counted.
        """
        experiment, valgrind = declared.experiment, Valgrind.find()
        check_io_uring(experiment, valgrind)
        self.workspace.secure()
        with host_shared(self.patience):
            head = CountingRun(
                format_version=FORMAT_VERSION,
                workload=Workload.INSTRUCTIONS,
                run_id=f"{experiment.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}",
                name=experiment.name,
                state=RunState.RUNNING,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                harness_version=__version__,
                counted_with=valgrind.version,
                builds={name: asdict(build) for name, build in provisioned.builds.items()},
            )
            store = CountDirectory.create(
                directory,
                record=head,
                experiment=declared.text,
                plan=count_plan_of(experiment, only),
                environment={
                    **environment(),
                    "harness": __version__,
                    "valgrind": valgrind.version,
                    **_tracer(experiment),
                },
            )
            return store, self._execute(store, experiment, provisioned.builds, valgrind)

    def resume(self, store: CountDirectory) -> Outcome:
        """Make the counts that are missing of a run.

        Raises:
            HarnessError: a build, or valgrind, is no longer what the run began with.
        """
        head, valgrind = store.record, Valgrind.find()
        experiment = load_experiment(store.experiment, f"{store.path}/experiment.yml")
        builds = {name: BuildRecord.read(build) for name, build in head.builds.items()}
        check_unchanged(builds)
        if valgrind.version != head.counted_with:
            raise HarnessError(
                f"the run was counted with {head.counted_with}, here is {valgrind.version}",
                remedy="start a new run: one run has one ruler",
            )
        with host_shared(self.patience):
            return self._execute(store, experiment, builds, valgrind)

    def _execute(
        self,
        store: CountDirectory,
        experiment: Experiment,
        builds: dict[str, BuildRecord],
        valgrind: Valgrind,
    ) -> Outcome:
        guard = DiskGuard(experiment, f"{store.path}/experiment.yml")
        guard.check()
        bench = CountBench(
            experiment=experiment,
            builds=builds,
            disks=prepare_disks(experiment, self.workspace.disks),
            store=store,
            valgrind=replace(valgrind, simulates=experiment.instructions.cycles),
            stop=self.stop,
            guard=guard,
        )
        sweep()
        with store.writing():
            for sentence in store.mend():
                self.say(sentence)
            return _Execution(store, bench, self.stop, self.emit).run()


def io_uring_users(experiment: Experiment) -> set[GuestConfig]:
    """Return the guest configurations whose disk QEMU reaches by io_uring."""
    configs = experiment.guest_configs()
    return {config for config in configs if experiment.with_guest(config).disk.uses_io_uring}


def check_io_uring(experiment: Experiment, valgrind: Valgrind) -> None:
    """Refuse what this valgrind would hang on.

    Raises:
        InputError: a disk uses io_uring, and valgrind is too old to know it.
    """
    if io_uring_users(experiment) and not valgrind.knows_io_uring:
        raise InputError.single(
            f"{experiment.name}: {'matrix' if experiment.matrix.given('aio') else 'disk'}.aio",
            f"io_uring cannot be counted by {valgrind.version}: a thread that waits in it stops all others",
            "put valgrind 3.24 or newer in PATH (Debian 13 has it), or write aio: native or threads",
        )


@dataclass(slots=True)
class _Execution:
    store: CountDirectory
    bench: CountBench
    stop: Stop
    emit: Callable[[CountProgress], None]
    failures: list[str] = field(default_factory=list)
    _failed: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> Outcome:
        began = time.monotonic()
        self.store.set_state(RunState.RUNNING, stopped=None, wall_seconds=0.0)
        outcome = Outcome(RunState.FAILED, "an unexpected error", self.failures)
        try:
            self._count_missing()
            if self.bench.experiment.instructions.load is CountLoad.TEST_COROUTINE and not self.store.times:
                self._time()
            outcome.state = RunState.FAILED if self.failures else RunState.FINISHED
            outcome.stopped = "counts failed" if self.failures else "the plan is done"
        except Interrupted:
            outcome.state, outcome.stopped = RunState.INTERRUPTED, "interrupted by the user"
        except HarnessError as error:
            outcome.stopped = error.message
            raise
        finally:
            self.store.set_state(
                outcome.state, stopped=outcome.stopped, wall_seconds=time.monotonic() - began
            )
        return outcome

    def _count_missing(self) -> None:
        counts = self.store.plan.counts
        missing = [planned for planned in counts if not self._is_there(planned)]
        done, total = len(counts) - len(missing), len(counts)
        self.emit(CountProgress(None, done, total))
        uses = io_uring_users(self.bench.experiment)
        # A thread that once kept io_uring from a process has none any more: each kind has threads of its own.
        for with_io_uring in (True, False):
            group = [planned for planned in missing if (planned.cell.guest in uses) == with_io_uring]
            for record in self._count_together(group):
                done += 1
                if record is not None:
                    self.emit(CountProgress(record, done, total))

    def _count_together(self, counts: Sequence[PlannedCount]) -> Iterator[CountRecord | None]:
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            futures = [pool.submit(self._one, planned) for planned in counts]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _time(self) -> None:
        """Time what was counted, one at a time and the variants in turn: a clock sees what else goes on."""
        plan = self.store.plan
        cells = list(dict.fromkeys(count.cell for count in plan.counts))
        pairs = [(cell, variant) for cell in cells for variant in plan.variants]
        pairs = [(cell, variant) for cell, variant in pairs if self._failed[variant] < MAX_FAILURES]
        found: dict[tuple[Cell, str], list[float]] = {pair: [] for pair in pairs}
        for _repeat in range(TIMED_REPEATS):
            for cell, variant in pairs:
                if self.stop.is_set():
                    raise Interrupted("interrupted")
                found[cell, variant].append(self.bench.time(variant, cell))
        self.store.save_times(
            TimeRecord(variant, cell.factors(), times) for (cell, variant), times in found.items()
        )

    def _is_there(self, planned: PlannedCount) -> bool:
        record = self.store.load(planned)
        return record is not None and record.state is IterationState.OK

    def _one(self, planned: PlannedCount) -> CountRecord | None:
        if self.stop.is_set():
            raise Interrupted("interrupted")
        with self._lock:
            if self._failed[planned.variant] >= MAX_FAILURES:
                return None
        record = self.bench.count(planned)
        if record.reason:
            reason = printable_lines(record.reason)
            with self._lock:
                self._failed[planned.variant] += 1
                self.failures.append(f"{planned.directory}, {planned.cell.label}: {reason}")
                if self._failed[planned.variant] == MAX_FAILURES:
                    self.failures.append(
                        f"{planned.variant}: its other counts were left out, after {MAX_FAILURES} failed"
                    )
        return record
