"""What a run directory of counts holds: costs a request, profiles, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from harness.adapters.guestless.store import CountDirectory
from harness.adapters.results.run_layout import PLAN
from harness.analysis.costs import CellKey, Cost, Count, costs_of
from harness.core.errors import InputError
from harness.core.experiment import Experiment, load_experiment
from harness.core.model import Counter, CountLoad
from harness.core.records import IterationState
from harness.shell.results import check_builds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.core.counting.callgrind import Profile
    from harness.core.counting.planning import PlannedCount
    from harness.core.counting.records import CountRecord
    from harness.core.model import Cell

_WHERE = {
    CountLoad.VIRTIO_BLK: "the thread that serves the disk, for requests of a driver that is no guest",
    CountLoad.QEMU_IMG: "`qemu-img bench`, all threads",
    CountLoad.COROUTINE_POOL: "the thread that serves the bursts, for requests of a driver that is no guest",
    CountLoad.TEST_COROUTINE: "QEMU's test-coroutine, a request being an iteration of the benchmark",
}
_TIME = {False: "no time was measured", True: "time stands beside it, and is not judged"}


@dataclass(frozen=True, slots=True)
class Accepted:
    """A count that took place.

    Attributes:
        planned: which one.
        key: its cell, in the order of the table's columns.
        record: what is kept of it.
    """

    planned: PlannedCount
    key: CellKey
    record: CountRecord


@dataclass(frozen=True, slots=True)
class Counted:
    """What a run of counts gave.

    Attributes:
        accepted: what took place, in the plan's order.
        counts: what callgrind counted of it.
        costs: a request's, by variant and cell.
        warnings: a sentence for each count that failed.
    """

    run: CountDirectory
    experiment: Experiment
    accepted: Sequence[Accepted]
    counts: Sequence[Count]
    costs: Mapping[tuple[str, CellKey], Cost]
    warnings: Sequence[str]

    @property
    def usable(self) -> set[str]:
        """The variants that were counted at all."""
        return {variant for (variant, _cell), cost in self.costs.items() if cost.repeats}

    @property
    def keys(self) -> list[CellKey]:
        """The cells, in the experiment's order."""
        return [key_of(cell, self.experiment) for cell in self.experiment.cells()]

    @property
    def ruler(self) -> str:
        """What was counted, of what, in a sentence."""
        return (
            f"Ruler: instructions in user mode, counted by callgrind ({self.run.record.counted_with}), of "
            f"{_WHERE[self.experiment.instructions.load]}; {_TIME[bool(self.run.times)]}."
        )

    def require(self, baseline: str, contenders: Sequence[str]) -> None:
        """Refuse to compare what was not counted.

        Raises:
            InputError: says what was.
        """
        if baseline in self.usable and contenders:
            return
        known = ", ".join(sorted(self.usable)) or "no variant"
        raise InputError.single(
            str(self.run.path),
            f"counts of {known} are there so far: nothing to compare",
            f"harness run --resume {self.run.path}",
        )

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return a warning for each of these variants that was not counted."""
        return [f"{name} was not counted" for name in names if name not in self.usable]


def read_counted(path: Path) -> Counted:
    """Return what a run of counts gave.

    Raises:
        InputError: the directory is damaged.
    """
    run = CountDirectory.open(path)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    plan = run.plan
    # A bisection counts one of the experiment's builds.
    check_builds(path / PLAN, plan.variants, run.record.builds)
    accepted: list[Accepted] = []
    warnings: list[str] = []
    for planned in plan.counts:
        record = run.load(planned)
        if record is not None and record.state is IterationState.OK:
            accepted.append(Accepted(planned, key_of(planned.cell, experiment), record))
        elif record is not None:
            warnings.append(f"count {planned.directory}, {planned.cell.label}: {record.reason}")
    counts = [_count(run, one) for one in accepted if one.planned.counter is Counter.CALLGRIND]
    counted = Counted(run, experiment, accepted, counts, costs_of(counts), warnings)
    return replace(counted, costs=_with_estimates(counted))


def _count(run: CountDirectory, one: Accepted) -> Count:
    counted, threads = 0, dict[str, int]()
    for thread in one.record.threads:
        total = run.total_of(one.planned, thread)
        threads[thread.name] = threads.get(thread.name, 0) + total
        counted += total if thread.counted else 0
    planned = one.planned
    return Count(planned.variant, one.key, planned.requests, planned.repeat, counted, threads)


def _with_estimates(counted: Counted) -> dict[tuple[str, CellKey], Cost]:
    """Return costs with what stands beside instructions: cycles, where asked for, and times, where taken."""
    experiment = counted.experiment
    times = {
        (
            record.variant,
            tuple(record.factors[name] for name in experiment.varied_factors()),
        ): record.nanoseconds
        for record in counted.run.times
    }
    found = {}
    for key, cost in counted.costs.items():
        full = cost
        if experiment.instructions.cycles and cost.repeats:
            full = replace(full, cycles=_cycles(counted, *key))
        if taken := times.get(key):
            full = replace(full, time_ns=median(taken), time_spread=(max(taken) - min(taken)) / median(taken))
        found[key] = full
    return found


def _cycles(counted: Counted, variant: str, key: CellKey) -> float:
    few, many, apart = ends_of(counted, variant, key)
    low, high = (sum(profile.cycles() for profile in profiles) for profiles in (few, many))
    return (high - low) / apart


def ends_of(counted: Counted, variant: str, key: CellKey) -> tuple[list[Profile], list[Profile], int]:
    """Return a variant's profiles of the fewest and the most requests, and how many those are apart.

    The first repeat is enough: what repeats differ by is seen in the resolution.

    Raises:
        InputError: a file is missing, or is not what callgrind wrote.
    """
    found: dict[int, Accepted] = {}
    for one in counted.accepted:
        planned = one.planned
        if (planned.variant, one.key, planned.counter) == (variant, key, Counter.CALLGRIND):
            found.setdefault(planned.requests, one)
    few, many = min(found), max(found)
    return profiles_of(counted.run, found[few]), profiles_of(counted.run, found[many]), many - few


def profiles_of(run: CountDirectory, one: Accepted) -> list[Profile]:
    """Return what the threads that serve requests executed in one count.

    Raises:
        InputError: a file is missing, or is not what callgrind wrote.
    """
    return [run.profile_of(one.planned, thread) for thread in one.record.threads if thread.counted]


def key_of(cell: Cell, experiment: Experiment) -> CellKey:
    """Return a cell's factors in the order of the table's columns."""
    factors = cell.factors()
    return tuple(factors[name] for name in experiment.varied_factors())
