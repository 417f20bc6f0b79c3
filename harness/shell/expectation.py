"""What to expect of a plan before anyone waits for it: wall time, and the smallest change it can find."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.adapters.accel import remembered
from harness.analysis.statistics import expected_mde
from harness.core.model import Accel
from harness.core.planning import KVM_COSTS, TCG_COSTS
from harness.core.units import format_duration

if TYPE_CHECKING:
    from harness.adapters.workspace import Workspace
    from harness.core.experiment import Experiment
    from harness.core.planning import Plan

SESSION_SD = {Accel.KVM: 0.012, Accel.TCG: 0.20}
"""Boot-to-boot standard deviation of a cell: of a quiet KVM host (docs/statistics.md), and of a shared
machine under TCG, where the same build differed from itself by 19 to 23 %."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a plan will cost and tell.

    Attributes:
        wall_seconds: booting included.
        fio_seconds: ramp and runtime of all iterations.
        mde: the smallest change found with 80 % power, a fraction; None when no number of this size tells.
        session_sd: what it was computed with.
        accel: the accelerator it was computed for.
    """

    wall_seconds: float
    fio_seconds: float
    mde: float | None
    session_sd: float
    accel: Accel

    def to_json(self) -> dict[str, Any]:
        """Return it as ``harness plan --json`` has it."""
        return {
            "wall_seconds": round(self.wall_seconds, 1),
            "fio_seconds": round(self.fio_seconds, 1),
            "mde": self.mde,
            "session_sd": self.session_sd,
            "accel": self.accel.value,
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        mde = "nothing: too few blocks" if self.mde is None else f"changes of {self.mde:.1%} and more"
        cost = (
            f"Expected under {self.accel.value.upper()}: {format_duration(self.wall_seconds)} of wall time, "
            f"{format_duration(self.fio_seconds)} of it fio."
        )
        return [cost, f"It should find {mde} (80 % power, if sessions differ by {self.session_sd:.1%})."]


def expect(experiment: Experiment, plan: Plan, workspace: Workspace) -> Expectation:
    """Return what to expect of a plan on this host; a host never asked about KVM counts as TCG."""
    accel = experiment.accel
    if accel is Accel.AUTO:
        decision = remembered(workspace.accel_cache)
        accel = decision.accel if decision else Accel.TCG
    sd = SESSION_SD[accel]
    mde = expected_mde(
        blocks=plan.blocks,
        cells=len(experiment.cells()),
        session_sd=sd,
        alpha=experiment.protocol.alpha,
    )
    return Expectation(
        wall_seconds=plan.wall_seconds(KVM_COSTS if accel is Accel.KVM else TCG_COSTS),
        fio_seconds=plan.fio_seconds,
        mde=mde if math.isfinite(mde) else None,
        session_sd=sd,
        accel=accel,
    )
