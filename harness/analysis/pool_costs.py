"""What the coroutine pool's misses cost a request: coroutines made, instructions, system calls."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.analysis.costs import CellKey
    from harness.core.counting.callgrind import Profile

MISSES, INSTRUCTIONS, CALLS = "misses", "instructions", "calls"
_MAKE, _FREE = "qemu_coroutine_new", "qemu_coroutine_delete"
_STACK = "qemu_alloc_stack"
"""Called once for each coroutine that is made. Not so `_MAKE`, as callgrind sees it: a new coroutine jumps
back into it from its own stack, which counts as another call, of what is left to do there."""


@dataclass(frozen=True, slots=True)
class PoolCount:
    """One count of a cell.

    Attributes:
        requests: how many were served.
        numbers: of all of them, by `MISSES`, `INSTRUCTIONS`, `CALLS`; what was not counted is not there.
    """

    variant: str
    cell: CellKey
    requests: int
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PoolCost:
    """What misses cost one variant in one cell, a request; NaN is what could not be counted.

    Attributes:
        misses: coroutines that had to be made, because the pool had none.
        instructions: for making coroutines and freeing them, with their stacks.
        calls: of mmap, mprotect and munmap, of the whole process.
    """

    misses: float = math.nan
    instructions: float = math.nan
    calls: float = math.nan


def numbers_of(profiles: Iterable[Profile]) -> dict[str, int]:
    """Return what the threads spent on making and freeing coroutines; nothing where no symbol tells.

    Every count begins with bursts that fill an empty pool: a build that names the function has called it.
    """
    made = spent = 0
    for profile in profiles:
        for (_caller, callee), cost in profile.calls.items():
            spent += cost if callee.name in {_MAKE, _FREE} else 0
        made += sum(times for (_, callee), times in profile.times.items() if callee.name == _STACK)
    return {MISSES: made, INSTRUCTIONS: spent} if made else {}


def pool_costs(counts: Iterable[PoolCount]) -> dict[tuple[str, CellKey], PoolCost]:
    """Return what misses cost each variant in each cell.

    The median of the counts of the most requests, less that of the fewest, is what those between them cost.
    """
    points: dict[tuple[str, CellKey, str], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for count in counts:
        for name, number in count.numbers.items():
            points[count.variant, count.cell, name][count.requests].append(number)
    found: dict[tuple[str, CellKey], dict[str, float]] = defaultdict(dict)
    for (variant, cell, name), at in points.items():
        found[variant, cell][name] = _per_request(at)
    return {key: PoolCost(**numbers) for key, numbers in found.items()}


def _per_request(points: Mapping[int, Sequence[int]]) -> float:
    few, many = min(points), max(points)
    if few == many:
        return math.nan
    # A process may map and unmap a little of its own at any time: less than nothing is nothing.
    return max(0.0, (median(points[many]) - median(points[few])) / (many - few))
