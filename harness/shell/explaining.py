"""From a run directory of counts to where its instructions went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.guestless.store import CountDirectory
from harness.analysis.explanation import Explanation, Spending, explain, spending
from harness.core.experiment import load_experiment
from harness.core.model import Counter, CountLoad
from harness.core.records import IterationState
from harness.shell.costing import compare_counts, key_of

if TYPE_CHECKING:
    from pathlib import Path

    from harness.analysis.costs import CellCost, CellKey, CostComparison
    from harness.core.counting.callgrind import Profile
    from harness.core.counting.planning import PlannedCount
    from harness.core.experiment import Experiment
    from harness.shell.roles import Roles


def explain_counts(path: Path, *, margin: float | None = None, roles: Roles | None = None) -> str:
    """Return, for every cell and contender of a run of counts, where the difference is.

    Raises:
        InputError: the directory is damaged, or holds nothing to compare yet.
    """
    comparison = compare_counts(path, margin=margin, roles=roles)
    return "\n".join([comparison.ruler, "", *explanations(path, comparison)])


def explanations(path: Path, comparison: CostComparison) -> list[str]:
    """Return where the difference is, a text for every cell and contender; its title comes first.

    Raises:
        InputError: the directory is damaged.
    """
    run = CountDirectory.open(path)
    experiment = load_experiment(run.experiment, f"{path}/experiment.yml")
    return [
        explain(_explanation(run, experiment, comparison, contender, cell))
        for contender, cells in comparison.contenders.items()
        for cell in cells
        if cell.reason != "not counted"
    ]


def _explanation(
    run: CountDirectory, experiment: Experiment, comparison: CostComparison, contender: str, cell: CellCost
) -> Explanation:
    label = ", ".join(f"{name} {value}" for name, value in zip(comparison.factors, cell.cell, strict=True))
    names = comparison.baseline, contender
    threads = sorted(cell.baseline.threads.keys() | cell.contender.threads.keys())
    return Explanation(
        title=f"{contender} against {comparison.baseline}, {label}: instructions a request, by function",
        baseline=_spending(run, experiment, names[0], cell.cell),
        contender=_spending(run, experiment, names[1], cell.cell),
        names=names,
        threads=[
            (name, cell.baseline.threads.get(name, 0.0), cell.contender.threads.get(name, 0.0))
            for name in threads
        ],
        debug_packages=[
            _debug_package(name, run.record.builds[name], experiment.instructions.load) for name in names
        ],
    )


def _debug_package(name: str, build: dict[str, object], load: CountLoad) -> str:
    if version := build.get("package_version"):
        package = "qemu-utils" if load is CountLoad.QEMU_IMG else "qemu-system-x86"
        return f"{name}: install {package}-dbgsym {version} (Fedora: debuginfo), or count a source build"
    return f"{name}: build it with debug information, and do not strip it"


def _spending(run: CountDirectory, experiment: Experiment, variant: str, key: CellKey) -> Spending:
    """Return where a variant's instructions went, from its first repeat of both ends."""
    found: dict[int, PlannedCount] = {}
    for planned in run.plan.counts:
        if planned.variant != variant or key_of(planned.cell, experiment) != key:
            continue
        if planned.counter is not Counter.CALLGRIND:
            continue
        record = run.load(planned)
        if record is not None and record.state is IterationState.OK:
            found.setdefault(planned.requests, planned)
    few, many = min(found), max(found)
    return spending(_profiles(run, found[few]), _profiles(run, found[many]), many - few)


def _profiles(run: CountDirectory, planned: PlannedCount) -> list[Profile]:
    record = run.load(planned)
    threads = [thread for thread in record.threads if thread.counted] if record else []
    return [run.profile_of(planned, thread) for thread in threads]
