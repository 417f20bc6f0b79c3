"""The plan: the seeded, ordered list of blocks, sessions and iterations, fixed before anything runs.

The order follows the protocol of docs/statistics.md: a block holds one session of each variant; two
blocks form a pair whose second half mirrors the first (``O N N O`` or ``N O O N`` by a seeded coin), so
that slow drift cancels; all variants of a block visit the cells in the same order, and that order rotates
from block to block.
"""

from __future__ import annotations

import operator
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from harness.core.model import FIO_FACTORS, Cell, GuestConfig
from harness.core.plan_document import read_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.plan_document import IterationEntry, SessionEntry

T = TypeVar("T")
_FIO_FACTORS = operator.itemgetter(*FIO_FACTORS)


@dataclass(frozen=True, slots=True)
class Costs:
    """What time is spent on beside fio, in seconds.

    Attributes:
        session: from one session's last iteration to the next one's first: destroy, create, boot, agent.
        iteration: beyond ramp and runtime: fio's own start, the agent's answer.
    """

    session: float
    iteration: float


TCG_COSTS = Costs(session=8.0, iteration=1.0)
KVM_COSTS = Costs(session=4.0, iteration=0.4)
DISK_IMAGE_TCG_COSTS = Costs(session=60.0, iteration=2.0)
DISK_IMAGE_KVM_COSTS = Costs(session=25.0, iteration=0.5)


@dataclass(frozen=True, slots=True)
class PlannedIteration:
    """One fio invocation.

    Attributes:
        number: counted from 0 over the whole plan.
        repeat: which pass over the cells of its session, from 0.
    """

    number: int
    cell: Cell
    repeat: int


@dataclass(frozen=True, slots=True)
class PlannedSession:
    """One boot of one guest on one variant.

    Attributes:
        number: counted from 0 over the whole plan.
        block: the block it belongs to, from 0.
        guest: the guest factors it is booted with.
    """

    number: int
    block: int
    variant: str
    guest: GuestConfig
    iterations: tuple[PlannedIteration, ...]

    @property
    def directory(self) -> str:
        """The name of its directory in the run directory."""
        return f"{self.number:03d}-{self.variant}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will run, in order.

    Attributes:
        runtime: measured seconds an iteration.
        ramp: seconds before measuring starts, an iteration.
    """

    seed: int
    variants: tuple[str, ...]
    runtime: float
    ramp: float
    sessions: tuple[PlannedSession, ...]

    @property
    def blocks(self) -> int:
        """How many blocks the plan has."""
        return 1 + max((session.block for session in self.sessions), default=-1)

    @property
    def iteration_count(self) -> int:
        """How many iterations the plan has."""
        return sum(len(session.iterations) for session in self.sessions)

    @property
    def fio_seconds(self) -> float:
        """The fio time asked for: ramp and runtime of every iteration."""
        return self.iteration_count * (self.runtime + self.ramp)

    def wall_seconds(self, costs: Costs) -> float:
        """Return the expected wall time of the whole plan."""
        return self.fio_seconds + self.iteration_count * costs.iteration + len(self.sessions) * costs.session


def make_plan(
    *,
    variants: Sequence[str],
    cells: Sequence[Cell],
    guests: Sequence[GuestConfig],
    blocks: int,
    repeats: int,
    runtime: float,
    ramp: float,
    seed: int,
) -> Plan:
    """Return the plan of an experiment; the same arguments give the same plan, always.

    Args:
        variants: two or more names, the baseline first.
        cells: all cells in the matrix's order; each names its guest configuration in ``guest``.
        guests: the guest configurations; ``((),)`` when no guest factor varies.
        blocks: how many blocks.
        repeats: passes over the cells within a session (m in docs/statistics.md).
        runtime: measured seconds an iteration.
        ramp: seconds before measuring starts.
        seed: of the order.
    """
    sessions: list[PlannedSession] = []
    iterations = 0
    orders = _variant_orders(variants, guests, blocks, seed)
    for block in range(blocks):
        for guest in _rotated(guests, block):
            in_guest = _rotated([cell for cell in cells if cell.guest == guest], block)
            for variant in orders[block][guest]:
                planned = tuple(
                    PlannedIteration(iterations + index, cell, repeat)
                    for index, (repeat, cell) in enumerate(
                        (repeat, cell) for repeat in range(repeats) for cell in in_guest
                    )
                )
                iterations += len(planned)
                sessions.append(PlannedSession(len(sessions), block, variant, guest, planned))
    return Plan(seed, tuple(variants), runtime, ramp, tuple(sessions))


def _variant_orders(
    variants: Sequence[str], guests: Sequence[GuestConfig], blocks: int, seed: int
) -> list[dict[GuestConfig, tuple[str, ...]]]:
    """Return each block's order of variants; odd blocks mirror the even block before them."""
    coin = random.Random(seed)  # noqa: S311 - reproducible on purpose, no secret
    orders: list[dict[GuestConfig, tuple[str, ...]]] = []
    for block in range(blocks):
        if block % 2:
            orders.append({guest: order[::-1] for guest, order in orders[-1].items()})
        else:
            # Only random() is promised to stay the same between Python versions; shuffle() is not.
            orders.append({guest: tuple(sorted(variants, key=lambda _: coin.random())) for guest in guests})
    return orders


