"""What to expect of a plan before anyone waits for it: wall time, and the smallest change it can find."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.adapters.experience import Experience, recall
from harness.adapters.host.accel import remembered
from harness.analysis.statistics import blocks_needed, expected_mde
from harness.core.budget import choose
from harness.core.errors import InputError
from harness.core.model import FIRST_LOOK, Accel, Workload
from harness.core.planning import Costs
from harness.core.units import format_duration

if TYPE_CHECKING:
    from harness.adapters.workspace import Workspace
    from harness.core.budget import Choice
    from harness.core.experiment import Experiment
    from harness.core.planning import Plan


_ROUND_COSTS = Costs(session=20.0, iteration=4.0)
"""Of pool-growth under TCG on 2 cores: its guest has a dozen disks, and a round two fio runs."""


_GUESTLESS_COSTS = Costs(session=2.0, iteration=0.2)
"""Of pool-growth without a guest, on the same machine."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a plan will cost and tell.

    Attributes:
        wall_seconds: booting included.
        fio_seconds: ramp and runtime of all iterations.
        mde: the smallest change found with 80 % power, a fraction; None when there are too few blocks.
        needed: blocks below which nothing can be called.
        until: the half-width at which the run may stop before the plan's end, a fraction; None without one.
        session_sd: what it was computed with.
        accel: the accelerator it was computed for.
        measured: whether costs and noise were measured on this host, or are a guess.
        rounds: rounds a session (pool-growth), where nothing is judged by intervals; 0 elsewhere.
    """

    wall_seconds: float
    fio_seconds: float
    mde: float | None
    needed: int
    until: float | None
    session_sd: float
    accel: Accel
    measured: bool
    rounds: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as ``harness plan --json`` has it."""
        return {
            "wall_seconds": round(self.wall_seconds, 1),
            "fio_seconds": round(self.fio_seconds, 1),
            "mde": self.mde,
            "session_sd": self.session_sd,
            "accel": self.accel.value,
            "measured": self.measured,
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        too_few = f"nothing: too few blocks, {self.needed} are needed"
        mde = too_few if self.mde is None else f"changes of {self.mde:.1%} and more"
        source = "as measured on this host" if self.measured else "a guess: no run on this host yet"
        cost = (
            f"Expected under {self.accel.value.upper()}: {format_duration(self.wall_seconds)} of wall time, "
            f"{format_duration(self.fio_seconds)} of it fio ({source})."
        )
        if self.rounds:
            return [
                cost,
                f"Up to {self.rounds} rounds a session tell whether the pool grows; no p, no interval.",
            ]
        power = f"It should find {mde} (80 % power, if sessions differ by {self.session_sd:.1%})."
        if self.until is None:
            return [cost, power]
        rule = (
            f"It ends before, from {FIRST_LOOK} blocks on, once every interval is within +-{self.until:.2%}."
        )
        return [cost, power, rule]


def expect(experiment: Experiment, plan: Plan, workspace: Workspace) -> Expectation:
    """Return what to expect of a plan on this host; a host never asked about KVM counts as TCG."""
    accel, known = _experience(experiment, workspace)
    rounds = experiment.pool.planned_rounds if experiment.workload is Workload.POOL_GROWTH else 0
    if rounds:
        costs = _GUESTLESS_COSTS if experiment.pool.guestless else _ROUND_COSTS
        known = replace(known, costs=costs, measured=False)
    protocol = experiment.protocol
    sd = known.noise.of_session(runtime=protocol.runtime, repeats=protocol.iterations)
    mde = expected_mde(blocks=plan.blocks, cells=len(experiment.cells()), session_sd=sd, alpha=protocol.alpha)
    return Expectation(
        wall_seconds=plan.wall_seconds(known.costs),
        fio_seconds=plan.fio_seconds,
        mde=mde if math.isfinite(mde) and not rounds else None,
        needed=blocks_needed(len(experiment.cells()), protocol.alpha),
        until=protocol.until,
        session_sd=sd,
        accel=accel,
        measured=known.measured,
        rounds=rounds,
    )


def within_budget(experiment: Experiment, budget: float, workspace: Workspace) -> Choice:
    """Return the protocol with the narrowest expected interval within a wall time.

    Raises:
        InputError: not even the fewest blocks that can give a verdict fit.
    """
    if experiment.workload is Workload.POOL_GROWTH:
        raise InputError.single(
            "--budget", "means nothing to pool-growth, whose rounds are counted", "set pool.rounds instead"
        )
    _accel, known = _experience(experiment, workspace)
    cells = experiment.cells()
    fewest = blocks_needed(len(cells), experiment.protocol.alpha)
    choice = choose(
        budget=budget,
        variants=len(experiment.variants),
        guests=len(experiment.guest_configs()),
        cells=len(cells),
        ramp=experiment.protocol.ramp,
        costs=known.costs,
        noise=known.noise,
        min_blocks=fewest,
    )
    if choice is None:
        raise InputError.single(
            "--budget",
            f"{format_duration(budget)} is too short for the {fewest} blocks that {len(cells)} cells need",
            "give more time, or make the matrix smaller",
        )
    return choice


def _experience(experiment: Experiment, workspace: Workspace) -> tuple[Accel, Experience]:
    accel = experiment.accel
    if accel is Accel.AUTO:
        decision = remembered(workspace.accel_cache)
        accel = decision.accel if decision else Accel.TCG
    disk_image = experiment.guest.disk_image is not None
    return accel, recall(workspace.experience, accel, disk_image=disk_image)
