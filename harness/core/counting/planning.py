"""What an experiment counts: every cell on every variant, at a few numbers of requests, a few times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.core.model import FIO_FACTORS, Cell, Counter, GuestConfig, ReadWrite

if TYPE_CHECKING:
    from collections.abc import Sequence

_WARM_UP = 200
"""Requests that every count begins with at least: the first ones fill pools and caches of the allocator."""

_WARM_UP_MERGED, _WARM_UP_BATCHES = 640, 24
"""Where requests are merged, as sequential ones are, it takes longer until each batch costs the same."""


@dataclass(frozen=True, slots=True)
class PlannedCount:
    """One QEMU under callgrind or strace, from its start to its end.

    Attributes:
        number: counted from 0 over the whole plan.
        requests: how many it serves.
        repeat: which of the counts of so many requests, from 0.
        counter: what counts.
    """

    number: int
    variant: str
    cell: Cell
    requests: int
    repeat: int
    counter: Counter = Counter.CALLGRIND

    @property
    def directory(self) -> str:
        """The name of its directory in the run directory."""
        return f"{self.number:03d}-{self.variant}"


@dataclass(frozen=True, slots=True)
class CountPlan:
    """Everything that will be counted, in order."""

    variants: tuple[str, ...]
    counts: tuple[PlannedCount, ...]


def request_points(depth: int, requests: int, *, sequential: bool) -> tuple[int, int, int]:
    """Return three numbers of requests to count at, each whole batches of ``depth``.

    The first and the last are ``requests`` (rounded up to whole batches) apart; what their counts differ by
    is the cost of the requests alone. The middle one tells whether that cost grows in a straight line.

    Args:
        depth: requests a kick.
        requests: the difference wanted.
        sequential: whether the requests of a batch follow one another on the disk.
    """
    first = max(2, -(-_WARM_UP // depth))
    if sequential:
        first = max(_WARM_UP_BATCHES, -(-_WARM_UP_MERGED // depth))
    # An even number of batches, so that the middle one is the middle.
    span = 2 * max(1, -(-requests // (2 * depth)))
    return first * depth, (first + span // 2) * depth, (first + span) * depth


POOL_BURSTS = (3, 4, 5)
"""How many bursts the counts of coroutine-pool serve; the first ones fill the pools."""


def pool_points(depth: int) -> tuple[int, int, int]:
    """Return three numbers of requests to count at, as `request_points`, of bursts of ``depth`` requests."""
    few, middle, many = POOL_BURSTS
    return few * depth, middle * depth, many * depth


def make_pool_plan(*, variants: Sequence[str], cells: Sequence[Cell], repeats: int, calls: bool) -> CountPlan:
    """Return the plan of the load coroutine-pool: as `make_count_plan`, and the system calls at both ends.

    Args:
        variants: two or more names, the baseline first.
        cells: all cells in the matrix's order.
        repeats: how often both ends are counted.
        calls: whether system calls can be counted here.
    """
    plain = _plan(variants, [(cell, pool_points(cell.iodepth)) for cell in cells], repeats)
    if not calls:
        return plain
    traced = [
        replace(count, counter=Counter.STRACE)
        for count in plain.counts
        if count.requests != pool_points(count.cell.iodepth)[1]
    ]
    counts = (replace(count, number=number) for number, count in enumerate((*plain.counts, *traced)))
    return CountPlan(plain.variants, tuple(counts))


def make_count_plan(
    *, variants: Sequence[str], cells: Sequence[Cell], requests: int, repeats: int
) -> CountPlan:
    """Return the plan: for each cell, repeat by repeat, every variant at its fewest and its most requests.

    The middle number is counted once a variant. There is nothing to shuffle: counts do not drift.

    Args:
        variants: two or more names, the baseline first.
        cells: all cells in the matrix's order.
        requests: between the fewest and the most.
        repeats: how often both are counted.
    """
    points = [
        (
            cell,
            request_points(cell.iodepth, requests, sequential=cell.rw in {ReadWrite.READ, ReadWrite.WRITE}),
        )
        for cell in cells
    ]
    return _plan(variants, points, repeats)


def _plan(
    variants: Sequence[str], cells: Sequence[tuple[Cell, tuple[int, int, int]]], repeats: int
) -> CountPlan:
    wanted: list[tuple[Cell, str, int, int]] = []
    for cell, (few, middle, many) in cells:
        for repeat in range(repeats):
            points = (few, many) if repeat else (few, middle, many)
            wanted += [(cell, variant, point, repeat) for variant in variants for point in points]
    counts = (
        PlannedCount(number, variant, cell, point, repeat)
        for number, (cell, variant, point, repeat) in enumerate(wanted)
    )
    return CountPlan(tuple(variants), tuple(counts))


def count_plan_to_json(plan: CountPlan) -> dict[str, Any]:
    """Return the plan as JSON in the shape of every plan: each count is a session of one iteration."""
    return {
        "workload": "instructions",
        "seed": 0,
        "variants": list(plan.variants),
        "sessions": [
            {
                "number": count.number,
                "block": count.repeat,
                "variant": count.variant,
                "guest": dict(count.cell.guest),
                "iterations": [count.number],
            }
            for count in plan.counts
        ],
        "iterations": [
            {
                "number": count.number,
                "session": count.number,
                "repeat": count.repeat,
                "requests": count.requests,
                **({} if count.counter is Counter.CALLGRIND else {"counter": count.counter}),
                **count.cell.factors(),
            }
            for count in plan.counts
        ],
    }


def count_plan_from_json(data: dict[str, Any]) -> CountPlan:
    """Return the plan that ``count_plan_to_json`` wrote.

    Raises:
        ValueError: the data is no such plan.
    """
    try:
        sessions = {entry["number"]: entry for entry in data["sessions"]}
        counts = tuple(_count(entry, sessions[entry["session"]]) for entry in data["iterations"])
        return CountPlan(tuple(data["variants"]), counts)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a plan of counts: {error!r}") from error


def _count(entry: dict[str, Any], session: dict[str, Any]) -> PlannedCount:
    guest: GuestConfig = tuple(session["guest"].items())
    cell = Cell(**{name: entry[name] for name in FIO_FACTORS}, guest=guest)
    counter = Counter(entry.get("counter", Counter.CALLGRIND))
    return PlannedCount(
        entry["number"], session["variant"], cell, entry["requests"], entry["repeat"], counter
    )
