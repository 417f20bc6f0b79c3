"""From a run directory of counts to where its instructions went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.call_tree import call_graph, call_tree
from harness.analysis.explanation import Explanation, explain, spending
from harness.core.model import CountLoad
from harness.shell.counted import ends_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.analysis.call_tree import Call
    from harness.analysis.costs import CellCost, CostComparison
    from harness.shell.counted import Counted


def explain_counts(counted: Counted, comparison: CostComparison) -> str:
    """Return, for every cell and contender of a run of counts, where the difference is.

    Raises:
        InputError: the directory is damaged.
    """
    return "\n".join([comparison.ruler, "", *explanations(counted, comparison)])


def explanations(counted: Counted, comparison: CostComparison) -> list[str]:
    """Return where the difference is, a text for every cell and contender; its title comes first.

    Raises:
        InputError: the directory is damaged.
    """
    return [explain(found.explanation) for found in explained(counted, comparison)]


@dataclass(frozen=True, slots=True)
class Explained:
    """One cell of a contender, explained.

    Attributes:
        label: which cell, which variants.
        explanation: by function.
        tree: by call.
    """

    label: str
    explanation: Explanation
    tree: Call


def explained(counted: Counted, comparison: CostComparison) -> Iterator[Explained]:
    """Yield where the difference is, for every cell and contender that was counted.

    Raises:
        InputError: the directory is damaged.
    """
    for contender, cells in comparison.contenders.items():
        for cell in cells:
            if cell.reason != "not counted":
                yield _explained(counted, (comparison.baseline, contender), comparison.factors, cell)


def _explained(
    counted: Counted,
    names: tuple[str, str],
    factors: Sequence[str],
    cell: CellCost,
) -> Explained:
    baseline, contender = names
    builds = counted.run.record.builds
    label = ", ".join(
        [
            f"{contender} against {baseline}",
            *(f"{name} {value}" for name, value in zip(factors, cell.cell, strict=True)),
        ]
    )
    threads = sorted(cell.baseline.threads.keys() | cell.contender.threads.keys())
    old, new = (ends_of(counted, name, cell.cell) for name in names)
    explanation = Explanation(
        title=f"{label}: instructions a request, by function",
        baseline=spending(*old),
        contender=spending(*new),
        names=names,
        threads=[
            (name, cell.baseline.threads.get(name, 0.0), cell.contender.threads.get(name, 0.0))
            for name in threads
        ],
        debug_packages=[
            _debug_package(name, builds[name], counted.experiment.instructions.load) for name in names
        ],
    )
    return Explained(label, explanation, call_tree(call_graph(*old), call_graph(*new)))


def _debug_package(name: str, build: dict[str, object], load: CountLoad) -> str:
    if version := build.get("package_version"):
        package = "qemu-utils" if load is CountLoad.QEMU_IMG else "qemu-system-x86"
        return f"{name}: install {package}-dbgsym {version} (Fedora: debuginfo), or count a source build"
    return f"{name}: build it with debug information, and do not strip it"