def _rotated(items: Sequence[T], by: int) -> list[T]:
    start = by % len(items) if items else 0
    return [*items[start:], *items[:start]]


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON: ``seed``, ``sessions`` and ``iterations``, the lists in order."""
    return {
        "seed": plan.seed,
        "variants": list(plan.variants),
        "runtime": plan.runtime,
        "ramp": plan.ramp,
        "sessions": [
            {
                "number": session.number,
                "block": session.block,
                "variant": session.variant,
                "guest": dict(session.guest),
                "iterations": [iteration.number for iteration in session.iterations],
            }
            for session in plan.sessions
        ],
        "iterations": [
            {
                "number": iteration.number,
                "session": session.number,
                "repeat": iteration.repeat,
                **iteration.cell.factors(),
            }
            for session in plan.sessions
            for iteration in session.iterations
        ],
    }


def plan_from_json(data: Any) -> Plan:
    """Return the plan that ``plan_to_json`` wrote.

    Raises:
        ValueError: the data is no such plan.
    """
    plan = read_plan(data)
    entries = {entry["number"]: entry for entry in plan["iterations"]}
    cells: dict[object, Cell] = {}
    sessions = tuple(_session(entry, entries, cells) for entry in plan["sessions"])
    return Plan(plan["seed"], tuple(plan["variants"]), plan["runtime"], plan["ramp"], sessions)


def _session(
    entry: SessionEntry, iterations: dict[int, IterationEntry], cells: dict[object, Cell]
) -> PlannedSession:
    guest: GuestConfig = tuple(entry["guest"].items())
    return PlannedSession(
        number=entry["number"],
        block=entry["block"],
        variant=entry["variant"],
        guest=guest,
        iterations=tuple(_iteration(iterations[number], guest, cells) for number in entry["iterations"]),
    )


def planned_cell(entry: IterationEntry, guest: GuestConfig) -> Cell:
    """Return the cell of an entry of a plan."""
    return Cell(
        rw=entry["rw"],
        bs=entry["bs"],
        iodepth=entry["iodepth"],
        numjobs=entry["numjobs"],
        ioengine=entry["ioengine"],
        guest=guest,
    )


def _iteration(entry: IterationEntry, guest: GuestConfig, cells: dict[object, Cell]) -> PlannedIteration:
    # A plan has thousands of iterations of a few cells: each cell is made once.
    which = _FIO_FACTORS(entry), guest
    cell = cells.get(which)
    if cell is None:
        cell = cells[which] = planned_cell(entry, guest)
    return PlannedIteration(entry["number"], cell, entry["repeat"])
